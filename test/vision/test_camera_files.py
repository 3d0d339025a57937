import json

from builders import make_camera
from hypothesis import given, strategies as st
import numpy as np
import pytest
import yaml

from camws_bridge.services.pose_messages import calibration_object
from camws_bridge.vision.camera import CalibrationError
from camws_bridge.vision.camera_files import make_camera as camera_of, read_camera

CAMERA = make_camera()
MESSAGE = calibration_object(CAMERA)
CALIBRATION = {
    'image_width': 480, 'image_height': 360, 'camera_name': 'front',
    'distortion_model': 'plumb_bob',
    **{name: {'rows': rows, 'cols': len(values) // rows, 'data': values}
       for name, rows, values in (
           ('camera_matrix', 3, MESSAGE['k']), ('distortion_coefficients', 1, MESSAGE['d']),
           ('rectification_matrix', 3, MESSAGE['r']), ('projection_matrix', 3, MESSAGE['p']))}}
ECHO = yaml.safe_dump({'header': {'frame_id': 'camera'}, **MESSAGE}) + '---\n'


@pytest.mark.parametrize('text', [yaml.safe_dump(CALIBRATION), json.dumps(MESSAGE), ECHO],
                         ids=['calibration', 'json', 'echo'])
def test_the_forms_ros_writes_are_read(tmp_path, text):
    path = tmp_path / 'camera.yaml'
    path.write_text(text)
    camera = read_camera(str(path))
    assert (camera.width, camera.height, camera.model) == (480, 360, CAMERA.model)
    for name in 'kdrp':
        np.testing.assert_allclose(getattr(camera, name), getattr(CAMERA, name))


def test_rectification_may_be_left_out():
    camera = camera_of({name: MESSAGE[name] for name in ('width', 'height', 'k', 'd')})
    np.testing.assert_array_equal(camera.r, np.eye(3))
    assert not np.any(camera.p)


@pytest.mark.parametrize(('changes', 'said'), [
    ({'width': 0}, 'width is 0; allowed: a number of pixels'), ({'height': '1'}, 'height is'),
    ({'k': [1] * 8}, r'k \(camera_matrix\) is .*allowed: 9 numbers'), ({'d': None}, 'd '),
    ({'d': [0, 0, 'x', 0]}, 'd .* allowed: numbers'), ({'k': [0.0] * 9}, 'not calibrated'),
    ({'distortion_model': 'fov'}, "'fov'; allowed: plumb_bob"), ({'d': [0.0]}, '1 distortion'),
    ({'distortion_model': 3}, 'distortion_model is 3'), ({'p': {'data': 3}}, 'p .*12 numbers'),
    ({'r': [float('nan')] * 9}, 'r .*9 numbers')])
def test_a_wrong_entry_is_named(changes, said):
    with pytest.raises(CalibrationError, match=said):
        camera_of({**MESSAGE, **changes})


def test_errors_name_the_file(tmp_path):
    path = tmp_path / 'camera.yaml'
    for text, said in (('[', 'not YAML'), ('', 'no mapping'), ('width: 3', 'height is None')):
        path.write_text(text)
        with pytest.raises(CalibrationError, match=f'camera.yaml.*{said}'):
            read_camera(str(path))
    with pytest.raises(CalibrationError, match='No such file'):
        read_camera(str(tmp_path / 'none'))


@given(st.sampled_from([*MESSAGE]), st.recursive(
    st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=3)),
    lambda inner: st.lists(inner, max_size=12), max_leaves=12))
def test_any_value_makes_a_camera_or_a_calibration_error(name, value):
    try:
        camera_of({**MESSAGE, name: value})
    except CalibrationError as error:
        assert str(error)
