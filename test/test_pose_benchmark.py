"""The renderer behind benchmarks/pose and a tiny run of the benchmark itself."""
from __future__ import annotations

import dataclasses
import json
from pathlib import Path
import sys

import cv2
import numpy as np
import pytest

# The benchmarks are no package that is installed.
sys.path.append(str(Path(__file__).parents[1]))

from benchmarks.fiducials.conditions import CHEAP, CLEAN, CONDITIONS, develop, PHONE
from benchmarks.fiducials.main import main
from benchmarks.fiducials.measures import (
    board, corners, false_ids, MEASURES, motion, poses, recall)
from benchmarks.fiducials.methods import (
    AprilTag, Estimate, Ours, OURS, PlainOpenCv, SUBPIX)
from benchmarks.fiducials.plots import charts
from benchmarks.fiducials.report import format_table, Row, Target
from benchmarks.fiducials import scoring
from benchmarks.fiducials.renderer import (
    BLACK, marker_print, marker_truth, Placed, render, sheet_print, View, WHITE)
from benchmarks.fiducials.scenes import (
    background, facing, four_marker_board, moving, random_board, random_markers)
from benchmarks.fiducials.studies import Bench, observe, Plan, Taken
from benchmarks.harness.native import BUILD
from camws_bridge.demo.scene import demo_camera_model
from camws_bridge.models import Detection
from camws_bridge.vision.camera import undistort_points
from camws_bridge.vision.geometry import transform_points

_VIEW = View(demo_camera_model(640, 480))
_DICTIONARY = 'DICT_5X5_100'
_LENGTH = 0.05


def marker_at(view, size, tilt, roll, pixel=(300.0, 250.0), about=0.7):
    distance = view.camera.k[0, 0] * _LENGTH / size
    pose = facing(view, np.array(pixel), distance, np.radians(tilt), about, roll)
    return (Placed(marker_print(_DICTIONARY, 3, _LENGTH), pose),
            marker_truth(view, 3, _LENGTH, pose))


def gray_wall():
    return np.full((480, 640), 0.4, np.float32)


def edge_offsets(image, a, b):
    """Where the light changes along 60 normals of the edge from a to b, relative to it (px)."""
    along = (b - a) / np.linalg.norm(b - a)
    normal = np.array([along[1], -along[0]])
    t = np.linspace(-3.0, 3.0, 121)
    feet = a + np.linspace(0.15, 0.85, 60)[:, None] * (b - a)
    points = (feet[:, None] + t[:, None] * normal).astype(np.float32)
    profiles = cv2.remap(image, points[..., 0], points[..., 1], cv2.INTER_LINEAR)
    steps = np.diff(profiles, axis=1)
    middles = (t[1:] + t[:-1]) / 2
    return (steps * middles).sum(1) / steps.sum(1)


@pytest.mark.parametrize('tilt, roll', [(0, 0.0), (0, 0.01), (30, 0.3), (60, 2.0)])
def test_edges_stand_where_the_truth_says(tilt, roll):
    # Without distortion: an edge between two true corners is then straight.
    camera = demo_camera_model(640, 480)
    camera.d[:] = 0.0
    view = View(camera)
    item, truth = marker_at(view, 190, tilt, roll)
    image = render(view, gray_wall(), [item])
    for a, b in zip(truth.corners, np.roll(truth.corners, -1, axis=0)):
        offsets = edge_offsets(image, a, b)
        # A pixel's area and the look-up between pixels are symmetric: no bias may be left.
        assert abs(offsets.mean()) < 0.004
        assert np.sqrt(np.mean(offsets ** 2)) < 0.05


