"""The files in config/ say what the code does."""
from pathlib import Path
import runpy

import yaml

from camws_bridge.settings import PARAMETERS, Settings

ROOT = Path(__file__).parents[1]


def flatten(group, prefix=''):
    for name, value in group.items():
        if isinstance(value, dict):
            yield from flatten(value, f'{prefix}{name}.')
        else:
            yield prefix + name, value


def parameters_of(path):
    content = yaml.safe_load(path.read_text())
    return dict(flatten(content['/**']['ros__parameters']))


def test_the_parameter_file_is_up_to_date():
    """Run scripts/make_config after a change of the settings."""
    script = runpy.run_path(str(ROOT / 'scripts/make_config'))
    assert (ROOT / 'config/camws_bridge.yaml').read_text() == script['render']()


def test_the_parameter_file_holds_every_parameter_with_its_default():
    path = ROOT / 'config/camws_bridge.yaml'
    values = parameters_of(path)
    lists = {name for name, item in PARAMETERS.items() if item.kind in ('strings', 'floats')}
    assert set(values) == set(PARAMETERS) - lists
    assert all(name.rpartition('.')[2] + ':' in path.read_text() for name in lists)
    assert Settings().with_values(values) == Settings()


def test_the_examples_in_the_parameter_file_are_valid():
    script = runpy.run_path(str(ROOT / 'scripts/make_config'))
    examples = {name: yaml.safe_load(text) for name, text in script['EXAMPLES'].items()}
    Settings().with_values(examples)


def test_the_demo_makes_every_stream_live():
    settings = Settings().with_values(parameters_of(ROOT / 'config/demo.yaml'))
    assert settings.board.file and settings.robot.pose_in_board and settings.markers.lengths
