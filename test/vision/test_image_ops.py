from builders import facing, grid_board, make_camera
from hypothesis import given, strategies as st
import numpy as np
import pytest

from camws_bridge.vision import image_ops
from camws_bridge.vision.camera import rectification_maps, undistort_points, without_distortion
from camws_bridge.vision.projection import by_homography, by_pose

BOARD = grid_board()


@given(st.integers(1, 40), st.integers(1, 40), st.one_of(st.none(), st.integers(1, 60)))
def test_resizing_never_enlarges_and_keeps_the_aspect_ratio(height, width, wanted):
    image = np.zeros((height, width, 3), np.uint8)
    resized = image_ops.resize_to_width(image, wanted)
    if wanted is None or wanted >= width:
        assert resized is image
    else:
        assert resized.shape[1] == wanted
        assert abs(resized.shape[0] - height * wanted / width) <= 0.5 or resized.shape[0] == 1


def test_values_that_mean_something_are_not_averaged():
    depth = np.random.default_rng(0).choice(np.array([0, 1000, 65535], np.uint16), (40, 60))
    assert set(np.unique(image_ops.resize_to_width(depth, 17, smooth=False))) <= {0, 1000, 65535}
    stripes = np.tile(np.array([0, 200], np.uint8), (20, 20))
    assert np.all(image_ops.resize_to_width(stripes, 20) == 100)


def test_depth_in_metres_becomes_exact_millimetres():
    millimetres = np.arange(65536).reshape(256, 256)
    metres = (millimetres / 1000).astype(np.float32)
    assert np.array_equal(image_ops.depth_to_millimetres(metres), millimetres)
    given_so = millimetres.astype(np.uint16)
    assert image_ops.depth_to_millimetres(given_so) is given_so


@pytest.mark.parametrize('metres', [
    np.nan, np.inf, -np.inf, -1.0, 0.0, 0.0001, 65.536, 1000.0, 3.4e38, -3.4e38])
def test_what_is_no_depth_is_zero(metres):
    depth = np.array([[metres, 1.5]], np.float32)
    assert image_ops.depth_to_millimetres(depth).tolist() == [[0, 1500]]


def test_no_depth_is_black_and_nothing_else_is():
    depth = np.array([[0, 1, 199, 200, 3000, 5000, 5001, 65535]], np.uint16)
    black = np.all(image_ops.colour_depth(depth, 0.2, 5.0) == 0, axis=2)
    assert black.tolist() == [[True] + [False] * 7]
    holes = np.array([[np.nan, np.inf, -2.0, 1.0]], np.float32)
    black = np.all(image_ops.colour_depth(holes, 0.2, 5.0) == 0, axis=2)
    assert black.tolist() == [[True, True, True, False]]


def test_colours_go_from_blue_to_red_over_the_range_and_no_further():
    depth = np.linspace(0.5, 2.0, 256, dtype=np.float32)[None]
    colours = image_ops.colour_depth(depth, 0.5, 2.0)[0].astype(int)
    # A colour stands for one place in the range, in order.
    scale = image_ops.colour_depth(np.arange(500, 2001, dtype=np.uint16)[None], 0.5, 2.0)[0]
    _, first = np.unique(scale, axis=0, return_index=True)
    known = scale[np.sort(first)].astype(int)
    places = [int(np.argmin(np.abs(known - colour).sum(1))) for colour in colours]
    assert places == sorted(places)
    assert len(known) > 200
    blue, green, red = np.moveaxis(colours, 1, 0)
    assert blue[40] > red[40]
    assert red[-20] > blue[-20]
    outside = image_ops.colour_depth(np.array([[100, 500, 2000, 9000]], np.uint16), 0.5, 2.0)[0]
    assert outside[0].tolist() == outside[1].tolist()
    assert outside[2].tolist() == outside[3].tolist()


def test_a_mask_is_white_inside_its_outlines():
    mask = image_ops.outline_mask(20, 10, [np.array([[2.0, 2], [8, 2], [8, 7], [2, 7]]),
                                           np.array([[5.0, 4], [15, 4], [15, 8], [5, 8]])])
    assert (mask.shape, mask.dtype) == ((10, 20), np.uint8)
    assert set(np.unique(mask)) == {0, 255}
    assert np.all(mask[3:7, 3:8] == 255)        # the overlap is no hole
    assert np.all(mask[5:8, 6:15] == 255)
    assert mask[0].max() == mask[9].max() == mask[:, :1].max() == mask[:, 17:].max() == 0


