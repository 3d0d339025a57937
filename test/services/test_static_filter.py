from builders import (
    facing, grid_board, make_camera, make_context, make_frame, make_snapshot, make_view, SINGLES)
import numpy as np
import pytest

from camws_bridge.models import BoardPose, MarkerPose, SeenMarker, Stamp
from camws_bridge.services.aruco_service import ArucoService
from camws_bridge.services.static_filter import COLLECTING, MOVED, SETTLED, StaticFilter
from camws_bridge.settings import Settings
from camws_bridge.vision.boards import marker_square
from camws_bridge.vision.camera import project_points
from camws_bridge.vision.geometry import difference, from_xyz_rpy, invert, transform_points

BOARD, CAMERA = grid_board(), make_camera()
ON_BOARD = from_xyz_rpy([0.16, 0.02, 0.0, 0.0, 0.0, 0.4])
LENGTH = 0.05


class Scene:
    """A camera that looks at a board and at marker 40, image by image."""

    def __init__(self, sheet=BOARD, noise=0.1, **values):
        self.filter, self.board = StaticFilter(sheet), sheet
        self.values = {f'static__{name}': value for name, value in values.items()}
        self.noise, self.rng, self.images = noise, np.random.default_rng(0), 0
        self.camera = CAMERA

    def pixels(self, pose, points):
        seen = project_points(CAMERA, transform_points(pose, points))
        return seen + self.noise * self.rng.standard_normal(seen.shape)

    def rough(self, pose, flipped=False):
        """Return a pose as one image alone gives it."""
        if flipped:
            sight = pose[:3, 3] / np.linalg.norm(pose[:3, 3])
            mirror = np.eye(3) - 2 * np.outer(sight, sight)
            pose = np.block([[mirror @ pose[:3, :3] @ np.diag([1, 1, -1]), pose[:3, 3:]],
                             [np.zeros((1, 3)), 1]])
        return pose @ from_xyz_rpy([*(0.001 * self.rng.standard_normal(3)),
                                    *(0.01 * self.rng.standard_normal(3))])

    def see(self, camera_from_board, marker=ON_BOARD, flipped=False, board_seen=True):
        """Return the filtered snapshot of the next image."""
        self.images += 1
        seen, board, markers = [], None, ()
        if board_seen and self.board is not None:
            seen += [SeenMarker(i, self.pixels(camera_from_board, quad), True, 0.04, 0.1)
                     for i, quad in zip(BOARD.marker_ids, BOARD.corners)]
            board = BoardPose(self.rough(camera_from_board) if 'static__board' in self.values
                              else camera_from_board, 12, 0.1)
        if marker is not None:
            pose = camera_from_board @ marker
            seen.append(SeenMarker(40, self.pixels(pose, marker_square(LENGTH)), False, LENGTH,
                                   0.1))
            markers = (MarkerPose(40, LENGTH, self.rough(pose, flipped), 0.1, flipped),)
        snapshot = make_snapshot(seen=tuple(seen), board=board, markers=markers,
                                 stamp=Stamp(self.images // 10, self.images % 10 * 10 ** 8))
        context = make_context(make_frame(None, self.camera), **self.values)
        return self.filter.apply(context, snapshot)


def view(number):
    """Return a board pose of a camera that moves."""
    return facing(-0.05 + 0.03 * np.sin(number), 0.02 * np.cos(number), 0.6,
                  0.4 * np.sin(number / 3), 0.4 * np.cos(number / 4), 0.1)


def test_nothing_is_done_where_nothing_is_static():
    scene = Scene()
    snapshot = scene.see(view(0))
    assert snapshot.statics == ()


def test_the_board_of_a_fixed_camera_settles_and_stands_still():
    scene, pose = Scene(board=True, window=20), view(0)
    shown = [scene.see(pose, marker=None) for _ in range(40)]
    states = [snapshot.statics[0].state for snapshot in shown]
    assert states == [COLLECTING] * 19 + [SETTLED] * 21
    still = [snapshot.board.camera_from_board for snapshot in shown[20:]]
    assert all(np.array_equal(still[0], other) for other in still)
    distance, angle = difference(still[0], pose)
    assert distance < 0.0008 and angle < 0.008
    last = shown[-1].statics[0]
    assert (last.kind, last.parent, last.marker_id) == ('board', 'camera', None)
    # Of the images up to settling all agree, and so do those after it.
    assert (last.images, last.since, last.seconds) == (40, Stamp(0, 10 ** 8), pytest.approx(3.9))


def test_a_marker_stands_still_on_the_board_while_the_camera_moves_flipped_or_not():
    scene = Scene(markers=['40'], window=20)
    shown = [scene.see(view(number), flipped=number % 3 == 0) for number in range(60)]
    assert [s.statics[0].state for s in shown] == [COLLECTING] * 19 + [SETTLED] * 41
    for snapshot in shown[20:]:
        marker, = snapshot.markers
        on_board = invert(snapshot.board.camera_from_board) @ marker.camera_from_marker
        distance, angle = difference(on_board, ON_BOARD)
        assert distance < 0.0003 and angle < 0.005
        assert not marker.ambiguous
    static = shown[-1].statics[0]
    assert (static.kind, static.marker_id, static.parent) == ('marker', 40, 'board')
    np.testing.assert_allclose(static.parent_from_child, on_board, atol=1e-9)


def test_without_a_board_a_marker_stands_still_before_the_camera():
    scene, pose = Scene(sheet=None, markers=['all'], window=10), view(1)
    shown = [scene.see(pose) for _ in range(12)]
    static = shown[-1].statics[0]
    assert (static.state, static.parent, static.marker_id) == (SETTLED, 'camera', 40)
    assert difference(static.parent_from_child, pose @ ON_BOARD)[0] < 0.002
    assert np.array_equal(shown[-1].markers[0].camera_from_marker, static.parent_from_child)


def test_what_has_clearly_moved_settles_anew():
    scene, window = Scene(markers=['40'], window=15), 15
    for number in range(30):
        before = scene.see(view(number)).statics[0]
    moved = ON_BOARD @ from_xyz_rpy([0.01, 0, 0, 0, 0, 0.1])
    states = []
    for number in range(30, 60):
        snapshot = scene.see(view(number), marker=moved)
        states.append(snapshot.statics[0].state)
        if states[-1] == MOVED:
            # The image's own pose is shown; /tf_static keeps the last it knew.
            seen = snapshot.markers[0].camera_from_marker
            assert difference(seen, view(number) @ moved)[0] < 0.01
            assert snapshot.statics[0].parent_from_child is before.parent_from_child
    assert states[0] == SETTLED and MOVED in states[:6] and states[-1] == SETTLED
    assert states.count(MOVED) == window - 1
    after = snapshot.statics[0]
    assert difference(after.parent_from_child, moved)[0] < 0.0003
    assert after.since > before.since


def test_a_fixed_camera_that_is_moved_is_noticed():
    scene = Scene(board=True, window=15)
    for _ in range(20):
        scene.see(view(0), marker=None)
    states = [scene.see(view(0) @ from_xyz_rpy([0.004, 0, 0, 0, 0, 0]), marker=None).statics[0]
              .state for _ in range(25)]
    assert MOVED in states[:6] and states[-1] == SETTLED


def test_a_hand_before_the_camera_changes_nothing():
    scene = Scene(markers=['40'], window=20)
    for number in range(25):
        before = scene.see(view(number)).statics[0]
    elsewhere = ON_BOARD @ from_xyz_rpy([0.02, 0, 0, 0, 0, 0.3])
    for number in range(25, 29):
        scene.see(view(number), marker=elsewhere)
    for number in range(29, 35):
        after = scene.see(view(number)).statics[0]
    assert after.state == SETTLED
    assert after.parent_from_child is before.parent_from_child
    assert after.images == before.images + 6


def test_what_was_only_disturbed_keeps_its_published_pose():
    scene = Scene(markers=['40'], window=15)
    for number in range(20):
        before = scene.see(view(number)).statics[0]
    elsewhere = ON_BOARD @ from_xyz_rpy([0.02, 0, 0, 0, 0, 0.3])
    for number in range(20, 28):
        scene.see(view(number), marker=elsewhere)
    for number in range(28, 70):
        after = scene.see(view(number)).statics[0]
    assert after.state == SETTLED
    assert after.parent_from_child is before.parent_from_child


def test_what_keeps_moving_never_settles():
    scene = Scene(markers=['40'], window=10)
    for number in range(40):
        moving = ON_BOARD @ from_xyz_rpy([0.004 * number, 0, 0, 0, 0, 0])
        snapshot = scene.see(view(number), marker=moving)
        assert snapshot.statics[0].state == COLLECTING
        assert difference(snapshot.markers[0].camera_from_marker, view(number) @ moving)[0] < 0.01


def test_images_without_the_board_say_nothing_of_a_marker_on_it():
    scene = Scene(markers=['40', '50-51'], window=10)
    snapshot = [scene.see(view(number), board_seen=False) for number in range(15)][-1]
    assert [(static.marker_id, static.state, static.images) for static in snapshot.statics] == [
        (40, COLLECTING, 0), (50, COLLECTING, 0), (51, COLLECTING, 0)]


def test_without_calibration_nothing_is_known():
    scene = Scene(markers=['40'], board=True)
    scene.camera = None
    statics = scene.see(view(0)).statics
    assert [(static.marker_id, static.state) for static in statics] == [
        (None, COLLECTING), (40, COLLECTING)]


def test_other_settings_start_anew():
    scene = Scene(markers=['40'], window=10)
    for number in range(12):
        snapshot = scene.see(view(number))
    assert snapshot.statics[0].state == SETTLED
    scene.values['static__window'] = 12
    assert scene.see(view(12)).statics[0].state == COLLECTING


def test_the_service_filters_what_it_sees():
    shown = make_view()
    settings = {'static.board': True, 'static.markers': ['40-42'], 'static.window': 5,
                'markers.lengths': ['42:0.08'], 'markers.length_m': 0.05}
    aruco = ArucoService(Settings().with_values(settings), shown.board)
    values = {name.replace('.', '__'): value for name, value in settings.items()}
    for seq in range(7):
        frame = make_frame(shown.gray, shown.camera, seq=seq)
        snapshot = aruco.analyse(make_context(frame, **values))
    states = {static.marker_id: static.state for static in snapshot.statics}
    assert states == {None: SETTLED, 40: SETTLED, 41: COLLECTING, 42: SETTLED}
    for marker in snapshot.markers:
        assert marker.marker_id in SINGLES
        truth = shown.camera_from_marker[marker.marker_id]
        assert difference(marker.camera_from_marker, truth)[0] < 0.008
