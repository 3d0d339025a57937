from builders import (
    board_sheet, CHARUCO, charuco_sheet, DICTIONARY, facing, grid_board, HEIGHT, make_aruco,
    make_camera, make_context, make_frame, make_view, marker_sheet, MARKER_LIST, render, ROOT,
    SETTINGS, WIDTH)
import cv2
import numpy as np
import pytest

from camws_bridge.services.aruco_service import ArucoService, load_board, robot_pose
from camws_bridge.settings import Settings, SettingsError
from camws_bridge.vision.boards import make_board
from camws_bridge.vision.camera import rectification_maps, without_distortion
from camws_bridge.vision.finding import MarkerFinder
from camws_bridge.vision.geometry import difference, from_xyz_rpy

VIEW = make_view()


def analyse(gray, camera, board=None, **values):
    return make_aruco(board, **values).analyse(make_context(make_frame(gray, camera), **values))


def assert_near(pose, truth, metres, radians):
    distance, angle = difference(pose, truth)
    assert distance < metres
    assert angle < radians


@pytest.mark.parametrize('lens', ['plumb_bob-5', 'rational-14', 'equidistant-4'])
@pytest.mark.parametrize('rectified', [False, True])
def test_a_rendered_scene_is_seen_as_it_is(lens, rectified):
    view, camera = make_view(lens), make_camera(lens)
    gray = view.gray
    if rectified:
        gray = cv2.remap(gray, *rectification_maps(camera), cv2.INTER_LINEAR)
        camera = without_distortion(camera)
    snapshot = analyse(gray, camera, view.board)
    assert_near(snapshot.board.camera_from_board, view.camera_from_board, 0.004, 0.02)
    assert snapshot.board.markers_used == 12
    assert snapshot.board.reprojection_error_px < 1
    assert {marker.marker_id: marker.length for marker in snapshot.markers} == {40: 0.05, 42: 0.08}
    for marker in snapshot.markers:
        # The detector's corners of single markers shrink them a little: half a percent of 0.5 m.
        assert_near(marker.camera_from_marker, view.camera_from_marker[marker.marker_id],
                    0.008, 0.05)
        assert not marker.ambiguous


def test_the_snapshot_carries_what_belongs_to_the_frame():
    snapshot = analyse(VIEW.gray, VIEW.camera, VIEW.board)
    assert (snapshot.seq, snapshot.width, snapshot.height) == (812, WIDTH, HEIGHT)
    assert (snapshot.camera_frame_id, snapshot.calibrated) == ('camera_optical', True)
    assert snapshot.board_absent == ''
    seen = {marker.marker_id: marker for marker in snapshot.seen}
    assert sorted(seen) == [*range(12), 40, 42]
    for marker_id, marker in seen.items():
        assert marker.on_board is (marker_id < 12)
        assert marker.length == pytest.approx(
            0.04 if marker.on_board else {40: 0.05, 42: 0.08}[marker_id])
        assert 0 <= marker.reprojection_error_px < 1.5


@pytest.mark.parametrize('legacy', [False, True])
def test_a_charuco_board_is_solved_from_its_chessboard(legacy):
    description = {**CHARUCO, 'legacy_pattern': legacy}
    board, camera = make_board(description, DICTIONARY), make_camera()
    pose = facing(0.01, -0.02, 0.4, tilt=0.4, turn=0.3, spin=0.4)
    snapshot = analyse(render(camera, (charuco_sheet(board, description), pose)), camera, board)
    assert_near(snapshot.board.camera_from_board, pose, 0.0005, 0.005)
    assert snapshot.board.reprojection_error_px < 0.1


