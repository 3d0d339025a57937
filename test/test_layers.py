"""The layers of docs/architecture.md, read from the imports."""
from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = 'camws_bridge'

# Highest first; what stands in one line knows nothing of its neighbours.
LAYERS = (
    {'main'},
    {'dependencies'},
    {'ros', 'api', 'demo', 'commands'},
    {'websockets'},
    {'services'},
    {'vision', 'events'},
    {'models', 'settings', 'latest_slot', 'metrics', 'share', 'json_text', 'tokens',
     'supervision', 'service_manager'},
    {'parameter'},
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}

# What a part must not import itself, whatever its layer allows.
FORBIDDEN = {
    'vision': {'rclpy', 'tornado', 'asyncio', 'threading', 'logging', 'time'},
    'services': {'rclpy', 'tornado', 'asyncio', 'cv2'},
    'services.image_service': {'threading'},
    'services.aruco_service': {'threading'},
    'websockets': {'rclpy', 'tornado', 'cv2'},
    'websockets.connection_manager': {'asyncio', 'threading'},
    'api': {'rclpy', 'cv2'},
    'commands': {'rclpy', 'tornado', 'cv2'},
    'ros': {'tornado', 'asyncio'},
    'models': {'rclpy', 'tornado', 'cv2'},
    'settings': {'rclpy', 'tornado', 'cv2', 'numpy'},
    'latest_slot': {'rclpy', 'tornado', 'cv2', 'numpy'},
    'events': {'rclpy', 'tornado', 'cv2'},
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT / PACKAGE).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


SOURCES = {module_name(path): path for path in sorted((ROOT / PACKAGE).rglob('*.py'))}


def imports(source: str) -> Iterator[str]:
    """Yield the full names of all modules imported, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, 'imports are absolute'
            assert node.module
            yield node.module
            # ``from package import name``: the name may be a module itself.
            yield from (f'{node.module}.{alias.name}' for alias in node.names)


def own_imports(module: str) -> set[str]:
    names = (name.removeprefix(f'{PACKAGE}.') for name in imports(SOURCES[module].read_text())
             if name.startswith(f'{PACKAGE}.'))
    return {name for name in names if name in SOURCES} - {''}


def may_import(importer: str, imported: str) -> bool:
    upper, lower = importer.partition('.')[0], imported.partition('.')[0]
    return upper == lower or LAYER[upper] < LAYER[lower]


MODULES = [module for module in SOURCES if module]


def test_every_module_has_its_layer():
    assert {module.partition('.')[0] for module in MODULES} == set(LAYER)


@pytest.mark.parametrize('module', MODULES)
def test_a_module_imports_only_from_below_or_its_own_package(module):
    wrong = {name for name in own_imports(module) if not may_import(module, name)}
    assert not wrong


@pytest.mark.parametrize('part', FORBIDDEN)
def test_parts_do_not_know_what_is_not_theirs(part):
    of_part = [module for module in MODULES if module == part or module.startswith(f'{part}.')]
    assert of_part
    for module in of_part:
        found = {name.partition('.')[0] for name in imports(SOURCES[module].read_text())}
        assert not found & FORBIDDEN[part], module


def test_only_conversions_knows_cv_bridge():
    users = [module for module in MODULES
             if 'cv_bridge' in set(imports(SOURCES[module].read_text()))]
    assert users == ['ros.conversions']


def test_there_are_no_cycles():
    graph = {module: own_imports(module) - {module} for module in MODULES}
    # A package and what is in it are one thing only where the package imports something.
    assert list(TopologicalSorter(graph).static_order())


def test_packages_are_empty():
    packages = [path for path in SOURCES.values() if path.name == '__init__.py']
    assert packages
    assert all(path.read_text() == '' for path in packages)


def test_the_rules_can_be_broken():
    assert not may_import('vision.pose', 'services.aruco_service')
    assert not may_import('vision.pose', 'events')
    assert not may_import('api.server', 'ros.camera_node')
    assert may_import('vision.pose', 'vision.camera')
    assert may_import('main', 'models')
    assert set(imports('def f():\n    import a.b\n    from c.d import e')) == {
        'a.b', 'c.d', 'c.d.e'}
    with pytest.raises(CycleError):
        TopologicalSorter({'a': {'b'}, 'b': {'a'}}).prepare()


BLOCKED = '''
import importlib, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('rclpy', 'tornado'):
            raise ImportError(f'{name} is blocked')

sys.meta_path.insert(0, Block())
for name in sys.argv[1:]:
    importlib.import_module(name)
'''


def import_blocked(*modules: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, '-c', BLOCKED, *modules], cwd=ROOT, text=True,
                          capture_output=True, timeout=60)


def test_the_core_runs_without_ros_and_without_a_server():
    below = LAYER['websockets']
    core = [f'{PACKAGE}.{module}' for module in MODULES
            if LAYER[module.partition('.')[0]] >= below]
    assert len(core) > 25
    done = import_blocked(*core)
    assert done.returncode == 0, done.stderr


def test_the_block_blocks():
    assert 'tornado is blocked' in import_blocked('tornado').stderr


def test_test_modules_never_hide_one_another():
    # pytest imports a test module of a directory without __init__.py under its bare name.
    bare = [path.name for path in (ROOT / 'test').rglob('*.py')
            if not (path.parent / '__init__.py').exists() and path.name != 'conftest.py']
    assert len(bare) == len(set(bare))
