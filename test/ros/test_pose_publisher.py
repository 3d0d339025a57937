from __future__ import annotations

from dataclasses import replace

from builders import grid_board, make_aruco, make_snapshot, SETTINGS, STAMP
import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is built by scripts/setup')

from geometry_msgs.msg import PoseArray, PoseWithCovarianceStamped
from ros_side import LATCHED, RELIABLE
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import Marker, MarkerArray

from camws_bridge.models import Stamp
from camws_bridge.ros.pose_publisher import PosePublisher
from camws_bridge.settings import SettingsHolder
from camws_bridge.vision.geometry import difference, from_quaternion, from_xyz_rpy, invert

BOARD = grid_board()
SNAPSHOT = make_snapshot()
BOARD_POSE, MARKER_POSE = SNAPSHOT.board.camera_from_board, SNAPSHOT.markers[0].camera_from_marker


class Poses:
    """A PosePublisher and what arrives of it."""

    def __init__(self, graph, **values):
        self.graph = graph
        changes = {name.replace('__', '.'): value for name, value in values.items()}
        self.settings = SettingsHolder(SETTINGS.with_values(changes))
        self.node = graph.node()
        self.tf = graph.listen(TFMessage, 'tf')
        graph.spin_until(lambda: self.node.count_subscribers(graph.topic('tf')))
        self.publisher = PosePublisher(self.node, make_aruco(BOARD, **values), self.settings)
        graph.spin_until(lambda: self.publisher._tf.get_subscription_count(), 'tf is heard')

    def listen(self, kind, name):
        arrived = self.graph.listen(kind, f'camws_bridge/{name}')
        topic = self.graph.topic(f'camws_bridge/{name}')
        publisher, = (found for found in self.node.publishers if found.topic_name == topic)
        self.graph.spin_until(publisher.get_subscription_count, f'{name} is heard')
        return arrived

    def publish(self, snapshot=SNAPSHOT):
        """Publish, and return the transforms by child."""
        before = len(self.tf)
        self.publisher.publish(snapshot)
        self.graph.spin_until(lambda: len(self.tf) > before, 'a transform')
        return {found.child_frame_id: found for found in self.tf[-1].transforms}

    def publish_nothing(self, snapshot):
        """Publish what shows nothing, then something: the first leaves no trace."""
        before = len(self.tf)
        self.publisher.publish(snapshot)
        self.publish(replace(SNAPSHOT, stamp=Stamp(9, 9)))
        assert [found.transforms[0].header.stamp.sec for found in self.tf[before:]] == [9]


def matrix(found):
    place = getattr(found, 'translation', None) or found.position
    turn = getattr(found, 'rotation', None) or found.orientation
    return from_quaternion([place.x, place.y, place.z], [turn.x, turn.y, turn.z, turn.w])


def is_pose(found, pose):
    return max(difference(matrix(found), pose)) < 1e-6


def test_poses_go_to_tf_under_the_stamp_and_frame_of_the_image(graph):
    found = Poses(graph).publish()
    assert set(found) == {'aruco_board', 'aruco_marker_7'}
    for transform in found.values():
        stamp = transform.header.stamp
        assert (stamp.sec, stamp.nanosec) == (STAMP.sec, STAMP.nanosec)
        assert transform.header.frame_id == 'camera_optical'
    assert is_pose(found['aruco_board'].transform, BOARD_POSE)
    assert is_pose(found['aruco_marker_7'].transform, MARKER_POSE)


def test_the_board_as_root_turns_it_round(graph):
    found = Poses(graph, tf__root='board').publish()
    # A frame has one parent: the camera's is the board now, the marker's still the camera.
    assert set(found) == {'camera_optical', 'aruco_marker_7'}
    assert found['camera_optical'].header.frame_id == 'aruco_board'
    assert is_pose(found['camera_optical'].transform, invert(BOARD_POSE))
    assert found['aruco_marker_7'].header.frame_id == 'camera_optical'
    assert is_pose(found['aruco_marker_7'].transform, MARKER_POSE)


