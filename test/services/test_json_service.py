import json
import math

from builders import make_aruco, make_context, make_frame, make_snapshot, make_view, poses
from hypothesis import given, strategies as st
import numpy as np
import pytest

from camws_bridge.models import BoardPose, MarkerPose, SeenMarker, Stamp, StaticPose
from camws_bridge.services.json_service import CATALOGUE, EMBEDDABLE, JsonService

VIEW = make_view()


def make_service(snapshot=None):
    """Return the service and a context whose poses are known already."""
    aruco = make_aruco(VIEW.board)
    context = make_context(make_frame(VIEW.gray, VIEW.camera))
    if snapshot is not None:
        context.once('snapshot', lambda: snapshot)
    return JsonService(aruco), context


def numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif not isinstance(value, (str, bool)):
        yield value


def refuse(constant):
    raise AssertionError(f'{constant} is no JSON')


ODD = st.one_of(st.none(), st.floats(), st.sampled_from([math.nan, math.inf, -math.inf]))
ODD_NUMBER = st.floats()
CORNERS = st.lists(st.tuples(ODD_NUMBER, ODD_NUMBER), min_size=4, max_size=4).map(np.array)
SNAPSHOTS = st.builds(
    make_snapshot, calibrated=st.booleans(),
    board=st.one_of(st.none(), st.builds(BoardPose, poses(), st.integers(0, 50), ODD_NUMBER)),
    markers=st.lists(st.builds(MarkerPose, st.integers(0, 1000), ODD_NUMBER, poses(), ODD_NUMBER,
                               st.booleans()), max_size=3).map(tuple),
    seen=st.lists(st.builds(SeenMarker, st.integers(0, 1000), CORNERS, st.booleans(), ODD_NUMBER,
                            ODD), max_size=3).map(tuple))


@given(SNAPSHOTS)
def test_json_holds_finite_numbers_or_null(snapshot):
    service, context = make_service(snapshot)
    for name in EMBEDDABLE:
        message = json.loads(service.produce(context, name), parse_constant=refuse)
        assert message
        assert all(number is None or math.isfinite(number) for number in numbers(message))


def test_the_aruco_object_tells_what_is_static():
    settled = StaticPose(7, 'board', 'settled', np.eye(4), 42, Stamp(5, 6), 1.5)
    service, context = make_service(make_snapshot(
        statics=(StaticPose(None, 'camera', 'collecting', images=3), settled)))
    message = json.loads(service.produce(context, 'aruco'), parse_constant=refuse)
    assert message['static'] == [
        {'kind': 'board', 'id': None, 'parent': 'camera', 'state': 'collecting', 'images': 3,
         'since': None, 'seconds': 0.0},
        {'kind': 'marker', 'id': 7, 'parent': 'board', 'state': 'settled', 'images': 42,
         'since': {'sec': 5, 'nanosec': 6}, 'seconds': 1.5}]


def test_the_catalogue_is_the_contracts():
    assert list(CATALOGUE) == ['markers', 'transforms_camera', 'transforms_board',
                               'transforms_robot']
    assert {stream.content_type for stream in CATALOGUE.values()} == {'application/json'}
    assert EMBEDDABLE == ('camera_info', *CATALOGUE)
    assert CATALOGUE['transforms_robot'].needs == {'calibration', 'board', 'robot'}


@pytest.mark.parametrize('name', CATALOGUE)
def test_a_stream_of_a_real_image(name):
    service, context = make_service()
    message = json.loads(service.produce(context, name))
    assert message['stream'] == name
    assert message['seq'] == 812
    entries = message['markers' if name == 'markers' else 'transforms']
    assert len(entries) == (14 if name == 'markers' else 4)
    # Made once: for the stream itself, and for every picture that embeds it.
    assert service.produce(context, name) is service.produce(context, name)


def test_camera_info_is_null_until_it_is_known():
    service, context = make_service()
    assert json.loads(service.produce(context, 'camera_info'))['k'][0] == 420
    unknown = make_context(make_frame(VIEW.gray))
    assert service.produce(unknown, 'camera_info') == b'null'


def test_without_calibration_pose_streams_go_on():
    service, _ = make_service()
    context = make_context(make_frame(VIEW.gray))
    for name in ('transforms_camera', 'transforms_board', 'transforms_robot'):
        message = json.loads(service.produce(context, name))
        assert message['transforms'] == []
        assert message['board']['reason'] == 'no_calibration'
    markers = json.loads(service.produce(context, 'markers'))['markers']
    assert len(markers) == 14
    assert all(marker['reprojection_error_px'] is None for marker in markers)
