"""The demo camera's parameters: declared, described, checked with one clear line."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import math
from pathlib import Path
import sys
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from camws_bridge.demo.encodings import ENCODERS, NEED_EVEN_SIZE

_PACKAGE = 'camws_bridge'
_DEMO_BOARD = Path('config') / 'boards' / 'demo_board.yaml'
RELIABILITIES = ('reliable', 'best_effort')


class OptionError(ValueError):
    """A parameter that cannot be used; the text names it, its value and what is allowed."""

    def __init__(self, name: str, value: Any, allowed: str) -> None:
        """Say it in one line, whatever the value holds."""
        super().__init__(f'parameter {name} is {value!r}; allowed: {allowed}')


@dataclass(frozen=True, slots=True)
class Options:
    """All parameters, checked."""

    width: int
    height: int
    rate: float
    frame_id: str
    board_file: str
    noise: float
    encoding: str
    reliability: str
    source: str
    seed: int


@dataclass(frozen=True, slots=True)
class _Number:
    default: float
    low: float
    high: float
    description: str

    def descriptor(self) -> ParameterDescriptor:
        found = ParameterDescriptor(description=self.description, read_only=True,
                                    dynamic_typing=True)
        if isinstance(self.default, int):
            found.integer_range = [IntegerRange(from_value=self.low, to_value=self.high, step=1)]
        else:
            found.floating_point_range = [FloatingPointRange(
                from_value=self.low, to_value=self.high, step=0.0)]
        return found

    def check(self, name: str, value: Any) -> float:
        # 'rate:=15' is an integer to ROS: who types it means a rate.
        kinds = int if isinstance(self.default, int) else (int, float)
        if (not isinstance(value, kinds) or isinstance(value, bool) or not math.isfinite(value)
                or not self.low <= value <= self.high):
            whole = 'a whole number' if isinstance(self.default, int) else 'a number'
            raise OptionError(name, value, f'{whole} from {self.low:g} to {self.high:g}')
        return type(self.default)(value)


@dataclass(frozen=True, slots=True)
class _Text:
    default: str
    description: str
    choices: tuple[str, ...] = ()

    def descriptor(self) -> ParameterDescriptor:
        return ParameterDescriptor(
            description=self.description, read_only=True, dynamic_typing=True,
            additional_constraints=', '.join(self.choices))

    def check(self, name: str, value: Any) -> str:
        # A webcam's index and a frame named by a number arrive as integers.
        if isinstance(value, int) and not isinstance(value, bool) and not self.choices:
            value = str(value)
        if not isinstance(value, str) or (self.choices and value not in self.choices):
            raise OptionError(name, value, ', '.join(self.choices) or 'a text')
        return value


SPECS: dict[str, _Number | _Text] = {
    'width': _Number(640, 64, 4096, 'Width of the rendered image, or asked of a webcam (px)'),
    'height': _Number(480, 48, 4096, 'Height of the rendered image, or asked of a webcam (px)'),
    'rate': _Number(30.0, 0.1, 240.0, 'Images a second; a video file plays at this rate'),
    'frame_id': _Text('camera_color_optical_frame', "The camera's optical frame"),
    'board_file': _Text('', 'Board to render (YAML, see config/boards); empty: the demo board'),
    'noise': _Number(2.0, 0.0, 50.0, "Standard deviation of the pixels' noise (gray values)"),
    'encoding': _Text('bgr8', 'Encoding of image_raw', tuple(ENCODERS)),
    'reliability': _Text('reliable', 'QoS of the images', RELIABILITIES),
    'source': _Text('', 'Empty: the rendered scene; the path of a video file, which loops; or the '
                    'index of a webcam. Videos have no depth, no camera_info and no truth'),
    'seed': _Number(0, 0, 2**31 - 1, 'Seed of the background and the noise'),
}


def declare_options(node: Node) -> Options:
    """Declare all parameters on a node and return them checked; raises OptionError."""
    values: dict[str, Any] = {}
    for name, spec in SPECS.items():
        node.declare_parameter(name, spec.default, ParameterDescriptor(dynamic_typing=True))
        # Checked before its range is set: so every wrong value gets the same kind of message.
        values[name] = spec.check(name, node.get_parameter(name).value)
        node.set_descriptor(name, spec.descriptor())
    return make_options(values)


def make_options(values: Mapping[str, Any]) -> Options:
    """Check what concerns several values at once; raises OptionError."""
    options = Options(**values)
    for name in ('width', 'height'):
        if options.encoding in NEED_EVEN_SIZE and values[name] % 2:
            raise OptionError(name, values[name], f'an even number with {options.encoding}')
    return options


def find_demo_board() -> str:
    """Return the path of the demo board: of the source tree, else of the installed package."""
    candidates = [Path(__file__).resolve().parents[2] / _DEMO_BOARD,
                  *(share / _DEMO_BOARD for share in _shares())]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise OptionError('board_file', '', 'the path of a board file (the demo board is not '
                          f'installed: none of {", ".join(map(str, candidates))})')
    return str(found)


def _shares() -> list[Path]:
    """Return where colcon, then pip, install the package's data."""
    shares = [Path(sys.prefix) / 'share' / _PACKAGE]
    try:
        from ament_index_python.packages import get_package_share_directory
        shares.insert(0, Path(get_package_share_directory(_PACKAGE)))
    except (ImportError, LookupError, OSError):
        # No ament, none sourced, or one that does not know the package: pip's place is left.
        pass
    return shares