@pytest.mark.parametrize(('dots', 'is_exact'), [(112, True), (100, False)])
def test_markers_of_a_charuco_board_count_where_they_agree_with_the_chessboard(dots, is_exact):
    # With 100 dots to a square, a marker's cell is 10.7 dots wide: printed at 10 or 11 of them.
    board, camera = make_board(CHARUCO, DICTIONARY), make_camera()
    pose = facing(0.01, -0.02, 0.4, tilt=0.4, turn=0.3, spin=0.4)
    gray = render(camera, (charuco_sheet(board, CHARUCO, dots), pose))
    snapshot = analyse(cv2.GaussianBlur(gray, (0, 0), 0.6), camera, board)
    corners = snapshot.board.corners_used + snapshot.board.corners_rejected
    assert corners == (15 + 12 * 4 if is_exact else 15)
    assert_near(snapshot.board.camera_from_board, pose, 0.0002 if is_exact else 0.0005, 0.002)


@pytest.mark.parametrize('dictionary', [DICTIONARY, 'DICT_APRILTAG_36h11'])
def test_a_board_given_as_a_list_of_markers(dictionary):
    board, camera = make_board(MARKER_LIST, dictionary), make_camera()
    pose = facing(0.01, -0.02, 0.45, tilt=-0.4, turn=0.3, spin=2.4)
    snapshot = analyse(render(camera, (board_sheet(board), pose)), camera, board,
                       markers__dictionary=dictionary)
    assert_near(snapshot.board.camera_from_board, pose, 0.004, 0.02)
    assert snapshot.board.markers_used == 3


def test_a_hidden_part_of_the_board_costs_its_markers_only():
    gray = VIEW.gray.copy()
    gray[80:240, 70:140] = 120
    snapshot = analyse(gray, VIEW.camera, VIEW.board)
    # Three are hidden, and what hides them cuts into the edges of a fourth.
    assert snapshot.board.markers_used in (8, 9)
    assert_near(snapshot.board.camera_from_board, VIEW.camera_from_board, 0.004, 0.02)


def test_without_calibration_markers_are_seen_but_have_no_pose():
    snapshot = analyse(VIEW.gray, None, VIEW.board)
    assert (snapshot.calibrated, snapshot.board, snapshot.markers) == (False, None, ())
    assert snapshot.board_absent == 'no_calibration'
    assert len(snapshot.seen) == 14
    assert all(marker.reprojection_error_px is None for marker in snapshot.seen)


def test_a_board_that_is_not_there_is_not_known():
    empty = np.full((HEIGHT, WIDTH), 120, np.uint8)
    snapshot = analyse(empty, VIEW.camera, VIEW.board)
    assert (snapshot.board, snapshot.board_absent, snapshot.seen) == (None, 'not_detected', ())
    snapshot = analyse(VIEW.gray, VIEW.camera)
    assert (snapshot.board, snapshot.board_absent) == (None, 'not_configured')
    # Without a board, its markers are markers as others are.
    assert len(snapshot.markers) == 14


def twice(shift=0.0):
    """Return marker 8 at the left and at the right, marker 3 between them."""
    placed = [(marker_sheet(marker_id, 0.06), facing(x + shift, 0, 0.5))
              for marker_id, x in ((8, -0.15), (3, 0.0), (8, 0.15))]
    return render(VIEW.camera, *placed)


def test_a_single_marker_seen_twice_has_no_pose():
    snapshot = analyse(twice(), VIEW.camera)
    assert [marker.marker_id for marker in snapshot.markers] == [3]
    assert [(marker.marker_id, marker.duplicate, marker.used) for marker in snapshot.seen] == [
        (3, False, True), (8, True, False), (8, True, False)]
    assert all(marker.reprojection_error_px is None for marker in snapshot.seen[1:])


def test_of_two_with_one_id_the_one_known_from_before_is_used():
    aruco, search = make_aruco(), {'tracking__enabled': False}
    alone = render(VIEW.camera, (marker_sheet(8, 0.06), facing(0.15, 0, 0.5)))
    for gray in (alone, twice(), twice(0.005)):
        snapshot = aruco.analyse(make_context(make_frame(gray, VIEW.camera), **search))
        pose, = (marker.camera_from_marker for marker in snapshot.markers
                 if marker.marker_id == 8)
        assert pose[0, 3] > 0.1
    used = [marker.corners[:, 0].mean() for marker in snapshot.seen
            if marker.duplicate and marker.used]
    assert len(used) == 1
    assert used[0] > WIDTH / 2