def test_frames_are_named_by_parameters(graph):
    poses = Poses(graph, tf__board_frame='plate', tf__marker_frame_prefix='tag',
                  tf__robot_frame='arm')
    assert set(poses.publish()) == {'plate', 'tag7'}
    static = graph.listen(TFMessage, 'tf_static', LATCHED)
    graph.spin_until(lambda: static)
    robot, = static[0].transforms
    assert (robot.header.frame_id, robot.child_frame_id) == ('plate', 'arm')


def test_the_robot_is_a_latched_child_of_the_board(graph):
    Poses(graph, robot__pose_in_board=[0.1, 0.2, 0.3, 0.0, 0.0, 1.5])
    static = graph.listen(TFMessage, 'tf_static', LATCHED)
    graph.spin_until(lambda: static, 'who comes later gets it')
    robot, = static[0].transforms
    assert (robot.header.frame_id, robot.child_frame_id) == ('aruco_board', 'base_link')
    assert robot.header.stamp.sec > 0
    assert is_pose(robot.transform, from_xyz_rpy([0.1, 0.2, 0.3, 0.0, 0.0, 1.5]))


@pytest.mark.parametrize('values', [{'robot__pose_in_board': []}, {'tf__publish': False}])
def test_without_a_robot_or_tf_nothing_is_static(graph, values):
    poses = Poses(graph, **values)
    static = graph.listen(TFMessage, 'tf_static', LATCHED)
    publisher, = (found for found in poses.node.publishers
                  if found.topic_name == graph.topic('tf_static'))
    graph.spin_until(publisher.get_subscription_count)
    graph.spin_for(0.2)
    assert static == []


def test_nothing_is_published_for_what_is_not_seen(graph):
    poses = Poses(graph)
    assert set(poses.publish(replace(SNAPSHOT, board=None))) == {'aruco_marker_7'}
    assert set(poses.publish(replace(SNAPSHOT, markers=()))) == {'aruco_board'}
    poses.publish_nothing(replace(SNAPSHOT, board=None, markers=()))


def test_tf_can_be_switched_off_while_running(graph):
    poses = Poses(graph)
    poses.publish()
    assert poses.publisher.is_wanted
    poses.settings.change({'tf.publish': False})
    assert not poses.publisher.is_wanted
    poses.publisher.publish(SNAPSHOT)
    poses.settings.change({'tf.publish': True})
    poses.publish()
    assert len(poses.tf) == 2


def test_markers_are_drawn_anew_for_each_image(graph):
    poses = Poses(graph)
    drawn = poses.listen(MarkerArray, 'markers')
    poses.publish()
    graph.spin_until(lambda: drawn, 'markers')
    clear, *markers = drawn[0].markers
    assert clear.action == Marker.DELETEALL
    by_name = {(found.ns, found.id): found for found in markers}
    assert set(by_name) == {('markers', 7), ('ids', 7), ('markers', 2), ('ids', 2), ('board', 0),
                            ('covariance', 7), ('covariance', -1)}
    assert len(by_name) == len(markers)
    assert {found.header.frame_id for found in markers} == {'camera_optical'}
    assert {found.header.stamp.nanosec for found in markers} == {STAMP.nanosec}
    check_squares(by_name)
    check_board(by_name['board', 0])
    check_ellipsoid(by_name['covariance', -1], BOARD_POSE, SNAPSHOT.board.covariance)
    check_ellipsoid(by_name['covariance', 7], MARKER_POSE, SNAPSHOT.markers[0].covariance)


def check_ellipsoid(drawn, pose, covariance):
    assert drawn.type == Marker.SPHERE
    assert matrix(drawn.pose)[:3, 3] == pytest.approx(pose[:3, 3])
    # Its axes are the covariance's: 95 % of a normal distribution in space lie within 2.8 sigma.
    axes = matrix(drawn.pose)[:3, :3]
    half = np.array([drawn.scale.x, drawn.scale.y, drawn.scale.z]) / 2
    np.testing.assert_allclose(axes @ np.diag((half / 2.7955) ** 2) @ axes.T,
                               covariance[:3, :3], atol=1e-12)