def test_an_outline_follows_the_bent_edges():
    camera, pose = make_camera(), facing(0, -0.05, 0.3)
    project = by_pose(camera, pose)
    traced = image_ops.trace_outline(project, BOARD.outline)
    # Straight again without the lens: on the board, every point lies on the area's border.
    rays = undistort_points(camera, traced)
    plane_from_ray = np.linalg.inv(np.column_stack([pose[:3, :2], pose[:3, 3]]))
    onto = np.column_stack([rays, np.ones(len(rays))]) @ plane_from_ray.T
    onto = onto[:, :2] / onto[:, 2:]
    x0, y0, x1, y1 = BOARD.area
    to_border = np.min(np.abs(np.column_stack([onto - (x0, y0), onto - (x1, y1)])), axis=1)
    assert to_border.max() < 1e-6
    np.testing.assert_allclose(traced[::16], project(BOARD.outline))
    assert image_ops.trace_outline(by_pose(camera, facing(z=-1)), BOARD.outline) is None


@pytest.mark.parametrize('width', [16, 37, 320, 641])
def test_the_view_map_says_where_the_image_shows_each_point_of_the_board(width):
    project = by_pose(make_camera(), facing(0.02, 0.01, 0.4, tilt=0.6, turn=0.4, spin=1.0))
    found = image_ops.board_view_map(project, BOARD.area, width)
    x0, y0, x1, y1 = BOARD.area
    height = round(width * (y1 - y0) / (x1 - x0))
    assert found.shape == (height, width, 2)
    xs, ys = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    points = np.stack([x0 + xs * (x1 - x0), y1 - ys * (y1 - y0), 0 * xs], axis=2)
    expected = project(points.reshape(-1, 3)).reshape(found.shape)
    # cv2.remap knows 32 places between two points of the map.
    step = np.max(np.abs(np.diff(expected, axis=1))) * 8
    assert np.max(np.abs(found - expected)) < step / 32 + 0.1


def test_a_board_that_is_not_wholly_before_the_camera_has_no_view():
    project = by_pose(make_camera(), facing(z=0.05, turn=1.4))
    assert image_ops.board_view_map(project, BOARD.area, 64) is None


@pytest.mark.parametrize('area', [(0, 0, 0, 0.3), (0, 0, 1e-17, 0.3), (0, 0, 0.3, 0), (0,) * 4])
def test_an_upright_board_has_no_view_from_above(area):
    # A list of markers on a wall: their area on the floor is a line.
    project = by_pose(make_camera(), facing())
    assert image_ops.board_view_map(project, area, 640) is None


@pytest.mark.parametrize('lens', ['plumb_bob-5', 'rational-14', 'equidistant-4'])
def test_rectifying_undoes_the_lens(lens):
    camera, flat = make_camera(lens), without_distortion(make_camera(lens))
    xs, ys = np.meshgrid(np.arange(480.0), np.arange(360.0))
    rays = undistort_points(camera, np.stack([xs, ys], axis=2))
    # The picture of a sheet whose brightness rises to the right: a linear ramp again, then.
    ramp = (128 + rays[:, 0] * 150).reshape(360, 480).astype(np.float32)
    rectified = image_ops.rectify(ramp, rectification_maps(camera))
    expected = 128 + (xs - flat.k[0, 2]) / flat.k[0, 0] * 150
    inside = np.s_[60:300, 60:420]
    assert np.max(np.abs(rectified - expected)[inside]) < 0.05
    assert np.max(np.abs(ramp - expected)[inside]) > 1


POINTS = st.lists(st.tuples(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12)), min_size=4,
                  max_size=4).map(np.array)


@given(POINTS, st.sampled_from(['', '12', 'board']))
def test_drawing_stays_in_the_image_wherever_the_points_are(points, label):
    image = image_ops.drawable(np.full((30, 40), 90, np.uint8))
    image_ops.draw_area(image, points)
    image_ops.draw_axes(image, lambda _: points, 0.1, label)
    image_ops.draw_text(image, label, points[0])
    image_ops.draw_marker(image, np.clip(points, -100, 200), label)
    assert image_ops.outline_mask(40, 30, [points]).shape == (30, 40)
    assert image.shape == (30, 40, 3)


def test_a_copy_is_drawn_into():
    for image in (np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3), np.uint8)):
        assert not np.shares_memory(image_ops.drawable(image), image)


def test_axes_are_red_green_blue():
    image = np.zeros((360, 480, 3), np.uint8)
    image_ops.draw_axes(image, by_homography(BOARD.outline, np.array(
        [[100.0, 100], [400, 100], [400, 300], [100, 300]])), 0.05)
    blue, green, red = (image[..., channel] for channel in range(3))
    ys, xs = np.nonzero((red > 150) & (green < 100))
    assert np.ptp(xs) > 50 > np.ptp(ys)          # x to the right
    ys, xs = np.nonzero((green > 150) & (red < 100))
    assert np.ptp(ys) > 50 > np.ptp(xs)          # y up
    assert ys.min() < 150
