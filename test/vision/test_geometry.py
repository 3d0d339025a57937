from builders import poses
from hypothesis import given, strategies as st
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from camws_bridge.vision import geometry

ANGLES = st.floats(-3.1, 3.1)


@given(poses(), poses(), poses())
def test_transforms_compose_and_invert(a, b, c):
    np.testing.assert_allclose(geometry.invert(a) @ a, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(geometry.invert(a), np.linalg.inv(a), atol=1e-12)
    np.testing.assert_allclose(geometry.invert(a @ b), geometry.invert(b) @ geometry.invert(a),
                               atol=1e-12)
    np.testing.assert_allclose((a @ b) @ c, a @ (b @ c), atol=1e-12)


@given(poses(), poses())
def test_points_follow_composed_transforms(a, b):
    points = np.array([[0.1, -0.2, 0.3], [1.0, 2.0, -3.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(
        geometry.transform_points(a @ b, points),
        geometry.transform_points(a, geometry.transform_points(b, points)), atol=1e-12)
    homogeneous = np.column_stack([points, np.ones(3)])
    np.testing.assert_allclose(
        geometry.transform_points(a, points), (homogeneous @ a.T)[:, :3], atol=1e-12)


@given(poses())
def test_poses_survive_other_notations(pose):
    quaternion = geometry.to_quaternion(pose)
    assert np.linalg.norm(quaternion) == pytest.approx(1.0)
    assert quaternion[3] >= 0
    np.testing.assert_allclose(geometry.from_quaternion(pose[:3, 3], quaternion), pose, atol=1e-9)
    rvec, tvec = Rotation.from_matrix(pose[:3, :3]).as_rotvec(), pose[:3, 3]
    np.testing.assert_allclose(geometry.from_rvec_tvec(rvec, tvec), pose, atol=1e-6)


@given(ANGLES, ANGLES, ANGLES)
def test_roll_pitch_yaw_turn_about_fixed_axes_in_this_order(roll, pitch, yaw):
    (cr, cp, cy), (sr, sp, sy) = np.cos([roll, pitch, yaw]), np.sin([roll, pitch, yaw])
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    pose = geometry.from_xyz_rpy([1, 2, 3, roll, pitch, yaw])
    np.testing.assert_allclose(pose[:3, :3], about_z @ about_y @ about_x, atol=1e-12)
    assert pose[:, 3].tolist() == [1, 2, 3, 1]


def test_quaternion_is_x_y_z_w():
    quarter_about_z = geometry.from_xyz_rpy([0, 0, 0, 0, 0, np.pi / 2])
    half = np.sqrt(0.5)
    np.testing.assert_allclose(geometry.to_quaternion(quarter_about_z), [0, 0, half, half])


@given(poses(), st.floats(0.001, 3.0))
def test_difference_is_distance_and_angle(pose, angle):
    moved = pose @ geometry.from_xyz_rpy([0, 0.3, 0.4, angle, 0, 0])
    assert geometry.difference(pose, moved) == pytest.approx((0.5, angle))
    assert geometry.difference(pose, pose) == pytest.approx((0.0, 0.0), abs=1e-7)


def test_the_homography_of_a_square_meets_the_corners_of_the_quadrangle():
    quads = np.array([[[10.0, 12], [50, 8], [60, 70], [5, 40]], [[0, 0], [1, 0], [1, 1], [0, 1]]])
    corners = np.array([[0.0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
    mapped = corners @ geometry.square_to_quad(quads).transpose(0, 2, 1)
    np.testing.assert_allclose(mapped[..., :2] / mapped[..., 2:], quads, atol=1e-9)
    assert not np.isfinite(geometry.square_to_quad(np.full((1, 4, 2), 7.0))).all()
