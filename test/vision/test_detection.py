import builders
from builders import DICTIONARY, facing, make_camera, make_view, marker_sheet, render
import cv2
import numpy as np
import pytest

from camws_bridge.vision.boards import marker_square
from camws_bridge.vision.camera import project_points
from camws_bridge.vision.detection import (
    check_opencv, check_parameters, dictionary_names, get_dictionary, MarkerDetector,
    PyramidDetector)
from camws_bridge.vision.geometry import transform_points


@pytest.mark.parametrize('dictionary', [DICTIONARY, 'DICT_4X4_50', 'DICT_ARUCO_ORIGINAL',
                                        'DICT_APRILTAG_36h11', 'DICT_APRILTAG_16h5'])
@pytest.mark.parametrize('refinement', ['none', 'subpix', 'contour'])
def test_corners_stand_clockwise_from_the_top_left(dictionary, refinement):
    camera, pose = make_camera(), facing(0.02, 0.01, 0.4, tilt=0.4, turn=-0.3, spin=2.0)
    gray = render(camera, (marker_sheet(5, 0.08, dictionary), pose))
    found, = MarkerDetector(dictionary, refinement).detect(gray)
    assert found.marker_id == 5
    expected = project_points(camera, transform_points(pose, marker_square(0.08)))
    assert np.max(np.linalg.norm(found.corners - expected, axis=1)) < 1.5


def test_an_id_may_stand_twice_and_detections_are_sorted():
    twice = [(marker_sheet(marker_id, 0.06), facing(x, 0, 0.5))
             for marker_id, x in ((8, -0.15), (3, 0.0), (8, 0.15))]
    found = MarkerDetector(DICTIONARY).detect(render(make_camera(), *twice))
    assert [detection.marker_id for detection in found] == [3, 8, 8]


def test_a_large_marker_at_the_border_hides_no_other():
    # OpenCV 4.12 to 5.0 drop a whole group of contours with their defaults.
    gray = np.full((360, 480), 255, np.uint8)
    picture = cv2.aruco.generateImageMarker(get_dictionary(DICTIONARY), 7, 200)
    gray[2:202, 2:202] = picture
    gray[20:80, 300:360] = cv2.resize(picture, (60, 60), interpolation=cv2.INTER_AREA)
    assert len(MarkerDetector(DICTIONARY).detect(gray)) == 2


def test_nothing_is_found_in_nothing():
    detector = MarkerDetector(DICTIONARY)
    assert detector.detect(np.full((120, 160), 90, np.uint8)) == ()
    assert detector.detect(np.zeros((1, 1), np.uint8)) == ()


def test_the_shortest_perimeter_is_in_pixels_at_every_image_size():
    small = np.full((120, 160), 255, np.uint8)
    small[40:64, 60:84] = cv2.aruco.generateImageMarker(get_dictionary(DICTIONARY), 7, 24)
    large = np.full((700, 900), 255, np.uint8)
    large[100:220, 100:260] = small
    for perimeter, count in ((60, 1), (130, 0)):
        detector = MarkerDetector(DICTIONARY, min_perimeter_px=perimeter)
        assert [len(detector.detect(image)) for image in (small, large, small)] == [count] * 3


def test_parameters_reach_opencv():
    negative = 255 - render(make_camera(), (marker_sheet(5, 0.08), facing(z=0.4)))
    assert not MarkerDetector(DICTIONARY).detect(negative)
    inverted = MarkerDetector(DICTIONARY, parameters={'detectInvertedMarker': True})
    assert len(inverted.detect(negative)) == 1


def test_an_unknown_dictionary_is_answered_with_all_names():
    with pytest.raises(ValueError, match='DICT_NONE.*DICT_4X4_50.*DICT_APRILTAG_36h11'):
        get_dictionary('DICT_NONE')
    # An attribute of cv2.aruco that is no dictionary is none.
    with pytest.raises(ValueError, match='ArucoDetector'):
        get_dictionary('ArucoDetector')
    for name in dictionary_names():
        assert len(get_dictionary(name).bytesList)


def test_an_opencv_without_the_detector_is_refused(monkeypatch):
    check_opencv()
    # Inject a fault by taking away what OpenCV 4.6 does not have.
    monkeypatch.delattr(cv2.aruco, 'ArucoDetector')
    with pytest.raises(RuntimeError, match='4.8 or newer'):
        check_opencv()


