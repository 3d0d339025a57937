from builders import HEIGHT, LENSES, make_camera, WIDTH
from hypothesis import given, strategies as st
import numpy as np
import pytest

from camws_bridge.vision import camera as cameras
from camws_bridge.vision.camera import CalibrationError, make_camera_model
from camws_bridge.vision.geometry import from_xyz_rpy

PIXELS = np.stack(np.meshgrid(np.linspace(0, WIDTH - 1, 9), np.linspace(0, HEIGHT - 1, 7)),
                  axis=2).reshape(-1, 2)
K = [400.0, 0, 320, 0, 400, 240, 0, 0, 1]
P = [390.0, 0, 321, 0, 0, 391, 239, 0, 0, 0, 1, 0]
EYE = np.eye(3).ravel()


def distort(camera, rays):
    """Return pixels of rays (n x 2 at z = 1): the formulae of OpenCV's manual, written again."""
    x, y = rays.T
    if camera.model.value == 'equidistant':
        r = np.hypot(x, y)
        angle = np.arctan(r)
        k = (*camera.d, 0, 0, 0, 0)
        bent = angle * (1 + sum(k[i] * angle ** (2 * i + 2) for i in range(4)))
        # equidistant without coefficients: the driver means no distortion at all
        scale = np.where(r > 0, bent / np.maximum(r, 1e-12), 1) if len(camera.d) else 1.0
        x, y = x * scale, y * scale
    else:
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tx, ty = np.pad(
            camera.d, (0, 14 - len(camera.d)))
        r2 = x * x + y * y
        radial = ((1 + k1 * r2 + k2 * r2 ** 2 + k3 * r2 ** 3)
                  / (1 + k4 * r2 + k5 * r2 ** 2 + k6 * r2 ** 3))
        x, y = (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) + s1 * r2 + s2 * r2 ** 2,
                y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y + s3 * r2 + s4 * r2 ** 2)
        tilt = from_xyz_rpy([0, 0, 0, -tx, 0, 0])[:3, :3]
        tilt = from_xyz_rpy([0, 0, 0, 0, -ty, 0])[:3, :3] @ tilt
        onto = np.array([[tilt[2, 2], 0, -tilt[0, 2]], [0, tilt[2, 2], -tilt[1, 2]], [0, 0, 1]])
        tilted = np.column_stack([x, y, np.ones_like(x)]) @ (onto @ tilt).T
        x, y = tilted[:, 0] / tilted[:, 2], tilted[:, 1] / tilted[:, 2]
    return np.column_stack([x, y, np.ones_like(x)]) @ camera.k[:2].T


@pytest.mark.parametrize('lens', LENSES)
def test_projection_follows_the_published_formula(lens):
    camera = make_camera(lens)
    rays = (PIXELS - (236, 183)) / 430
    points = np.column_stack([rays, np.ones(len(rays))]) * 0.7
    np.testing.assert_allclose(cameras.project_points(camera, points), distort(camera, rays),
                               atol=1e-6)


@pytest.mark.parametrize('lens', LENSES)
def test_undistorting_undoes_the_projection_up_to_the_image_corners(lens):
    camera = make_camera(lens)
    rays = cameras.undistort_points(camera, PIXELS)
    points = np.column_stack([rays, np.ones(len(rays))])
    np.testing.assert_allclose(cameras.project_points(camera, points), PIXELS, atol=1e-3)


@pytest.mark.parametrize('lens', LENSES)
def test_rectification_maps_lead_from_p_through_r_to_the_raw_pixel(lens):
    turned = from_xyz_rpy([0, 0, 0, 0.02, -0.03, 0.01])[:3, :3]
    camera = make_camera(lens, tuple(turned.ravel()), zoom=1.1)
    whole, fraction = cameras.rectification_maps(camera)
    found = whole + np.stack([fraction & 31, fraction >> 5], axis=2) / 32
    xs, ys = np.meshgrid(np.arange(0, WIDTH, 40), np.arange(0, HEIGHT, 40))
    pixels = np.column_stack([xs.ravel(), ys.ravel(), np.ones(xs.size)])
    rays = pixels @ np.linalg.inv(camera.p[:, :3]).T @ turned
    expected = cameras.project_points(camera, rays)
    np.testing.assert_allclose(found[ys.ravel(), xs.ravel()], expected, atol=0.02)


def test_rectified_image_has_the_intrinsics_of_p_and_no_distortion():
    rectified = cameras.without_distortion(make_camera(zoom=1.1))
    assert not rectified.is_distorted
    np.testing.assert_array_equal(rectified.k, make_camera(zoom=1.1).p[:, :3])


def test_an_empty_p_leaves_k():
    camera = make_camera_model(640, 480, 'plumb_bob', [0.1, 0, 0, 0, 0], K, np.zeros(9),
                               np.zeros(12))
    np.testing.assert_array_equal(cameras.without_distortion(camera).k.ravel(), K)
    # R is empty, too: it turns nothing.
    assert np.all(np.isfinite(cameras.rectification_maps(camera)[0]))


@pytest.mark.parametrize(('changes', 'said'), [
    ({'k': [0.0] * 9}, 'focal lengths 0, 0'),
    ({'k': [400.0, 0, 320, 0, np.nan, 240, 0, 0, 1]}, 'not finite'),
    ({'d': [np.inf, 0, 0, 0]}, 'not finite'),
    ({'d': [0.1] * 6}, '6 distortion coefficients; plumb_bob takes 0 or 4 or 5'),
    ({'distortion_model': 'equidistant', 'd': [0.1] * 5}, 'equidistant takes 0 or 4'),
    ({'distortion_model': 'thin_prism'}, "'thin_prism'; allowed: plumb_bob"),
])
def test_intrinsics_that_cannot_be_used_are_named(changes, said):
    values = {'distortion_model': 'plumb_bob', 'd': [0.0] * 5, 'k': K, 'r': EYE, 'p': P, **changes}
    with pytest.raises(CalibrationError, match=said):
        make_camera_model(640, 480, **values)


def test_a_driver_that_fills_no_model_means_none():
    camera = make_camera_model(640, 480, '', [], K, EYE, P)
    assert camera.model.value == 'plumb_bob'
    assert not camera.is_distorted


@given(st.lists(st.floats(), max_size=15), st.lists(st.floats(), min_size=9, max_size=9),
       st.sampled_from(['', 'plumb_bob', 'rational_polynomial', 'equidistant', 'x']))
def test_any_numbers_make_a_model_or_one_error(d, k, model):
    try:
        camera = make_camera_model(640, 480, model, d, k, EYE, P)
    except CalibrationError as error:
        assert str(error).startswith('camera_info ')
    else:
        assert np.all(np.isfinite(camera.d))
        assert camera.k[0, 0] > 0


def test_a_part_of_the_sensor_binned_shows_the_same_rays():
    camera = make_camera('plumb_bob-5')
    size = (camera.width - 80, camera.height - 40)
    part = cameras.cut_and_binned(camera, (40, 20), size, (2, 2))
    assert (part.width, part.height) == (size[0] // 2, size[1] // 2)
    points = np.array([[0.1, 0.05, 1.0], [-0.2, 0.1, 1.5]])
    expected = (cameras.project_points(camera, points) - (40, 20)) / 2
    assert np.allclose(cameras.project_points(part, points), expected)
    assert cameras.cut_and_binned(camera, (0, 0), (camera.width, camera.height), (1, 1)) is camera
