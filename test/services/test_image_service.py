from dataclasses import replace

from builders import (
    HEIGHT, make_aruco, make_camera, make_context, make_frame, make_view, STAMP, WIDTH)
import cv2
import numpy as np
import pytest

from camws_bridge.models import EncodedImage, Variant
from camws_bridge.services import image_service
from camws_bridge.services.image_service import CATALOGUE, ImageService, RAW
from camws_bridge.vision import encoding, image_ops
from camws_bridge.vision.camera import project_points
from camws_bridge.vision.detection import MarkerDetector
from camws_bridge.vision.finding import MarkerFinder
from camws_bridge.vision.encoding import JPEG, PNG
from camws_bridge.vision.geometry import transform_points

VIEW = make_view()
COLOUR = np.dstack([VIEW.gray, VIEW.gray // 2 + 60, 255 - VIEW.gray])
DEPTH = np.tile(np.array([0, 400, 1000, 65535], np.uint16), (HEIGHT, WIDTH // 4))


def full_frame(**changes):
    return replace(make_frame(COLOUR, VIEW.camera, depth=DEPTH), **changes)


def make_service(board=VIEW.board):
    return ImageService(make_aruco(board))


def produce(stream_id, frame=None, board=VIEW.board, **variant):
    context = make_context(full_frame() if frame is None else frame, depth__max_m=2.0)
    return make_service(board).produce(context, Variant(stream_id, **variant))


def picture(*arguments, **keywords):
    """Produce and decode."""
    product = produce(*arguments, **keywords)
    image = cv2.imdecode(np.frombuffer(product.data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert encoding.inspect(product.data) == (product.content_type, product.width, product.height)
    assert image.shape[:2] == (product.height, product.width)
    return image


def project(points):
    return project_points(VIEW.camera, transform_points(VIEW.camera_from_board, points))


def test_the_catalogue_is_the_contracts():
    assert {product.stream_id: product.content_type for product in CATALOGUE.values()} == {
        'color': JPEG, 'rectified': JPEG, 'aruco_debug': JPEG, 'board_perspective': JPEG,
        'board_mask': PNG, 'marker_mask': PNG, 'depth': JPEG, 'depth_raw': PNG}
    assert {name for product in CATALOGUE.values() for name in product.needs} == {
        'calibration', 'board', 'depth'}


@pytest.mark.parametrize('stream_id', CATALOGUE)
def test_every_product_of_a_full_frame_is_there_and_leaves_the_frame_alone(stream_id):
    frame = full_frame()
    before = frame.pixels.copy()
    assert picture(stream_id, frame).size
    assert np.array_equal(frame.pixels, before)


def test_color_is_the_camera_image():
    assert np.abs(picture('color').astype(int) - COLOUR).mean() < 5
    assert picture('color', make_frame(VIEW.gray)).ndim == 2
    assert np.array_equal(picture('color', content_type=PNG), COLOUR)


def encoded_frame(content_type=JPEG):
    encoded = EncodedImage(encoding.encode(COLOUR, content_type, 93), content_type)
    return full_frame(pixels=None, encoded=encoded)


@pytest.mark.parametrize('width', [None, WIDTH, 4000])
def test_a_jpeg_from_the_camera_passes_byte_for_byte(width):
    frame = encoded_frame()
    product = produce('color', frame, width=width)
    assert product.data is frame.encoded.data
    assert (product.width, product.height, product.content_type) == (WIDTH, HEIGHT, JPEG)


@pytest.mark.parametrize('variant', [
    {'width': 100}, {'quality': 93}, {'content_type': PNG}])
def test_who_wants_it_otherwise_gets_it_encoded_anew(variant):
    frame = encoded_frame()
    product = produce('color', frame, **variant)
    assert product.data != frame.encoded.data
    assert product.width == variant.get('width', WIDTH)


def test_a_png_from_the_camera_becomes_the_jpeg_of_the_contract():
    frame = encoded_frame(PNG)
    assert encoding.inspect(produce('color', frame).data)[0] == JPEG
    assert produce('color', frame, content_type=PNG).data is frame.encoded.data


@pytest.mark.parametrize('stream_id', CATALOGUE)
def test_a_smaller_size_is_made_a_larger_is_not(stream_id):
    whole = picture(stream_id)
    assert picture(stream_id, width=4000).shape == whole.shape
    small = picture(stream_id, width=120)
    assert small.shape[:2] == (round(whole.shape[0] * 120 / whole.shape[1]), 120)
    if CATALOGUE[stream_id].content_type == PNG:
        assert set(np.unique(small)) <= set(np.unique(whole))


def test_quality_is_the_clients_or_the_settings():
    sizes = [len(produce('color', quality=quality).data) for quality in (10, None, 95)]
    assert sizes == sorted(set(sizes))
    context = make_context(full_frame(), jpeg__quality=10)
    assert len(make_service().produce(context, Variant('color')).data) == sizes[0]


def test_rectified_shows_points_where_a_camera_without_a_lens_would():
    gray = cv2.cvtColor(picture('rectified', content_type=PNG), cv2.COLOR_BGR2GRAY)
    # The red channel is the negative: only blue and green count for the markers' contrast.
    found = MarkerDetector(VIEW.board.dictionary, min_perimeter_px=40).detect(gray)
    assert len(found) == 14
    flat = make_camera('plumb_bob-0')
    for marker in found[:12]:
        corners = transform_points(VIEW.camera_from_board,
                                   VIEW.board.marker_corners(marker.marker_id))
        assert np.max(np.abs(marker.corners - project_points(flat, corners))) < 1.5


def test_without_a_lens_the_image_is_rectified_already():
    frame = full_frame(camera=make_camera('plumb_bob-0'))
    assert np.array_equal(picture('rectified', frame, content_type=PNG), COLOUR)


def test_without_a_lens_the_camera_may_still_be_turned():
    turned = make_camera('plumb_bob-0', zoom=0.5)
    shown = picture('rectified', full_frame(camera=turned), content_type=PNG)
    # P has half of K's focal length: the image's border is nowhere to be seen.
    assert not shown[:40].any()
    assert shown[150:210, 200:280].any()


def assert_upright(view):
    """Assert that each marker stands upright where the board has it."""
    x0, y0, x1, _ = VIEW.board.area
    dots = view.shape[1] / (x1 - x0)
    found = MarkerDetector(VIEW.board.dictionary).detect(view)
    assert [marker.marker_id for marker in found] == list(VIEW.board.marker_ids)
    for marker in found:
        points = VIEW.board.marker_corners(marker.marker_id)[:, :2] - (x0, VIEW.board.area[3])
        expected = points * (dots, -dots) - 0.5
        assert np.max(np.abs(marker.corners - expected)) < 4


@pytest.mark.parametrize('camera', [VIEW.camera, None], ids=['calibrated', 'uncalibrated'])
def test_the_board_is_seen_straight_from_above(camera):
    view = picture('board_perspective', make_frame(VIEW.gray, camera))
    assert view.shape == (round(640 * 0.16 / 0.21), 640)
    assert_upright(view)


def inside_the_outline(margin):
    """Return which pixels show the board, its area grown by ``margin`` metres."""
    x0, y0, x1, y1 = VIEW.board.area
    grid = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT)), 2).reshape(-1, 1, 2)
    rays = cv2.undistortPoints(grid.astype(float), VIEW.camera.k, VIEW.camera.d)[:, 0]
    pose = VIEW.camera_from_board
    plane = np.linalg.inv(np.column_stack([pose[:3, :2], pose[:3, 3]]))
    points = np.column_stack([rays, np.ones(len(rays))]) @ plane.T
    x, y = (points[:, :2] / points[:, 2:]).T
    return ((x > x0 - margin) & (x < x1 + margin) & (y > y0 - margin) & (y < y1 + margin)
            ).reshape(HEIGHT, WIDTH)


@pytest.mark.parametrize('camera', [VIEW.camera, None], ids=['calibrated', 'uncalibrated'])
def test_the_board_mask_is_white_inside_the_outline_and_black_outside(camera):
    mask = picture('board_mask', make_frame(VIEW.gray, camera))
    margin = 0.002 if camera else 0.003         # 1.7 px; the homography leaves the lens in
    assert np.all(mask[inside_the_outline(-margin)] == 255)
    assert not mask[~inside_the_outline(margin)].any()


def marker_outline(marker_id):
    return project(VIEW.board.marker_corners(marker_id))


def test_the_marker_mask_shows_all_markers_or_the_one_asked_for():
    everything, one = picture('marker_mask'), picture('marker_mask', marker_id=5)
    for marker_id in VIEW.board.marker_ids:
        x, y = np.rint(marker_outline(marker_id).mean(0)).astype(int)
        assert everything[y, x] == 255
        assert one[y, x] == (255 if marker_id == 5 else 0)
    area = cv2.contourArea(marker_outline(5).astype(np.float32))
    assert np.count_nonzero(one) == pytest.approx(area, rel=0.12)
    assert set(np.unique(everything)) == {0, 255}
    assert everything[5, 5] == 0
    assert produce('marker_mask', marker_id=77) is None


def test_depth_is_coloured_over_the_configured_range():
    shown = picture('depth', content_type=PNG)
    none, near, middle, far = (shown[0, column].astype(int) for column in range(4))
    assert not none.any()
    assert near[0] > near[2]        # blue at the near end,
    assert far[2] > far[0]          # red at the far one
    assert np.array_equal(shown[0, 3], shown[HEIGHT - 1, WIDTH - 1])
    assert not np.array_equal(near, middle)


@pytest.mark.parametrize('metres', [False, True])
def test_depth_raw_is_exact(metres):
    depth = (DEPTH / 1000).astype(np.float32) if metres else DEPTH
    if metres:
        depth[0, :4] = [np.nan, np.inf, -1, 70]
    raw = picture('depth_raw', full_frame(depth=depth))
    assert raw.dtype == np.uint16
    assert np.array_equal(raw[1:], DEPTH[1:])
    assert raw[0, :4].tolist() == ([0] * 4 if metres else DEPTH[0, :4].tolist())


def test_what_is_drawn_into_the_debug_image():
    plain = make_context(make_frame(VIEW.gray, VIEW.camera))
    drawn = make_service().picture(plain, Variant('aruco_debug'))
    changed = np.any(drawn != np.dstack([VIEW.gray] * 3), axis=2)
    for marker_id in VIEW.board.marker_ids:                     # outlines
        x, y = np.rint(marker_outline(marker_id)[0]).astype(int)
        assert changed[y - 3:y + 4, x - 3:x + 4].any()
    x, y = np.rint(project(VIEW.board.outline)[0]).astype(int)  # the board's area
    assert changed[y - 3:y + 4, x - 3:x + 4].any()
    robot = project(make_aruco().board_from_robot[:3, 3][None])[0]
    x, y = np.rint(robot).astype(int)                           # the robot
    assert changed[y - 3:y + 4, x - 3:x + 4].any()
    assert not changed[:40, :100].any()


MISSING = [
    ('rectified', {'camera': None}), ('depth', {'depth': None}), ('depth_raw', {'depth': None}),
    *((stream_id, {'pixels': np.full((HEIGHT, WIDTH), 120, np.uint8), 'encoding': 'mono8'})
      for stream_id in ('board_perspective', 'board_mask', 'marker_mask'))]


@pytest.mark.parametrize(('stream_id', 'changes'), MISSING)
def test_what_the_frame_does_not_hold_is_none(stream_id, changes):
    assert produce(stream_id, full_frame(**changes)) is None


@pytest.mark.parametrize('stream_id', ['board_perspective', 'board_mask'])
def test_without_a_board_there_is_no_picture_of_it(stream_id):
    assert produce(stream_id, board=None) is None


def test_the_debug_image_never_fails():
    empty = np.full((HEIGHT, WIDTH), 120, np.uint8)
    for frame in (make_frame(empty), make_frame(empty, VIEW.camera), make_frame(VIEW.gray)):
        for board in (None, VIEW.board):
            assert produce('aruco_debug', frame, board)


def test_nothing_is_computed_twice(monkeypatch):
    calls, frames = [], [encoded_frame(), encoded_frame()]

    def count(module, name):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *arguments, **keywords: (
            calls.append(name), original(*arguments, **keywords))[1])

    for module, names in (
            (encoding, ('encode', 'decode')), (image_service, ('rectification_maps',)),
            (image_ops, ('resize_to_width', 'rectify', 'board_view', 'outline_mask',
                         'colour_depth'))):
        for name in names:
            count(module, name)
    find = MarkerFinder.find
    monkeypatch.setattr(MarkerFinder, 'find', lambda self, *arguments: (
        calls.append('find'), find(self, *arguments))[1])
    service = make_service()
    for frame in frames:
        context = make_context(frame)
        for _ in range(2):
            for stream_id in CATALOGUE:
                service.produce(context, Variant(stream_id))
                # How a message is framed changes none of its bytes.
                service.produce(context, Variant(stream_id, framed=True, embed=('markers',)))
    once_a_frame = {'find': 1, 'rectify': 1, 'board_view': 1, 'outline_mask': 2,
                    'colour_depth': 1, 'decode': 2, 'encode': 7, 'resize_to_width': 7}
    assert {name: calls.count(name) for name in once_a_frame} == {
        name: 2 * number for name, number in once_a_frame.items()}
    assert calls.count('rectification_maps') == 1       # once for both frames


def test_nothing_is_made_that_nobody_asked_for(monkeypatch):
    # Inject a fault by letting detection fail: what does not need it works.
    monkeypatch.setattr(MarkerFinder, 'find', lambda *_: pytest.fail('not asked for'))
    for stream_id in ('color', 'rectified', 'depth', 'depth_raw'):
        assert produce(stream_id)


def test_variants_share_what_they_have_in_common():
    service, context = make_service(), make_context(full_frame())
    small, good = Variant('color', width=100), Variant('color', width=100, quality=95)
    assert service.produce(context, small) is service.produce(context, small)
    assert service.produce(context, good).data != service.produce(context, small).data
    assert service.picture(context, small) is service.picture(context, good)


def test_depth_that_arrives_later_completes_the_frame():
    service, frame = make_service(), full_frame(depth=None)
    context = make_context(frame)
    color = service.produce(context, Variant('color'))
    assert service.produce(context, Variant('depth')) is None
    assert service.produce(context, Variant('depth', content_type=RAW)) is None
    context.add_depth(replace(frame, depth=DEPTH))
    assert service.produce(context, Variant('depth'))
    assert service.produce(context, Variant('depth', content_type=RAW)).data == DEPTH.tobytes()
    assert service.produce(context, Variant('color')) is color


def test_a_new_calibration_makes_new_maps():
    service = make_service()
    first, second = (service.picture(make_context(full_frame(camera=make_camera(lens))),
                                     Variant('rectified'))
                     for lens in ('plumb_bob-5', 'equidistant-4'))
    assert not np.array_equal(first, second)


def test_raw_pixels_are_packed():
    padded = np.zeros((HEIGHT, WIDTH + 7, 3), np.uint8)[:, :WIDTH]
    padded[:] = COLOUR
    product = produce('color', full_frame(pixels=padded), content_type=RAW)
    assert product.data == COLOUR.tobytes()
    assert (product.width, product.height, product.encoding, product.step) == (
        WIDTH, HEIGHT, 'bgr8', WIDTH * 3)
    nv12 = np.arange(6 * 4, dtype=np.uint8).reshape(6, 4)
    product = produce('color', full_frame(pixels=nv12, width=4, height=4, encoding='nv12'),
                      content_type=RAW)
    assert (product.data, product.encoding, product.step) == (nv12.tobytes(), 'nv12', 4)
    product = produce('depth', full_frame(depth=DEPTH.astype(np.float32)), content_type=RAW)
    assert (product.encoding, product.step) == ('32FC1', WIDTH * 4)
    product = produce('color', encoded_frame(), content_type=RAW)
    assert (product.encoding, len(product.data)) == ('bgr8', HEIGHT * WIDTH * 3)
    assert make_frame(COLOUR).stamp == STAMP