def test_the_renderer_of_the_tests_is_true():
    view = builders.make_view()
    found = {detection.marker_id: detection.corners
             for detection in MarkerDetector(DICTIONARY, min_perimeter_px=40).detect(view.gray)}
    points = transform_points(view.camera_from_board, view.board.corners.reshape(-1, 3))
    expected = project_points(view.camera, points).reshape(-1, 4, 2)
    seen = np.array([found[marker_id] for marker_id in view.board.marker_ids])
    assert np.all(np.abs((seen - expected).mean((0, 1))) < 0.2)
    assert np.sqrt(np.mean((seen - expected) ** 2)) < 0.5


@pytest.mark.parametrize(('window', 'perimeter'), [(5, 52), (7, 44)])
def test_the_white_around_a_marker_is_no_marker(window, perimeter):
    # OpenCV 5.0 sees marker 68 in what surrounds marker 0 here.
    placed = [(marker_sheet(index, 0.06), facing(*place, 0.5, tilt=0.3))
              for index, place in enumerate([(-0.1, 0.0), (0.1, 0.05)])]
    detector = MarkerDetector(DICTIONARY, 'none', perimeter, {
        'adaptiveThreshWinSizeMin': window, 'adaptiveThreshWinSizeMax': window + 16})
    found = detector.detect(render(make_camera(), *placed))
    assert [one.marker_id for one in found] == [0, 1]


def test_large_markers_are_found_at_half_size_at_their_place():
    camera = make_camera()
    placed = [(marker_sheet(3, 0.03), facing(-0.15, 0.08, 0.5)),
              (marker_sheet(8, 0.12), facing(0.08, -0.02, 0.4, tilt=0.3))]
    gray = render(camera, *placed)
    small, large = PyramidDetector(DICTIONARY).detect(gray)
    assert (small.marker_id, large.marker_id) == (3, 8)
    for found, (_, pose), length in ((small, placed[0], 0.03), (large, placed[1], 0.12)):
        truth = project_points(camera, transform_points(pose, marker_square(length)))
        assert np.abs(found.corners - truth).max() < 3
        assert np.abs((found.corners - truth).mean(axis=0)).max() < 1.2


def test_each_size_finds_what_the_other_does_not():
    view = make_view()
    detector = PyramidDetector(DICTIONARY, min_perimeter_px=40)
    whole = {found.marker_id for found in detector._fine.detect(view.gray)}
    both = [found.marker_id for found in detector.detect(view.gray)]
    assert sorted(both) == sorted({*both})
    assert {*both} >= whole
    assert len(both) == 14


def test_one_id_twice_is_twice_at_both_sizes():
    twice = [(marker_sheet(7, 0.08), facing(x, 0, 0.4)) for x in (-0.09, 0.09)]
    found = PyramidDetector(DICTIONARY).detect(render(make_camera(), *twice))
    assert [one.marker_id for one in found] == [7, 7]


def test_dark_images_have_a_lower_threshold():
    gray = (render(make_camera(), (marker_sheet(3, 0.08), facing())).astype(float) * 0.05 + 8)
    detector = PyramidDetector(DICTIONARY)
    assert [one.marker_id for one in detector.detect(gray.astype(np.uint8))] == [3]
    assert detector._fine._parameters.adaptiveThreshConstant < 6
    detector.detect(make_view().gray)
    assert detector._fine._parameters.adaptiveThreshConstant == 7


@pytest.mark.parametrize('shape', [(1, 1), (1, 50), (2, 2), (33, 47), (16, 640)])
def test_images_of_any_size_are_looked_at(shape):
    assert PyramidDetector(DICTIONARY).detect(np.full(shape, 90, np.uint8)) == ()


def test_parameters_that_are_none_are_named():
    check_parameters({'polygonalApproxAccuracyRate': 0.05, 'adaptiveThreshWinSizeMin': 5})
    for name in ('noSuchThing', '__class__', 'readDetectorParameters'):
        with pytest.raises(ValueError, match=f"'{name}' is no parameter.*minOtsuStdDev"):
            check_parameters({name: 1.0})
    with pytest.raises(ValueError, match='whole numbers'):
        check_parameters({'markerBorderBits': 1.5})