def check_squares(by_name):
    single, of_board = by_name['markers', 7], by_name['markers', 2]
    assert (single.type, of_board.type) == (Marker.CUBE, Marker.CUBE)
    assert (single.scale.x, single.scale.y) == (0.05, 0.05)
    assert single.scale.z < 0.005
    assert is_pose(single.pose, MARKER_POSE)
    # Marker 2 is the third of the first row: its centre as the board says.
    assert (of_board.scale.x, of_board.scale.y) == pytest.approx((0.04, 0.04))
    in_board = np.eye(4)
    in_board[:3, 3] = BOARD.marker_corners(2).mean(axis=0)
    assert is_pose(of_board.pose, BOARD_POSE @ in_board)
    for marker_id in (7, 2):
        text = by_name['ids', marker_id]
        assert (text.type, text.text) == (Marker.TEXT_VIEW_FACING, str(marker_id))
        assert text.scale.z > 0 and text.color.a > 0


def check_board(board):
    x0, y0, x1, y1 = BOARD.area
    assert (board.scale.x, board.scale.y) == pytest.approx((x1 - x0, y1 - y0))
    middle = invert(BOARD_POSE) @ matrix(board.pose)
    assert middle[:2, 3] == pytest.approx([(x0 + x1) / 2, (y0 + y1) / 2])
    # Behind the squares, or they would flicker.
    assert -0.005 < middle[2, 3] < 0
    assert 0 < board.color.a < 1


def test_without_a_board_in_sight_only_single_markers_are_drawn(graph):
    poses = Poses(graph)
    drawn = poses.listen(MarkerArray, 'markers')
    poses.publisher.publish(replace(SNAPSHOT, board=None))
    poses.publisher.publish(replace(SNAPSHOT, board=None, markers=()))
    graph.spin_until(lambda: drawn and len(drawn[-1].markers) == 1, 'an empty picture')
    assert drawn[-1].markers[0].action == Marker.DELETEALL


def test_poses_are_an_array(graph):
    poses = Poses(graph)
    arrays = poses.listen(PoseArray, 'poses')
    poses.publish()
    graph.spin_until(lambda: arrays, 'poses')
    assert arrays[0].header.frame_id == 'camera_optical'
    assert arrays[0].header.stamp.nanosec == STAMP.nanosec
    board, marker = arrays[0].poses
    assert is_pose(board, BOARD_POSE)
    assert is_pose(marker, MARKER_POSE)


@pytest.mark.parametrize(('kind', 'name'), [(MarkerArray, 'markers'), (PoseArray, 'poses')])
def test_poses_are_wanted_only_while_somebody_subscribes(graph, kind, name):
    poses = Poses(graph, tf__publish=False)
    assert not poses.publisher.is_wanted
    poses.listen(kind, name)
    assert poses.publisher.is_wanted
    subscription, = (found for found in graph.peer.subscriptions
                     if found.topic_name.endswith(name))
    graph.peer.destroy_subscription(subscription)
    graph.spin_until(lambda: not poses.publisher.is_wanted, 'not wanted any more')


def test_transforms_are_offered_as_tf2_does(graph):
    poses = Poses(graph)
    info, = poses.node.get_publishers_info_by_topic(graph.topic('tf'))
    assert info.qos_profile.reliability is RELIABLE.reliability
    info, = poses.node.get_publishers_info_by_topic(graph.topic('tf_static'))
    assert info.qos_profile.durability is LATCHED.durability


def test_the_board_has_a_pose_with_covariance(graph):
    poses = Poses(graph, tf__publish=False)
    assert not poses.publisher.is_wanted
    arrived = poses.listen(PoseWithCovarianceStamped, 'board_pose')
    assert poses.publisher.is_wanted
    board = SNAPSHOT.board
    for covariance in (board.covariance, None):
        poses.publisher.publish(replace(SNAPSHOT, board=replace(board, covariance=covariance)))
        graph.spin_until(lambda: arrived, 'a pose')
        found = arrived.pop()
        assert found.header.frame_id == 'camera_optical'
        assert is_pose(found.pose.pose, BOARD_POSE)
        expected = np.zeros((6, 6)) if covariance is None else covariance
        np.testing.assert_allclose(found.pose.covariance.reshape(6, 6), expected)
    poses.publisher.publish(replace(SNAPSHOT, board=None))
    graph.spin_for(0.1)
    assert not arrived
