from __future__ import annotations

import cv2
import numpy as np
import pytest

from camws_bridge.demo.motion import PERIOD_S
from camws_bridge.demo.scene import demo_camera_model, MARKERS, Scene, SceneMarker
from camws_bridge.demo.textures import PrintError
from camws_bridge.models import FloatArray
from camws_bridge.vision.boards import Board, make_board, marker_square
from camws_bridge.vision.camera import project_points, undistort_points
from camws_bridge.vision.detection import MarkerDetector
from camws_bridge.vision.geometry import difference, transform_points
from camws_bridge.vision.pose import solve_board, solve_marker

from .edges import measure_corners

TIMES = np.linspace(0.0, PERIOD_S, 14, endpoint=False)


def true_corners(scene: Scene, board: Board, t: float) -> dict[int, FloatArray]:
    """Return the corners (4 x 2 px) of every marker by id."""
    truth = scene.truth(t)
    points = {marker_id: transform_points(truth.camera_from_board, board.marker_corners(marker_id))
              for marker_id in board.marker_ids}
    points.update({marker.marker_id: transform_points(
        truth.camera_from_marker[marker.marker_id], marker_square(marker.length))
        for marker in MARKERS})
    return {marker_id: project_points(scene.camera, found) for marker_id, found in points.items()}


def measured_corners(scene: Scene, board: Board, t: float) -> dict[int, FloatArray]:
    gray = cv2.cvtColor(scene.render(t)[0], cv2.COLOR_BGR2GRAY)
    return {marker_id: measure_corners(scene.camera, gray, corners)
            for marker_id, corners in true_corners(scene, board, t).items()}


@pytest.mark.parametrize('size', [(640, 480), (1280, 720)])
def test_corners_are_true_to_a_tenth_of_a_pixel(board: Board, size: tuple[int, int]) -> None:
    scene = Scene(board, *size)
    errors = np.concatenate([
        measured - true_corners(scene, board, t)[marker_id]
        for t in TIMES for marker_id, measured in measured_corners(scene, board, t).items()])
    assert np.all(np.abs(errors.mean(0)) < 0.01)
    assert np.all(np.abs(np.median(errors, 0)) < 0.01)
    assert np.median(np.linalg.norm(errors, axis=1)) < 0.1


def test_corners_stand_on_their_true_side_of_the_marker(board: Board, scene: Scene) -> None:
    # A blur or a half pixel that shrinks or grows markers would be no bias in x and y.
    growth = []
    for t in TIMES:
        for marker_id, measured in measured_corners(scene, board, t).items():
            true = true_corners(scene, board, t)[marker_id]
            outwards = true - true.mean(0)
            outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
            growth.append(np.sum((measured - true) * outwards, axis=1))
    assert abs(np.mean(growth)) < 0.05


def test_poses_solved_from_exact_corners_equal_the_truth(board: Board, scene: Scene) -> None:
    for t in TIMES:
        truth, corners = scene.truth(t), measured_corners(scene, board, t)
        points = board.corners.reshape(-1, 3)
        pixels = np.concatenate([corners[marker_id] for marker_id in board.marker_ids])
        solved = solve_board(scene.camera, points, pixels)
        assert solved is not None
        distance, angle = difference(solved.camera_from_object, truth.camera_from_board)
        assert distance < 0.0005
        assert np.degrees(angle) < 0.1
        for marker in MARKERS:
            true = truth.camera_from_marker[marker.marker_id]
            found = solve_marker(scene.camera, corners[marker.marker_id], marker.length, true)
            assert found is not None
            distance, angle = difference(found.camera_from_object, true)
            assert distance < 0.004
            assert np.degrees(angle) < 2.0


@pytest.mark.parametrize('size', [(640, 480), (1280, 720), (640, 360), (480, 640)])
def test_a_detector_finds_every_marker(board: Board, size: tuple[int, int]) -> None:
    scene, detector = Scene(board, *size), MarkerDetector('DICT_5X5_100')
    wanted = {*board.marker_ids, *(marker.marker_id for marker in MARKERS)}
    seen = sum(len(wanted & {found.marker_id for found in detector.detect(
        cv2.cvtColor(scene.render(t)[0], cv2.COLOR_BGR2GRAY))}) for t in TIMES)
    assert seen > 0.95 * len(TIMES) * len(wanted)


