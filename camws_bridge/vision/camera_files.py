"""Intrinsics from a file: ROS's camera calibration YAML, or a camera_info as YAML or JSON."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from camws_bridge.models import CameraModel, FloatArray
from camws_bridge.vision.camera import CalibrationError, make_camera_model
from camws_bridge.vision.text_files import FileError, load_yaml, read_text

# Names in sensor_msgs/CameraInfo (ros2 topic echo, /api/v1/calibration) and in the files of
# camera_calibration_parsers, where matrices are mappings with ``data``.
_NAMES = {'width': 'image_width', 'height': 'image_height', 'k': 'camera_matrix',
          'd': 'distortion_coefficients', 'r': 'rectification_matrix', 'p': 'projection_matrix'}
_LENGTHS = {'k': 9, 'r': 9, 'p': 12}
_DEFAULTS: dict[str, list[float]] = {'r': np.eye(3).ravel().tolist(), 'p': [0.0] * 12}


def read_camera(path: str) -> CameraModel:
    """Return the intrinsics in a file; raises CalibrationError with the path and the entry."""
    try:
        return make_camera(load_yaml(read_text(path)))
    except (FileError, CalibrationError) as error:
        raise CalibrationError(f"camera file '{path}': {error}") from error


def make_camera(content: Any) -> CameraModel:
    """Return the intrinsics of a mapping in one of the two forms; raises CalibrationError."""
    if not isinstance(content, Mapping):
        raise CalibrationError('it holds no mapping of names to values')
    width, height = (_count(content, name) for name in ('width', 'height'))
    model = content.get('distortion_model', '')
    if not isinstance(model, str):
        raise CalibrationError(f'distortion_model is {model!r:.60}; allowed: text')
    d, k, r, p = (_numbers(content, name) for name in 'dkrp')
    return make_camera_model(width, height, model, d, k, r, p, str(content.get('frame_id', '')))


def _count(content: Mapping[str, Any], name: str) -> int:
    value = content.get(name, content.get(_NAMES[name]))
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 100_000:
        raise CalibrationError(f'{name} is {value!r:.60}; allowed: a number of pixels')
    return value


def _numbers(content: Mapping[str, Any], name: str) -> FloatArray:
    value = content.get(name, content.get(_NAMES[name], _DEFAULTS.get(name)))
    if isinstance(value, Mapping):
        value = value.get('data')
    allowed = f'{_LENGTHS[name]} numbers' if name in _LENGTHS else 'numbers'
    if not (isinstance(value, list) and len(value) == _LENGTHS.get(name, len(value))
            and len(value) < 100 and all(map(_is_number, value))):
        raise CalibrationError(f'{name} ({_NAMES[name]}) is {value!r:.60}; allowed: {allowed}')
    return np.array(value, np.float64)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12