@pytest.mark.parametrize('row_skew', [0.0, 0.02])
def test_a_pixel_is_the_mean_of_what_its_rays_meet(row_skew):
    view = View(demo_camera_model(640, 480), row_skew)
    item, _ = marker_at(view, 40, 50, 0.4, (560.0, 420.0))
    image = render(view, gray_wall(), [item])
    # The same by another way: a plain 16 x 16 grid of samples, each undistorted by itself.
    rows, columns = np.mgrid[390:450, 530:590]
    offsets = (np.arange(16) + 0.5) / 16 - 0.5
    x = columns[..., None, None] + offsets[:, None]
    y = rows[..., None, None] + offsets
    x, y = np.broadcast_arrays(x - row_skew * (y - 240), y)
    rays = undistort_points(view.camera, np.stack([x.ravel(), y.ravel()], axis=1))
    pose = item.camera_from_print
    met = np.column_stack([rays, np.ones(len(rays))]) @ np.linalg.inv(
        np.column_stack([pose[:3, :2], pose[:3, 3]])).T
    u, v = 7 * (met[:, 0] / met[:, 2] / _LENGTH + 0.5), 7 * (0.5 - met[:, 1] / met[:, 2] / _LENGTH)
    inside = (u > -1) & (u < 8) & (v > -1) & (v < 8)
    cells = np.pad(item.print.cells, 1, constant_values=WHITE)
    light = np.where(inside, cells[np.clip(np.floor(v) + 1, 0, 8).astype(int),
                                   np.clip(np.floor(u) + 1, 0, 8).astype(int)], 0.4)
    expected = light.reshape(60, 60, -1).mean(-1)
    assert np.ptp(expected) > 0.7
    difference = image[390:450, 530:590] - expected
    assert np.abs(difference).max() < 0.06 and np.sqrt(np.mean(difference ** 2)) < 0.006


def test_more_samples_change_nothing_that_matters():
    item, _ = marker_at(_VIEW, 120, 40, 0.8)
    a, b = (render(_VIEW, gray_wall(), [item], samples) for samples in (64, 1024))
    assert np.sqrt(np.mean((a - b)[a != 0.4] ** 2)) < 0.004


def test_a_later_print_hides_an_earlier_one():
    item, truth = marker_at(_VIEW, 100, 0, 0.0)
    over = Placed(sheet_print(0.02, 0.02, 0.3), item.camera_from_print)
    image = render(_VIEW, gray_wall(), [item, over])
    x, y = np.rint(truth.corners.mean(0)).astype(int)
    assert image[y, x] == np.float32(0.3)
    inner = truth.corners[0] + 0.05 * (truth.corners[2] - truth.corners[0])
    assert image[tuple(np.rint(inner).astype(int)[::-1])] == pytest.approx(BLACK)


def test_a_print_behind_the_camera_is_refused():
    item, _ = marker_at(_VIEW, 100, 0, 0.0)
    pose = item.camera_from_print.copy()
    pose[2, 3] = -0.5
    with pytest.raises(ValueError, match='behind the camera'):
        render(_VIEW, gray_wall(), [Placed(item.print, pose)])


def test_scenes_are_the_same_for_the_same_seed_and_lie_in_the_picture():
    first, again = (random_markers(_VIEW, np.random.default_rng(5), 4) for _ in range(2))
    assert np.array_equal(first.picture(CLEAN, 1), again.picture(CLEAN, 1))
    assert not np.array_equal(first.picture(CLEAN, 1), first.picture(CLEAN, 2))
    for truth in first.markers:
        assert np.all((truth.corners > 0) & (truth.corners < (639, 479)))


def test_tilt_is_against_the_line_of_sight():
    pose = facing(_VIEW, np.array([40.0, 60.0]), 0.7, np.radians(50), 1.1, 0.4)
    sight = pose[:3, 3] / np.linalg.norm(pose[:3, 3])
    assert np.degrees(np.arccos(-sight @ pose[:3, 2])) == pytest.approx(50)
    assert pose[2, 3] == pytest.approx(0.7)
    assert _VIEW.project(pose[None, :3, 3])[0] == pytest.approx([40, 60], abs=1e-6)


def test_the_board_is_where_its_markers_are():
    made = random_board(_VIEW, np.random.default_rng(2), four_marker_board(), 0.8)
    for truth in made.scene.markers:
        corners = transform_points(made.camera_from_board,
                                   made.board.marker_corners(truth.marker_id))
        assert truth.corners == pytest.approx(_VIEW.project(corners), abs=1e-9)


@pytest.mark.parametrize('condition', (*CONDITIONS, PHONE, CHEAP), ids=lambda how: how.name)
def test_no_condition_moves_the_picture(condition):
    # A disc of light: its centre of mass stays, whatever was done to the picture.
    rows, columns = np.mgrid[:120, :160]
    light = np.clip(20.5 - np.hypot(columns - 80.25, rows - 60.5), 0, 1).astype(np.float32)
    seen = np.zeros(2)
    for seed in range(24):
        image = develop(light, condition, np.random.default_rng(seed)).astype(float)
        image = np.maximum(image - 0.3 * image.max(), 0)
        seen += np.array([(image * columns).sum(), (image * rows).sum()]) / image.sum() / 24
    # Light that falls off to one side shifts the centre of mass, not the edges.
    assert np.hypot(*(seen - (80.25, 60.5))) < (1.5 if condition.shadow < 1 else 0.4)


