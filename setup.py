"""Installs camws_bridge as an ament_python package; pip alone can install it too."""
from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

package_name = 'camws_bridge'
here = Path(__file__).resolve().parent


def files_below(folder: str) -> list[tuple[str, list[str]]]:
    """Return what data_files needs to install ``folder`` with its sub-folders under share/."""
    found: dict[str, list[str]] = {}
    for path in sorted((here / folder).rglob('*')):
        if path.is_file():
            relative = path.relative_to(here)
            found.setdefault(f'share/{package_name}/{relative.parent}', []).append(str(relative))
    return sorted(found.items())


setup(
    name=package_name,
    version='0.1.0',
    packages=find_packages(include=[package_name, f'{package_name}.*']),
    # The dashboard. It has no __init__.py: it is data of the package camws_bridge.api.
    package_data={f'{package_name}.api': ['static/*', 'static/**/*']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{package_name}']),
        (f'share/{package_name}', ['package.xml']),
        *files_below('launch'),
        *files_below('config'),
    ],
    python_requires='>=3.10',
    # What runs it comes from ROS (package.xml) or from requirements/, never from here:
    # pip must not put a second numpy or OpenCV beside the ones that ROS was built with.
    install_requires=['setuptools'],
    # colcon test looks for tests only when it sees this.
    extras_require={'test': ['pytest']},
    zip_safe=False,
    author='The camws_bridge developers',
    maintainer='The camws_bridge developers',
    maintainer_email='camws_bridge@users.noreply.github.com',
    description='Camera images and marker poses from ROS 2 to web clients over WebSockets',
    license='Apache-2.0',
    entry_points={
        'console_scripts': [
            'camws_bridge = camws_bridge.main:main',
            'camws_demo_camera = camws_bridge.demo.demo_camera:main',
        ],
    },
)