@pytest.mark.parametrize(('copies', 'used'), [([(0.0, -0.16)], 12), ([], 12)])
def test_a_board_marker_seen_twice_counts_where_the_others_have_it(copies, used):
    copies = [(marker_sheet(5, 0.05), facing(*place, 0.5)) for place in copies]
    gray = render(VIEW.camera, (board_sheet(VIEW.board), VIEW.camera_from_board), *copies)
    snapshot = analyse(gray, VIEW.camera, VIEW.board)
    assert snapshot.board.markers_used == used
    assert_near(snapshot.board.camera_from_board, VIEW.camera_from_board, 0.004, 0.02)
    fives = [marker for marker in snapshot.seen if marker.marker_id == 5]
    assert len(fives) == 1 + len(copies)
    assert all(marker.duplicate is bool(copies) for marker in fives)
    right, = (marker for marker in fives if marker.used)
    assert right.reprojection_error_px < 1


def test_every_pose_has_a_covariance_and_tells_how_its_corners_were_found():
    snapshot = analyse(VIEW.gray, VIEW.camera, VIEW.board)
    for pose in (snapshot.board, *snapshot.markers):
        sigma = np.sqrt(np.diag(pose.covariance))
        assert (sigma > 0).all()
        assert sigma[:3].max() < 0.005
        assert sigma[3:].max() < 0.05
    assert snapshot.board.corners_used + snapshot.board.corners_rejected == 48
    assert snapshot.board.corners_rejected < 8
    for marker in snapshot.seen:
        assert marker.by_edges == 4
        assert 0 < marker.edge_residual_px < 0.2


def test_an_ambiguous_marker_keeps_its_branch_from_frame_to_frame():
    # Tilted one way, clearly; then small and nearly frontal, where it cannot be told.
    aruco, camera = make_aruco(), make_camera()

    def see(z, tilt):
        gray = render(camera, (marker_sheet(7, 0.05), facing(0.0, 0.0, z, tilt=tilt)))
        context = make_context(make_frame(gray, camera), detector__min_perimeter_px=20.0)
        marker, = aruco.analyse(context).markers
        return marker

    for tilt in (0.7, -0.7):
        clear, small = see(0.3, tilt), see(1.1, tilt / 7)
        assert not clear.ambiguous
        assert small.ambiguous
        normal = small.camera_from_marker[:3, 2]
        assert np.sign(normal[1]) == np.sign(clear.camera_from_marker[1, 2])


def test_poses_are_computed_once_and_the_finder_is_kept(monkeypatch):
    made = []
    original = MarkerFinder.__init__
    monkeypatch.setattr(MarkerFinder, '__init__', lambda self, *arguments: (
        made.append(arguments), original(self, *arguments))[1])
    aruco, frame = make_aruco(VIEW.board), make_frame(VIEW.gray, VIEW.camera)
    context = make_context(frame)
    assert aruco.analyse(context) is aruco.analyse(context)
    aruco.analyse(make_context(frame))
    assert len(made) == 1
    # Live settings make another one.
    aruco.analyse(make_context(frame, detector__refinement='contour'))
    aruco.analyse(make_context(frame, detector__refinement='contour', tracking__enabled=False))
    assert [arguments[1] for arguments in made] == ['edges', 'contour', 'contour']


@pytest.mark.parametrize('refinement', ['edges', 'subpix', 'contour', 'none'])
def test_every_refinement_gives_poses(refinement):
    snapshot = analyse(VIEW.gray, VIEW.camera, VIEW.board, detector__refinement=refinement)
    assert snapshot.board.markers_used >= 9
    assert len(snapshot.markers) == 2
    assert all((marker.by_edges == 4) is (refinement == 'edges') for marker in snapshot.seen)