def test_markers_move_leap_and_return():
    frames = list(moving(_VIEW, np.random.default_rng(0), 60))
    counts = [len(scene.markers) for scene in frames]
    assert max(counts) == 4 and min(counts) < 4
    centres = {}
    steps = []
    for scene in frames:
        for truth in scene.markers:
            centre = truth.corners.mean(0)
            if truth.marker_id in centres:
                steps.append(np.linalg.norm(centre - centres[truth.marker_id]))
            centres[truth.marker_id] = centre
    assert np.median(steps) < 12 and max(steps) > 60


def test_markers_that_do_not_leap_are_always_seen():
    for scene in moving(_VIEW, np.random.default_rng(3), 40, jumps=False):
        assert len(scene.markers) == 4
        for truth in scene.markers:
            assert np.all((truth.corners > 0) & (truth.corners < (639, 479)))


def test_an_empty_wall_has_texture():
    wall = background(np.random.default_rng(0), 640, 480)
    assert wall.shape == (480, 640) and wall.dtype == np.float32
    assert 0 <= wall.min() and wall.max() <= 1 and wall.std() > 0.05


# The benchmark itself, on a handful of pictures and without AprilTag (of the network).


@pytest.fixture(scope='module')
def bench():
    plan = Plan(pictures=1, hard=1, boards=2, empty=2, sequences=1, frames=6, repeats=1)
    return Bench(plan, lambda: [Ours(), PlainOpenCv('NONE'), PlainOpenCv(SUBPIX)])


def taken(condition, count=4, seed=0, **how):
    for index in range(seed, seed + count):
        scene = random_markers(_VIEW, np.random.default_rng(index), 8, **how)
        yield Taken(scene, condition, index, _VIEW.camera)


def test_ours_beat_subpix_by_far_on_clean_pictures():
    study = observe([Ours(), PlainOpenCv(SUBPIX)], taken(CLEAN))
    ours, plain = (scoring.corner_error(study[name]) for name in (OURS, SUBPIX))
    assert ours[0] < 0.05 and ours[0] < plain[0] / 3 and ours[1] < plain[1] / 2
    off, turned = scoring.pose_error(study[OURS])
    plain_off, plain_turned = scoring.pose_error(study[SUBPIX])
    assert off < plain_off / 3 and turned < plain_turned / 2


def test_the_same_twice_is_the_same():
    first, again = (observe([Ours()], taken(CLEAN, 1))[OURS] for _ in range(2))
    assert [sample.corner_errors.tolist() for sample in first] \
        == [sample.corner_errors.tolist() for sample in again]


@pytest.mark.parametrize('measure', [board, false_ids, motion])
def test_measures_yield_rows_of_every_method(bench, measure):
    for row in measure(bench):
        assert OURS in row.values and ('NONE' in row.values or 'ellipsoid' in row.measure)
        assert row.count > 0 and all(np.isfinite(row.values[OURS]))
        assert row.verdict in ('', 'met', 'MISSED')
        assert json.loads(json.dumps(row.as_dict()))['measure'] == row.measure


def test_a_table_and_charts_are_made(bench):
    rows = [*corners(bench), *recall(bench), *poses(bench)]
    assert {condition.name for condition in CONDITIONS} <= {
        row.case.split(',')[0] for row in rows if row.measure.startswith('corners')}
    lines = format_table(rows, (OURS, 'NONE', SUBPIX)).splitlines()
    assert len(lines) == len(rows) + 2
    assert lines[0].split()[:2] == ['measure', 'case'] and OURS in lines[0]
    by_size, by_tilt = charts(bench.singles(CLEAN))
    for chart in (by_size, by_tilt):
        assert set(chart.curves) == {OURS, 'NONE', SUBPIX}
        assert len(chart.curves[OURS].middles) == len(chart.curves[OURS].medians) == 8


