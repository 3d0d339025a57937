"""
Every parameter of the bridge, once: name, default, description, what is allowed.

The nested dataclasses below are the one table from which the ROS parameters are declared, values
are validated and config/camws_bridge.yaml is written. The path of a field is its parameter's
name: ``JpegSettings.quality`` in ``Settings.jpeg`` is ``jpeg.quality``.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
import math
import re
from typing import Any

from camws_bridge.parameter import describe, Parameter, parameter, SettingsError


def _check_pose(values: tuple[float, ...]) -> None:
    if len(values) not in (0, 6):
        raise ValueError(f'{list(values)} has {len(values)} values; allowed: none, or 6: '
                         '[x, y, z, roll, pitch, yaw] in metres and radians')


def parse_marker_lengths(entries: Sequence[str]) -> dict[int, float]:
    """Return side lengths (metres) by marker id of entries like ``7:0.08``."""
    lengths = {}
    for entry in entries:
        marker_id, _, length = entry.partition(':')
        try:
            key, value = int(marker_id), float(length)
        except ValueError:
            key, value = -1, 0.0
        if key < 0 or not 0 < value < math.inf:
            raise ValueError(f"'{entry}' is not allowed; allowed: id:metres, such as '7:0.08'")
        lengths[key] = value
    return lengths


def parse_assignments(entries: Sequence[str]) -> dict[str, float]:
    """Return numbers by name of entries like ``minOtsuStdDev:4``."""
    numbers = {}
    for entry in entries:
        name, _, text = entry.partition(':')
        try:
            value = float(text)
        except ValueError:
            value = math.inf
        if not name.isidentifier() or not math.isfinite(value):
            raise ValueError(f"'{entry}' is not allowed; allowed: name:number, such as "
                             "'minOtsuStdDev:4'")
        numbers[name] = value
    return numbers


def _check_assignments(entries: tuple[str, ...]) -> None:
    parse_assignments(entries)


def _check_lengths(entries: tuple[str, ...]) -> None:
    parse_marker_lengths(entries)


def _check_origins(origins: tuple[str, ...]) -> None:
    for origin in origins:
        if origin != '*' and not re.fullmatch(r'https?://[^/?#\s]+', origin):
            raise ValueError(f"{origin!r} is not allowed; allowed: '*', or scheme, host and port "
                             "without a path, such as 'https://example.org:8443'")


def _check_frame(name: str) -> None:
    if not name or name.startswith('/'):
        raise ValueError(f'{name!r} is not allowed; allowed: a tf frame name, without a slash in '
                         'front')


def _check_odd(value: int) -> None:
    if value % 2 == 0:
        raise ValueError(f'{value} is even; allowed: an odd window, in pixels')


@dataclass(frozen=True, slots=True)
class JpegSettings:
    """JPEG encoding of the image streams."""

    quality: int = parameter(
        80, 'JPEG quality of image streams; a client may ask for its own.',
        least=1, most=100, live=True)


@dataclass(frozen=True, slots=True)
class DepthSettings:
    """The registered depth image."""

    min_m: float = parameter(
        0.2, 'Depth shown in the first colour of the depth stream, in metres.',
        least=0.0, most=1000.0, live=True)
    max_m: float = parameter(
        5.0, 'Depth shown in the last colour of the depth stream, in metres.',
        least=0.001, most=1000.0, live=True)
    max_stamp_difference: float = parameter(
        0.008, 'A depth image belongs to the colour image whose stamp is at most this many '
        'seconds away; keep it below half the time between images.',
        least=0.0, most=1.0, live=True)


@dataclass(frozen=True, slots=True)
class MarkerSettings:
    """Which markers there are."""

    dictionary: str = parameter(
        'DICT_5X5_100', "OpenCV's name of the marker dictionary, AprilTag ones included "
        '(DICT_APRILTAG_36h11).', live=True)
    length_m: float = parameter(
        0.05, 'Side of single markers (black square), in metres.', least=0.0001, most=100.0,
        live=True)
    lengths: tuple[str, ...] = parameter(
        (), 'Sides of single markers that differ, as id:metres, such as 7:0.08.',
        check=_check_lengths, live=True)


@dataclass(frozen=True, slots=True)
class DetectorSettings:
    """How markers are found in a whole image, and their corners refined."""

    refinement: str = parameter(
        'edges', "How corners are refined: 'edges' by lines fitted to the marker's own edges "
        "(subpix where those do not support it), or OpenCV's subpix, contour or none.",
        choices=('edges', 'subpix', 'contour', 'none'), live=True)
    learn_edge_shift: bool = parameter(
        True, 'Learn by how much white grows over black in the images (gamma, glare, ink) and '
        'take it off the edges.', live=True)
    window_min: int = parameter(
        7, 'Smallest window of the adaptive threshold, in pixels (odd).', least=3, most=201,
        check=_check_odd, live=True)
    window_max: int = parameter(
        23, 'Largest window of the adaptive threshold, in pixels (odd). With edges it is half as '
        'large, in the image at half size, where large markers are looked for.', least=3, most=201,
        check=_check_odd, live=True)
    window_step: int = parameter(
        16, 'Step between the windows of the adaptive threshold, in pixels.', least=1, most=200,
        live=True)
    threshold_constant: float = parameter(
        7.0, 'Constant of the adaptive threshold, in gray values; with edges it is lowered by '
        'itself in dark images.', least=-50.0, most=100.0,
        live=True)
    min_perimeter_px: float = parameter(
        44.0, 'Shortest outline of a marker that is looked at, in pixels.', least=8.0,
        most=10000.0, live=True)
    error_correction_rate: float = parameter(
        0.6, 'Share of the bits that the dictionary can correct which is corrected.', least=0.0,
        most=1.0, live=True)
    inverted: bool = parameter(
        False, 'Look for white markers on black, too.', live=True)
    parameters: tuple[str, ...] = parameter(
        (), 'Any other attributes of cv2.aruco.DetectorParameters, as name:value, such as '
        'polygonalApproxAccuracyRate:0.05.', check=_check_assignments, live=True)


@dataclass(frozen=True, slots=True)
class TrackingSettings:
    """Following markers from image to image instead of searching the whole image."""

    enabled: bool = parameter(
        True, 'Look for markers where they must be by now; false: search every whole image.',
        live=True)
    search_every: int = parameter(
        15, 'The whole image is searched at least once in this many images.', least=1,
        most=10000, live=True)
    search_after_loss: int = parameter(
        30, 'Every whole image is searched for at most this many images after a marker was lost.',
        least=0, most=10000, live=True)
    error_correction_rate: float = parameter(
        0.9, 'As detector.error_correction_rate, where a marker is known to be.', least=0.0,
        most=1.0, live=True)


@dataclass(frozen=True, slots=True)
class BoardSettings:
    """The board."""

    file: str = parameter(
        '', 'Path of the board file (see config/boards/); package://camws_bridge/... names one of '
        'the package; empty: there is no board.')
    view_width: int = parameter(
        640, 'Width of the board_perspective stream, in pixels; the height follows.',
        least=16, most=4096, live=True)


@dataclass(frozen=True, slots=True)
class RobotSettings:
    """The robot base."""

    pose_in_board: tuple[float, ...] = parameter(
        (), 'Pose of the robot base on the board: [x, y, z, roll, pitch, yaw] in metres and '
        'radians; empty: no robot.', check=_check_pose)


@dataclass(frozen=True, slots=True)
class TfSettings:
    """What goes to /tf and /tf_static."""

    publish: bool = parameter(
        True, 'Publish poses to /tf (while somebody subscribes to it) and /tf_static.', live=True)
    root: str = parameter(
        'camera', "Which frame is the parent: 'camera' has the board as its child, 'board' the "
        'camera (for a robot that localises by the board).', choices=('camera', 'board'))
    board_frame: str = parameter(
        'aruco_board', 'Frame name of the board.', check=_check_frame)
    marker_frame_prefix: str = parameter(
        'aruco_marker_', 'Frame names of single markers are this and the id.',
        check=_check_frame)
    robot_frame: str = parameter(
        'base_link', 'Frame name of the robot base.', check=_check_frame)


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """HTTPS and WSS."""

    certfile: str = parameter('', 'Path of the TLS certificate chain (PEM); empty: no TLS.')
    keyfile: str = parameter('', 'Path of the TLS key (PEM).')


@dataclass(frozen=True, slots=True)
class AuthSettings:
    """Who may come in."""

    token: str = parameter(
        '', 'The token every client must show; empty: none is needed. Visible to everyone on the '
        'ROS graph: better auth.tokens_file.', secret=True)
    tokens_file: str = parameter(
        '', 'Path of a file of tokens, one name:sha256 (hex digest of the token) per line.')


@dataclass(frozen=True, slots=True)
class Settings:
    """All parameters of the bridge."""

    host: str = parameter(
        '127.0.0.1', 'Address to listen on; 0.0.0.0 opens the bridge to the network.')
    port: int = parameter(
        8080, 'Port to listen on; 0 takes any free one (it is in the log).', least=0, most=65535)
    image_transport: str = parameter(
        'raw', "'raw' subscribes image (sensor_msgs/Image), 'compressed' image/compressed "
        '(sensor_msgs/CompressedImage).', choices=('raw', 'compressed'))
    image_is_rectified: bool = parameter(
        False, 'The image topic is rectified already: poses use P without distortion.')
    lazy: bool = parameter(
        True, 'Leave the camera topics alone while nobody wants anything made of them: no client, '
        'no subscriber, and tf.publish is false.', live=True)
    stale_after: float = parameter(
        3.0, 'Seconds without an image after which the bridge reports itself unhealthy.',
        least=0.1, most=3600.0, live=True)
    allowed_origins: tuple[str, ...] = parameter(
        (), "Origins (https://host[:port]) of web pages from elsewhere that may read; '*': all.",
        check=_check_origins)
    max_clients: int = parameter(
        500, 'WebSocket and MJPEG clients served at once; more are refused.', least=1,
        most=100000, live=True)
    client_timeout: float = parameter(
        20.0, 'Seconds after which a client that neither takes bytes nor answers pings is '
        'removed.', least=1.0, most=3600.0, live=True)
    jpeg: JpegSettings = JpegSettings()
    depth: DepthSettings = DepthSettings()
    markers: MarkerSettings = MarkerSettings()
    detector: DetectorSettings = DetectorSettings()
    tracking: TrackingSettings = TrackingSettings()
    board: BoardSettings = BoardSettings()
    robot: RobotSettings = RobotSettings()
    tf: TfSettings = TfSettings()
    tls: TlsSettings = TlsSettings()
    auth: AuthSettings = AuthSettings()

    def with_values(self, values: Mapping[str, Any]) -> Settings:
        """Return a copy with some parameters changed, by name; raises SettingsError."""
        return _checked(_with_values(self, '', values))


class SettingsHolder:
    """The settings now in force: read from any thread, replaced as a whole."""

    def __init__(self, settings: Settings) -> None:
        """Hold the settings of the start."""
        self.current = settings
        self._checks: list[Callable[[Settings], None]] = []

    def add_check(self, check: Callable[[Settings], None]) -> None:
        """Let a service refuse settings it cannot use: ``check`` raises SettingsError."""
        self._checks.append(check)

    def __call__(self) -> Settings:
        """Return the settings now in force."""
        return self.current

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise SettingsError if ``change`` would."""
        self._changed(values)

    def change(self, values: Mapping[str, Any]) -> None:
        """Change live parameters; raises SettingsError and changes nothing for a wrong one."""
        self.current = self._changed(values)

    def _changed(self, values: Mapping[str, Any]) -> Settings:
        changed = self.current.with_values(values)
        for name in values:
            if (name in PARAMETERS and not PARAMETERS[name].live
                    and _get(changed, name) != _get(self.current, name)):
                raise SettingsError(f'parameter {name} takes effect at start only: restart the '
                                    'bridge to change it')
        for check in self._checks:
            check(changed)
        return changed


