from builders import facing, LENSES, make_camera, marker_sheet, render
import cv2
import numpy as np
import pytest

from camws_bridge.vision.boards import marker_square
from camws_bridge.vision.camera import project_points
from camws_bridge.vision.edges import EdgeShift, measure_shift, refine_corners, subpix
from camws_bridge.vision.geometry import transform_points

MODULES, LENGTH = 7, 0.08
POSES = (facing(-0.1, 0.05, 0.45, tilt=0.4), facing(0.08, -0.06, 0.5, turn=-0.7, spin=0.5),
         facing(0.09, 0.09, 0.6, tilt=-0.3, turn=0.3, spin=2.0))


def look(lens='plumb_bob-5', gamma=1.0):
    """Return a blurred picture of three markers, its camera and their true corners."""
    camera = make_camera(lens)
    sheets = [(marker_sheet(index, LENGTH), pose) for index, pose in enumerate(POSES)]
    light = cv2.GaussianBlur(render(camera, *sheets).astype(np.float32) / 255, (0, 0), 0.7)
    light = 0.1 + 0.75 * light
    truth = np.array([project_points(camera, transform_points(pose, marker_square(LENGTH)))
                      for pose in POSES])
    return np.round(255 * light ** (1 / gamma)).astype(np.uint8), camera, truth


def roughly(truth, px=1.0, seed=0):
    return truth + np.random.default_rng(seed).uniform(-px, px, truth.shape)


def distances(corners, truth):
    return np.linalg.norm(corners - truth, axis=-1)


@pytest.mark.parametrize('lens', LENSES)
def test_edges_are_straight_as_the_lens_bends_them(lens):
    gray, camera, truth = look(lens)
    found = refine_corners(gray, roughly(truth), camera)
    assert found.by_edges.all()
    assert distances(found.corners, truth).max() < 0.12
    assert (found.residual < 0.1).all()
    assert np.sqrt(found.covariance[..., 0, 0]).max() < 0.15


def test_edges_tell_more_than_corners():
    gray, camera, truth = look()
    start = roughly(truth)
    by_edges = distances(refine_corners(gray, start, camera).corners, truth)
    by_corners = distances(subpix(gray, start.reshape(-1, 2), 4).reshape(truth.shape), truth)
    assert np.median(by_edges) < 0.5 * np.median(by_corners)


def test_a_covered_corner_is_where_what_is_seen_of_its_edges_leads():
    gray, camera, truth = look()
    start = truth.copy()
    for corners, begin in zip(truth, start):
        inwards = corners.mean(axis=0) - corners[0]
        along = [corners[1] - corners[0], corners[3] - corners[0]]
        # A sheet of paper lies across the corner; the outline that is left is cut short.
        patch = corners[0] - 0.2 * inwards + np.array(
            [[0, 0], 0.4 * along[0], 0.3 * along[0] + 0.3 * along[1], 0.4 * along[1]])
        cv2.fillPoly(gray, [np.rint(patch).astype(np.int32)], 120)
        begin[0] += 0.3 * inwards
    found = refine_corners(gray, start, camera)
    assert found.by_edges.all()
    assert distances(found.corners, truth).max() < 0.4


def test_a_corner_of_other_edges_is_not_made_up():
    gray, camera, truth = look()
    start = truth.copy()
    start[:, 0] += 0.9 * (truth[:, 2] - truth[:, 0])
    found = refine_corners(gray, start, camera)
    assert not found.by_edges[:, 0].any()


def test_markers_white_on_black_have_the_same_corners():
    gray, camera, truth = look()
    positive = refine_corners(gray, truth, camera)
    negative = refine_corners(255 - gray, truth, camera)
    np.testing.assert_allclose(negative.corners, positive.corners, atol=0.01)
    assert negative.by_edges.all()


def test_without_a_camera_lines_are_those_of_the_image():
    gray, _, truth = look('plumb_bob-0')
    found = refine_corners(gray, roughly(truth))
    assert found.by_edges.all()
    assert distances(found.corners, truth).max() < 0.12


def test_edges_with_stairs_are_edges_still():
    # As in pictures that were made smaller by leaving out pixels: rough all along.
    gray, _, truth = look('plumb_bob-0')
    scale = 0.43
    smaller = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    # Pixel i shows what stood at floor(i / scale), on average half a pixel before i / scale.
    expected = (truth + 0.5) * scale
    found = refine_corners(smaller, roughly(expected))
    assert found.by_edges.all()
    assert np.median(distances(found.corners, expected)) < 0.2


def test_a_hidden_corner_falls_back_and_the_others_stay():
    gray, camera, truth = look()
    x, y = truth[0, 1].round().astype(int)
    gray[y - 40:y + 40, x - 40:x + 40] = 30
    found = refine_corners(gray, truth, camera)
    assert not found.by_edges[0, 1]
    assert found.by_edges[1:].all()
    assert distances(found.corners[1:], truth[1:]).max() < 0.12
    # It stays where the detector saw it, and is trusted accordingly.
    assert distances(found.corners[0, 1], truth[0, 1]) < 6
    assert found.covariance[0, 1, 0, 0] > 10 * found.covariance[1, 1, 0, 0]