def test_inverted_markers_and_any_detector_parameter_on_request():
    negative = 255 - VIEW.gray
    assert analyse(negative, VIEW.camera).seen == ()
    inverted = analyse(negative, VIEW.camera, VIEW.board, detector__inverted=True)
    assert inverted.board.markers_used == 12
    assert all(marker.by_edges == 4 for marker in inverted.seen)
    nothing = analyse(VIEW.gray, VIEW.camera,
                      detector__parameters=['maxMarkerPerimeterRate:0.01'])
    assert nothing.seen == ()


def test_live_settings_change_what_is_seen():
    aruco, frame = make_aruco(), make_frame(VIEW.gray, VIEW.camera)
    assert len(aruco.analyse(make_context(frame)).seen) == 14
    large = make_context(frame, detector__min_perimeter_px=200.0)
    assert [marker.marker_id for marker in aruco.analyse(large).seen] == [42]
    longer = {marker.marker_id: marker for marker in aruco.analyse(
        make_context(frame, markers__length_m=0.1, markers__lengths=[])).markers}
    # Twice the side: twice as far away.
    assert longer[40].camera_from_marker[2, 3] == pytest.approx(1.0, abs=0.02)


def test_the_board_is_projected_by_pose_or_without_calibration_by_homography():
    aruco = make_aruco(VIEW.board)
    by_pose = aruco.board_projection(make_context(make_frame(VIEW.gray, VIEW.camera)))
    guessed = aruco.board_projection(make_context(make_frame(VIEW.gray)))
    outline = VIEW.board.outline
    assert np.max(np.abs(by_pose(outline) - guessed(outline))) < 3
    empty = np.full((HEIGHT, WIDTH), 120, np.uint8)
    for camera in (None, VIEW.camera):
        assert aruco.board_projection(make_context(make_frame(empty, camera))) is None
        assert make_aruco().board_projection(make_context(make_frame(VIEW.gray, camera))) is None


def test_the_robot_is_where_it_is_configured():
    assert np.array_equal(robot_pose(SETTINGS.robot),
                          from_xyz_rpy([-0.2, -0.05, 0.01, 0.1, -0.2, 1.5]))
    assert robot_pose(Settings().robot) is None


def test_settings_it_cannot_use_are_refused():
    with pytest.raises(SettingsError, match="markers.dictionary: 'DICT_NO'.*DICT_4X4_50"):
        ArucoService(Settings().with_values({'markers.dictionary': 'DICT_NO'}), None)
    for value, message in (('noSuchThing:1', 'polygonalApproxAccuracyRate'),
                           ('cornerRefinementWinSize:2.5', 'whole numbers')):
        with pytest.raises(SettingsError, match=f'detector.parameters.*{message}'):
            make_aruco(detector__parameters=[value])
    aruco = make_aruco(grid_board())
    other = SETTINGS.with_values({'markers.dictionary': 'DICT_4X4_50'})
    with pytest.raises(SettingsError, match='markers.dictionary.*allowed: DICT_5X5_100'):
        aruco.check_settings(other)
    make_aruco().check_settings(other)


def test_the_board_file_is_found_and_its_faults_are_told(tmp_path):
    assert load_board(Settings()) is None
    for path in ('package://camws_bridge/config/boards/demo_board.yaml',
                 str(ROOT / 'config/boards/demo_board.yaml')):
        board = load_board(Settings().with_values({'board.file': path}))
        assert len(board.marker_ids) == 20
    broken = tmp_path / 'broken.yaml'
    broken.write_text('type: grid')
    for path, said in ((str(broken), 'markers_x is missing'), (str(tmp_path / 'no'), 'No such'),
                       ('package://camws_bridge/no.yaml', 'no.yaml')):
        with pytest.raises(SettingsError, match=f'parameter board.file: .*{said}'):
            load_board(Settings().with_values({'board.file': path}))