def _with_values(group: Any, prefix: str, values: Mapping[str, Any]) -> Any:
    changes: dict[str, Any] = {}
    for item in fields(group):
        name, current = prefix + item.name, getattr(group, item.name)
        if is_dataclass(current):
            changes[item.name] = _with_values(current, name + '.', values)
        elif name in values:
            changes[item.name] = PARAMETERS[name].validate(values[name])
    return replace(group, **changes)


def _get(settings: Settings, name: str) -> Any:
    value: Any = settings
    for part in name.split('.'):
        value = getattr(value, part)
    return value


def _checked(settings: Settings) -> Settings:
    """Check what concerns more than one parameter."""
    depth, tls, detector = settings.depth, settings.tls, settings.detector
    if depth.min_m >= depth.max_m:
        raise SettingsError(f'parameter depth.min_m: {depth.min_m:g} is not allowed; allowed: '
                            f'less than depth.max_m ({depth.max_m:g})')
    if detector.window_min > detector.window_max:
        raise SettingsError(
            f'parameter detector.window_min: {detector.window_min} is not allowed; allowed: at '
            f'most detector.window_max ({detector.window_max})')
    if bool(tls.certfile) != bool(tls.keyfile):
        missing = 'tls.keyfile' if tls.certfile else 'tls.certfile'
        raise SettingsError(f"parameter {missing}: '' is not allowed; allowed: a path, since the "
                            'other file of the pair is given')
    return settings


PARAMETERS: dict[str, Parameter] = {item.name: item for item in describe(Settings)}
