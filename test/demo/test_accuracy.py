from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from camws_bridge.demo.accuracy import BOARD, Errors, pose_of, Report
from camws_bridge.models import FloatArray
from camws_bridge.vision.geometry import from_xyz_rpy, to_quaternion

TRUE = from_xyz_rpy([0.1, 0.2, 0.8, 0.3, -0.2, 1.0])


def moved(millimetres: float, degrees: float = 0.0) -> FloatArray:
    pose = TRUE @ from_xyz_rpy([0, 0, 0, np.radians(degrees), 0, 0])
    pose[0, 3] += millimetres / 1000
    return pose


def transform(child: str, kind: str, pose: FloatArray, ambiguous: bool = False) -> dict[str, Any]:
    return {'child_frame_id': child, 'kind': kind, 'ambiguous': ambiguous,
            'transform': {'translation': dict(zip('xyz', pose[:3, 3].tolist(), strict=True)),
                          'rotation': dict(zip('xyzw', to_quaternion(pose).tolist(),
                                               strict=True))}}


def report_of(board: FloatArray, marker: FloatArray, ambiguous: bool = False) -> Report:
    report = Report()
    report.add_frame(
        {'transforms': [transform('aruco_board', 'board', board),
                        transform('aruco_marker_40', 'marker', marker, ambiguous),
                        transform('robot_base', 'robot', np.eye(4))]},
        {'aruco_board': TRUE, 'aruco_marker_40': TRUE})
    report.latencies_ms.append(4.0)
    return report


def test_a_pose_survives_the_wire() -> None:
    np.testing.assert_allclose(pose_of(transform('x', 'board', TRUE)['transform']), TRUE,
                               atol=1e-12)


def test_good_poses_pass_and_are_summed_up() -> None:
    report = report_of(moved(0.5, 0.1), moved(2.0, 0.5))
    assert report.problems() == []
    text = report.summary()
    assert 'frames: 1' in text
    assert 'median 0.50 worst 0.50 mm, angle median 0.100 worst 0.100 deg' in text
    assert 'p50 4.0 p95 4.0 ms' in text


@pytest.mark.parametrize(('board', 'marker', 'problem'), [
    (moved(3.0), TRUE, 'board: median error 3.00 mm'),
    (moved(0.0, 0.5), TRUE, 'board: median error 0.50 deg'),
    (TRUE, moved(9.0), 'single markers: median error 9.00 mm'),
    (TRUE, moved(0.0, 4.0), 'single markers: median error 4.00 deg')])
def test_large_errors_are_named(board: FloatArray, marker: FloatArray, problem: str) -> None:
    assert any(problem in found for found in report_of(board, marker).problems())


def test_one_bad_board_pose_among_good_ones_is_enough() -> None:
    errors = Errors()
    for millimetres in (0.1, 0.1, 0.1, 6.0):
        errors.add(moved(millimetres), TRUE, False)
    assert errors.problems('board', BOARD) == ['board: worst error 6.00 mm is more than 5 mm']


def test_the_angle_of_an_ambiguous_marker_does_not_count_but_is_reported() -> None:
    report = report_of(TRUE, moved(0.0, 60.0), ambiguous=True)
    assert report.problems() == []
    assert '1 ambiguous' in report.summary()


def test_no_poses_and_no_truth_are_failures() -> None:
    empty = Report()
    empty.add_frame({'transforms': []}, {'aruco_board': TRUE})
    assert any('board: no pose' in found for found in empty.problems())
    unmatched = Report()
    unmatched.add_frame({'transforms': []}, None)
    assert 'no truth' in unmatched.problems()[0]
    assert 'nan' in unmatched.summary()
