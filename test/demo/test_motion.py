from __future__ import annotations

import numpy as np
import pytest

from camws_bridge.demo.motion import Cell, fit, Motion, PERIOD_S
from camws_bridge.demo.scene import MARKERS, Scene
from camws_bridge.models import FloatArray
from camws_bridge.vision.boards import Board, marker_square
from camws_bridge.vision.camera import project_points
from camws_bridge.vision.geometry import difference, transform_points

TIMES = np.linspace(0.0, PERIOD_S, 150)


def poses_at(scene: Scene, t: float) -> list[FloatArray]:
    truth = scene.truth(t)
    return [truth.camera_from_board, *truth.camera_from_marker.values()]


def boxes_at(scene: Scene, board: Board, t: float) -> list[tuple[FloatArray, FloatArray]]:
    """Return the least and greatest pixel of each object."""
    outlines = [board.outline, *(marker_square(marker.length * 9 / 7) for marker in MARKERS)]
    pixels = [project_points(scene.camera, transform_points(pose, outline))
              for pose, outline in zip(poses_at(scene, t), outlines, strict=True)]
    return [(found.min(0), found.max(0)) for found in pixels]


@pytest.mark.parametrize('size', [(640, 480), (1280, 720), (480, 640)])
def test_everything_is_always_wholly_visible_and_apart(board: Board, size: tuple[int, int]
                                                       ) -> None:
    scene = Scene(board, *size)
    for t in TIMES:
        boxes = boxes_at(scene, board, t)
        for low, high in boxes:
            assert np.all(low > 2)
            assert np.all(high < np.array(size) - 3)
        for index, (low, high) in enumerate(boxes):
            for other_low, other_high in boxes[index + 1:]:
                assert np.any(high < other_low) or np.any(other_high < low)


def test_tilts_and_distances_are_those_of_a_table_top(scene: Scene) -> None:
    sights, depths = [], []
    for t in TIMES:
        for pose in poses_at(scene, t):
            towards = -pose[:3, 3] / np.linalg.norm(pose[:3, 3])
            sights.append(np.degrees(np.arccos(towards @ pose[:3, 2])))
            depths.append(pose[2, 3])
    assert 10 < min(sights) < 20
    assert 40 < max(sights) < 50
    assert 0.45 < min(depths)
    assert max(depths) < 1.1


def test_paths_are_smooth_and_closed(scene: Scene) -> None:
    step = 1 / 30
    for index in range(4):
        path = [poses_at(scene, t)[index] for t in np.arange(0.0, PERIOD_S, step)]
        moves = [difference(a, b) for a, b in zip(path, [*path[1:], path[0]], strict=True)]
        distances, angles = np.array(moves).T
        # At most 30 cm and 60 degrees a second, and no jump, also from the end to the start.
        assert 0.0002 < distances.max() < 0.01
        assert angles.max() < np.radians(2)
        assert np.abs(np.diff(distances)).max() < 0.0005


def test_a_sheet_too_large_for_its_cell_moves_away() -> None:
    motion = Motion(Cell(0.0, 0.0, 0.2, 0.2), 0.5, 1.0, 0.0)
    fitted = fit(motion, marker_square(1.0))
    assert fitted.near > 2.0