@pytest.mark.parametrize('target, ours, met', [
    (Target('<=', (0.05, 0.15)), (0.05, 0.1), True),
    (Target('<=', (0.05, 0.15)), (0.04, 0.2), False),
    (Target('>=', (0.995,)), (0.994,), False),
    (Target('in', (92, 98)), (95.0, 98.5), False),
    (Target('in', (92, 98)), (95.0, 93.0), True),
    (Target('<=', method=SUBPIX), (0.2, 1.0), True),
    (Target('>=', method=SUBPIX), (0.2, 1.0), False),
    (Target('<=', (1.0,)), (float('nan'),), False)])
def test_a_target_is_met_or_missed(target, ours, met):
    row = Row('measure', 'case', {OURS: ours, SUBPIX: (0.3, 1.0)}, target)
    assert row.verdict == ('met' if met else 'MISSED')


def sample(estimate, tilt=40.0):
    item, truth = marker_at(_VIEW, 100, tilt, 0.3)
    made, _ = scoring.sample_of(_VIEW.camera, truth, [])
    return dataclasses.replace(made, corners=truth.corners + (0.3, -0.4), estimate=estimate)


def test_errors_are_measured_as_they_were_made():
    _, truth = marker_at(_VIEW, 100, 40, 0.3)
    pose = truth.camera_from_marker.copy()
    pose[:3, 3] *= 1.01
    pose[:3, :3] = cv2.Rodrigues(np.array([0.0, np.radians(2), 0.0]))[0] @ pose[:3, :3]
    seen = sample(Estimate(pose, covariance=np.eye(6)))
    assert scoring.corner_error([seen]) == pytest.approx((0.5, 0.5))
    assert scoring.pose_error([seen]) == pytest.approx((1.0, 2.0))
    assert seen.size == pytest.approx(100) and seen.tilt == pytest.approx(40)
    assert scoring.flips([seen]) == (0, 0)


def test_the_mirrored_pose_is_a_flip():
    _, truth = marker_at(_VIEW, 100, 40, 0.3)
    pose = truth.camera_from_marker.copy()
    sight = pose[:3, 3] / np.linalg.norm(pose[:3, 3])
    half_turns = [2 * np.outer(axis, axis) - np.eye(3) for axis in (sight, [0.0, 0.0, 1.0])]
    pose[:3, :3] = half_turns[0] @ pose[:3, :3] @ half_turns[1]
    assert scoring.flips([sample(Estimate(pose))]) == (100, 100)
    assert scoring.flips([sample(Estimate(pose, ambiguous=True))]) == (100, 0)


def test_ellipsoids_hold_what_they_promise():
    rng = np.random.default_rng(0)
    spread = np.diag([1e-4, 2e-4, 1e-3, 0.01, 0.02, 0.005])
    _, truth = marker_at(_VIEW, 100, 40, 0.3)
    samples = []
    for error in rng.multivariate_normal(np.zeros(6), spread ** 2, 400):
        pose = truth.camera_from_marker.copy()
        pose[:3, 3] += error[:3]
        pose[:3, :3] = cv2.Rodrigues(error[3:])[0] @ pose[:3, :3]
        samples.append(sample(Estimate(pose, covariance=spread ** 2)))
    assert scoring.inside_ellipsoid(samples) == pytest.approx((95, 95), abs=3)


def test_edges_that_lie_inside_shift_negative():
    _, truth = marker_at(_VIEW, 100, 0, 0.0)
    middle = truth.corners.mean(axis=0)
    inside = middle + (truth.corners - middle) * 0.98
    made, _ = scoring.sample_of(_VIEW.camera, truth, [Detection(3, inside)])
    assert scoring.edge_bias([made]) == pytest.approx(-1.0, abs=0.05)


def test_a_wrong_measure_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(['--only', 'nothing'])
    assert 'corners' in capsys.readouterr().err and 'corners' in MEASURES


@pytest.mark.skipif(not any(BUILD.glob('peer-*/pupil_apriltags')),
                    reason='benchmarks/pose has not fetched AprilTag yet')
def test_apriltag_agrees_with_opencv_on_corners():
    method = AprilTag()
    samples = observe([method], taken(CLEAN, 2))[method.name]
    # The order of the corners and half a pixel would show.
    assert scoring.corner_error(samples)[0] < 0.2
    assert np.abs(scoring.corner_bias(samples)).max() < 0.03
