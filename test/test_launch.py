"""The launch files: what can be checked without launch, and a real start where it is installed."""
from __future__ import annotations

import ast
from collections.abc import Iterator
import importlib.util
import os
from pathlib import Path
import re
import signal
import stat
import sys
import time
import xml.etree.ElementTree as ElementTree

from processes import CAMERA_TOPICS, http_get, Process, ROOT
import pytest

from camws_bridge.settings import PARAMETERS

FILES = sorted((ROOT / 'launch').glob('*.launch.xml'))
# Names of the ROS side stand in these as plain strings.
SOURCES = {'camws_bridge': sorted((ROOT / 'camws_bridge/ros').glob('*.py')),
           'camws_demo_camera': sorted((ROOT / 'camws_bridge/demo').glob('*.py'))}
PACKAGE_FILE = re.compile(r'\$\(find-pkg-share camws_bridge\)/([^\s)"]+)')


@pytest.fixture(params=FILES, ids=[path.name for path in FILES])
def tree(request: pytest.FixtureRequest) -> ElementTree.Element:
    return ElementTree.parse(request.param).getroot()


def values(tree: ElementTree.Element) -> Iterator[str]:
    """Yield every attribute of every element."""
    for element in tree.iter():
        yield from element.attrib.values()


def strings(executable: str) -> set[str]:
    """Return the string constants in the modules behind an executable."""
    return {node.value for path in SOURCES[executable]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def executables() -> dict[str, str]:
    text = (ROOT / 'setup.py').read_text()
    return dict(re.findall(r"'(\w+) = ([\w.]+):main'", text))


def test_there_are_launch_files() -> None:
    assert {path.name for path in FILES} >= {'camws_bridge.launch.xml', 'demo.launch.xml'}
    assert set(executables()) == set(SOURCES)


def test_arguments_are_described_and_used_and_none_is_missing(tree: ElementTree.Element) -> None:
    arguments = {element.attrib['name'] for element in tree.iter('arg')}
    used = {name for value in values(tree) for name in re.findall(r'\$\(var (\w+)\)', value)}
    assert used == arguments
    for element in tree.iter('arg'):
        assert element.attrib['description'] and 'default' in element.attrib


def test_parameters_exist(tree: ElementTree.Element) -> None:
    for element in tree.iter('set_parameter'):
        assert element.attrib['name'] in PARAMETERS
    for node in tree.iter('node'):
        for element in node.iter('param'):
            name = element.attrib.get('name')
            if node.attrib['exec'] == 'camws_bridge':
                assert name is None or name in PARAMETERS
            else:
                assert name is None or name in strings(node.attrib['exec'])


def test_files_exist_and_are_installed(tree: ElementTree.Element) -> None:
    found = {name for value in values(tree) for name in PACKAGE_FILE.findall(value)}
    assert found
    for name in found:
        assert (ROOT / name).is_file(), name
        assert name.partition('/')[0] in ('config', 'launch')      # setup.py's files_below


def test_nodes_are_ours_and_remap_what_they_have(tree: ElementTree.Element) -> None:
    nodes = list(tree.iter('node'))
    assert nodes
    for node in nodes:
        assert node.attrib['pkg'] == 'camws_bridge'
        assert node.attrib['exec'] in executables()
        known = strings(node.attrib['exec'])
        for element in node.iter('remap'):
            assert element.attrib['from'] in known, element.attrib


def test_the_demos_topics_are_those_of_the_tests() -> None:
    tree = ElementTree.parse(ROOT / 'launch/demo.launch.xml').getroot()
    node, = (node for node in tree.iter('node') if node.attrib['exec'] == 'camws_bridge')
    remaps = [word for element in node.iter('remap')
              for word in ('-r', f'{element.attrib["from"]}:={element.attrib["to"]}')]
    assert remaps == list(CAMERA_TOPICS)


def test_the_arguments_people_set_are_there() -> None:
    tree = ElementTree.parse(ROOT / 'launch/camws_bridge.launch.xml').getroot()
    assert {element.attrib['name'] for element in tree.iter('arg')} >= {
        'image', 'camera_info', 'host', 'port', 'board_file', 'board_name', 'tokens_file',
        'tls_certfile', 'tls_keyfile', 'autostart', 'params_file', 'namespace'}


# -- with launch ------------------------------------------------------------------------------



def is_installed(name: str) -> bool:
    # The folder launch/ of this project is found as a package, too: one without a file.
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


MISSING = [name for name in ('launch', 'launch_ros', 'launch_xml', 'rclpy')
           if not is_installed(name)]
needs_launch = pytest.mark.skipif(
    bool(MISSING), reason=f'{", ".join(MISSING)} cannot be imported (no ROS 2 is sourced)')

LAUNCH = '''
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource

arguments = [tuple(word.split(':=', 1)) for word in sys.argv[2:]]
service = LaunchService(argv=sys.argv[2:])
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(
    AnyLaunchDescriptionSource(sys.argv[1]), launch_arguments=arguments)]))
sys.exit(service.run())
'''


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the package as colcon does, by links, where launch looks for it."""
    index = tmp_path / 'share/ament_index/resource_index/packages'
    index.mkdir(parents=True)
    (index / 'camws_bridge').touch()
    share = tmp_path / 'share/camws_bridge'
    share.mkdir()
    for name in ('launch', 'config', 'package.xml'):
        (share / name).symlink_to(ROOT / name)
    programs = tmp_path / 'lib/camws_bridge'
    programs.mkdir(parents=True)
    for name, module in executables().items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / 'start_launch_file.py').write_text(LAUNCH)
    add_to_path(monkeypatch, 'AMENT_PREFIX_PATH', tmp_path)
    add_to_path(monkeypatch, 'PYTHONPATH', ROOT)
    add_to_path(monkeypatch, 'PYTHONPATH', tmp_path)
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'log'))
    return tmp_path


def add_to_path(monkeypatch: pytest.MonkeyPatch, name: str, path: Path) -> None:
    monkeypatch.setenv(name, os.pathsep.join(filter(None, (str(path), os.environ.get(name)))))


@needs_launch
@pytest.mark.parametrize('name', [path.name for path in FILES])
def test_launch_files_start_and_end(prefix: Path, name: str) -> None:
    launched = Process('start_launch_file', str(prefix / 'share/camws_bridge/launch' / name),
                       'port:=0')
    try:
        url = launched.wait_for_line(re.compile(r'listening on (http://\S+)'), 60.0)[1]
        assert http_get(url + '/api/v1/streams')[0] == 200
        started = time.monotonic()
        launched.signal(signal.SIGINT)
        assert launched.wait() == 0
        assert time.monotonic() - started < 10.0
    finally:
        launched.stop()
    assert 'Traceback' not in launched.output
    assert 'process has died' not in launched.output