def test_a_part_of_an_edge_may_be_hidden():
    gray, camera, truth = look()
    x, y = truth[0, :2].mean(axis=0).round().astype(int)
    gray[y - 4:y + 4, x - 5:x + 5] = 128
    found = refine_corners(gray, truth, camera)
    assert found.by_edges[0].all()
    assert distances(found.corners, truth).max() < 0.15


def test_where_there_are_no_edges_corners_stay():
    noise = np.random.default_rng(0).integers(100, 140, (360, 480)).astype(np.uint8)
    truth = look()[2]
    found = refine_corners(noise, truth, fall_back=False)
    assert not found.by_edges.any()
    np.testing.assert_array_equal(found.corners, truth)
    flat = refine_corners(np.full((360, 480), 99, np.uint8), truth)
    assert not flat.by_edges.any()
    assert np.isnan(flat.residual).all()


def test_corners_beyond_the_image_or_of_no_shape_do_no_harm():
    gray, camera, truth = look()
    odd = np.stack([truth[0] - 400, np.full((4, 2), 50.0), truth[0]])
    found = refine_corners(gray, odd, camera)
    assert not found.by_edges[:2].any()
    assert found.by_edges[2].all()
    assert np.isfinite(found.corners[2]).all()
    nothing = refine_corners(gray, np.zeros((0, 4, 2)), camera)
    assert nothing.corners.shape == (0, 4, 2)
    assert nothing.covariance.shape == (0, 4, 2, 2)


def test_two_edges_say_less_along_the_bisector_of_an_acute_angle():
    camera, pose = make_camera(), facing(z=0.35, turn=1.05, spin=0.78)
    gray = render(camera, (marker_sheet(3, LENGTH), pose))
    truth = project_points(camera, transform_points(pose, marker_square(LENGTH)))
    found = refine_corners(gray, truth[None], camera)
    assert found.by_edges.all()
    sides = truth[[1, 3]] - truth[0]
    sides /= np.linalg.norm(sides, axis=1)[:, None]
    bisector = sides.sum(axis=0) / np.linalg.norm(sides.sum(axis=0))
    across = bisector[::-1] * (1, -1)
    along = bisector @ found.covariance[0, 0] @ bisector
    assert (sides[0] @ sides[1] > 0) == (along > across @ found.covariance[0, 0] @ across)


def outwards(truth, corners):
    """Return by how far (px) edges lie outside of the true ones, on average."""
    radius = [np.linalg.norm(quads - quads.mean(axis=1, keepdims=True), axis=2).mean(axis=1)
              for quads in (corners, truth)]
    return float(np.mean(radius[0] - radius[1])) / np.sqrt(2)


def test_gamma_makes_white_grow_and_the_border_tells_by_how_much():
    gray, camera, truth = look(gamma=2.2)
    naive = refine_corners(gray, truth, camera)
    bias = -outwards(truth, naive.corners)
    assert bias > 0.1
    shifts = measure_shift(gray, naive.corners, camera, MODULES)
    assert np.median(shifts) == pytest.approx(bias, abs=0.04)
    corrected = refine_corners(gray, truth, camera, float(np.median(shifts)))
    assert abs(outwards(truth, corrected.corners)) < 0.03
    # Measured again from corrected corners it is the same.
    again = measure_shift(gray, corrected.corners, camera, MODULES, float(np.median(shifts)))
    np.testing.assert_allclose(again, shifts, atol=0.02)


def test_linear_images_have_no_shift():
    gray, camera, truth = look()
    corners = refine_corners(gray, truth, camera).corners
    assert np.abs(measure_shift(gray, corners, camera, MODULES)).max() < 0.04
    assert measure_shift(gray, np.zeros((0, 4, 2)), camera, MODULES).shape == (0,)
    small = truth[:1].mean(axis=1, keepdims=True) + (truth[:1] - truth[:1].mean(axis=1)) / 9
    assert np.isnan(measure_shift(gray, small, camera, MODULES)).all()


def test_the_common_shift_is_learned_and_nonsense_is_not():
    learned = EdgeShift()
    assert (learned.px, learned.sigma > 0.1) == (0.0, True)
    learned.learn(np.array([np.nan, 5.0]))
    assert learned.px == 0.0
    rng = np.random.default_rng(0)
    for _ in range(20):
        learned.learn(0.2 + 0.02 * rng.standard_normal(4))
    assert learned.px == pytest.approx(0.2, abs=0.02)
    assert learned.sigma < 0.02
    # It follows when exposure or focus change.
    for _ in range(40):
        learned.learn(np.array([0.05]))
    assert learned.px == pytest.approx(0.05, abs=0.02)