def test_depth_is_the_z_of_the_surface(board: Board, scene: Scene) -> None:
    for t in TIMES[::4]:
        _, depth = scene.render(t)
        truth = scene.truth(t)
        assert depth.dtype == np.uint16
        for pose in (truth.camera_from_board, *truth.camera_from_marker.values()):
            inner = transform_points(pose, marker_square(0.04) * np.linspace(
                0.0, 1.0, 5)[:, np.newaxis, np.newaxis]).reshape(-1, 3)
            pixels = np.rint(project_points(scene.camera, inner))
            rays = np.column_stack([undistort_points(scene.camera, pixels), np.ones(len(pixels))])
            normal = pose[:3, 2]
            expected = 1000 * (normal @ pose[:3, 3]) / (rays @ normal)
            column, row = pixels.astype(int).T
            np.testing.assert_allclose(depth[row, column], expected, atol=0.51)


def test_the_wall_has_depth_but_for_its_window(scene: Scene) -> None:
    _, depth = scene.render(0.0)
    window = depth == 0
    assert 0.01 < window.mean() < 0.1
    assert 1500 < np.median(depth[~window]) < 2200


def test_the_picture_is_gray_in_colour_noisy_and_not_twice_the_same(scene: Scene) -> None:
    first, second = scene.render(1.0)[0].astype(int), scene.render(1.0)[0].astype(int)
    assert first.shape == (480, 640, 3)
    sigma = (first - second).std() / np.sqrt(2)
    assert 1.8 < sigma < 2.2
    assert np.any(first.max(axis=2) - first.min(axis=2) > 15)


def test_without_noise_the_same_time_and_seed_give_the_same_picture(board: Board) -> None:
    pictures = [Scene(board, 320, 240, noise=0.0, seed=seed).render(2.0)[0] for seed in (5, 5, 6)]
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert np.any(pictures[0] != pictures[2])


def test_a_given_array_is_drawn_into(scene: Scene) -> None:
    target = np.zeros((480, 640, 3), np.uint8)
    assert scene.render(0.0, target)[0] is target
    assert target.any()


def test_other_boards_are_drawn_too() -> None:
    grid = make_board({'type': 'markers', 'markers': [
        {'id': 3, 'center': [0, 0, 0], 'length_m': 0.1, 'rotation': [0, 0, 0.5]},
        {'id': 9, 'center': [0.3, 0.1, 0], 'length_m': 0.06}], 'margin_m': 0.03}, 'DICT_4X4_50')
    charuco = make_board({'type': 'charuco', 'squares_x': 5, 'squares_y': 4,
                          'square_length_m': 0.06, 'marker_length_m': 0.045}, 'DICT_4X4_50')
    for board in (grid, charuco):
        scene = Scene(board, markers=[SceneMarker(30, 0.08)])
        gray = cv2.cvtColor(scene.render(1.0)[0], cv2.COLOR_BGR2GRAY)
        found = MarkerDetector('DICT_4X4_50').detect(gray)
        assert {detection.marker_id for detection in found} == {*board.marker_ids, 30}
        points, pixels = board.correspondences(gray, board.match(found))
        solved = solve_board(scene.camera, points, pixels)
        assert solved is not None
        distance, _ = difference(solved.camera_from_object, scene.truth(1.0).camera_from_board)
        assert distance < 0.008


def test_a_board_with_the_id_of_a_single_marker_is_refused() -> None:
    board = make_board({'type': 'markers', 'markers': [
        {'id': 40, 'center': [0, 0, 0], 'length_m': 0.1}]}, 'DICT_5X5_100')
    with pytest.raises(PrintError, match='40'):
        Scene(board)


def test_a_board_that_is_not_flat_is_refused() -> None:
    board = make_board({'type': 'markers', 'markers': [
        {'id': 1, 'center': [0, 0, 0.1], 'length_m': 0.1}]}, 'DICT_5X5_100')
    with pytest.raises(PrintError, match='flat'):
        Scene(board)


def test_the_camera_scales_with_the_width() -> None:
    small, large = demo_camera_model(640, 480), demo_camera_model(1280, 720)
    assert small.k[0, 0] == 600
    assert large.k[0, 0] == 1200
    assert small.is_distorted
