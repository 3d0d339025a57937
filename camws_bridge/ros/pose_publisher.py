"""Poses to tf and rviz: /tf, /tf_static, ~/markers, ~/poses and ~/board_pose."""
from __future__ import annotations

from collections.abc import Callable

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import (
    PoseArray, PoseWithCovariance, PoseWithCovarianceStamped, TransformStamped, Vector3)
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import ColorRGBA, Header
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import Marker, MarkerArray

from camws_bridge.models import BoardPose, FloatArray, TransformsSnapshot
from camws_bridge.ros.conversions import to_header, to_pose, to_transform
from camws_bridge.services.aruco_service import ArucoService
from camws_bridge.services.pose_messages import named_poses, NamedPose
from camws_bridge.settings import Settings
from camws_bridge.vision.covariance import position_ellipsoid
from camws_bridge.vision.geometry import from_rotation_translation, invert

# A TransformBroadcaster is just these two publishers (tf2_ros, REP 105).
_TF_QOS = QoSProfile(depth=100)
_TF_STATIC_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_THICKNESS = 0.001
_BLACK, _YELLOW, _GREEN = (0.1, 0.1, 0.1, 1.0), (0.95, 0.85, 0.2, 0.4), (0.2, 0.9, 0.3, 1.0)
_BLUE = (0.3, 0.5, 1.0, 0.5)


class PosePublisher:
    """The handler of TRANSFORMS_COMPUTED; publishes from the thread that computes."""

    def __init__(self, node: Node, aruco: ArucoService, settings: Callable[[], Settings]) -> None:
        """Create the publishers; the robot, if there is one, goes to /tf_static at once."""
        self._node, self._aruco, self._settings = node, aruco, settings
        self._tf = node.create_publisher(TFMessage, '/tf', _TF_QOS)
        self._tf_static = node.create_publisher(TFMessage, '/tf_static', _TF_STATIC_QOS)
        self._markers = node.create_publisher(MarkerArray, '~/markers', 1)
        self._poses = node.create_publisher(PoseArray, '~/poses', 1)
        self._board = node.create_publisher(PoseWithCovarianceStamped, '~/board_pose', 1)
        self._is_robot_published = self._is_nameless_reported = False
        if settings().tf.publish:
            self._publish_robot()

    @property
    def is_wanted(self) -> bool:
        """Tell whether poses are wanted by tf or a subscriber."""
        return ((self._settings().tf.publish and self._tf.get_subscription_count() > 0)
                or self._markers.get_subscription_count() > 0
                or self._poses.get_subscription_count() > 0
                or self._board.get_subscription_count() > 0)

    def publish(self, snapshot: TransformsSnapshot) -> None:
        """Publish what this image shows; nothing for what it does not show."""
        header = to_header(snapshot.stamp, snapshot.camera_frame_id)
        poses = [pose for pose in named_poses(
            snapshot, self._settings().tf, self._aruco.board_from_robot)
            if pose.kind in ('board', 'marker')]
        if self._settings().tf.publish:
            self._publish_robot()
        if self._settings().tf.publish and poses and self._has_frame(header):
            self._tf.publish(TFMessage(transforms=[self._transform(header, pose)
                                                   for pose in poses]))
        if self._markers.get_subscription_count():
            self._markers.publish(self._marker_array(header, snapshot))
        if self._poses.get_subscription_count():
            self._poses.publish(PoseArray(
                header=header, poses=[to_pose(pose.camera_from_child) for pose in poses]))

        board = snapshot.board
        if board is not None and self._board.get_subscription_count():
            self._board.publish(_with_covariance(header, board))

    def _transform(self, header: Header, pose: NamedPose) -> TransformStamped:
        names = self._settings().tf
        if pose.kind == 'board' and names.root == 'board':
            board_header = Header(stamp=header.stamp, frame_id=names.board_frame)
            return to_transform(board_header, header.frame_id, invert(pose.camera_from_child))
        return to_transform(header, pose.frame_id, pose.camera_from_child)

    def _has_frame(self, header: Header) -> bool:
        if not header.frame_id and not self._is_nameless_reported:
            self._is_nameless_reported = True
            self._node.get_logger().warning(
                'images and camera_info have no frame_id: nothing goes to /tf')
        return bool(header.frame_id)

    def _publish_robot(self) -> None:
        names, board_from_robot = self._settings().tf, self._aruco.board_from_robot
        if board_from_robot is None or self._is_robot_published:
            return
        self._is_robot_published = True
        header = Header(stamp=self._node.get_clock().now().to_msg(), frame_id=names.board_frame)
        self._tf_static.publish(TFMessage(transforms=[
            to_transform(header, names.robot_frame, board_from_robot)]))

    def _marker_array(self, header: Header, snapshot: TransformsSnapshot) -> MarkerArray:
        # What is not seen any more vanishes: everything is drawn anew for each image.
        markers = [Marker(header=header, action=Marker.DELETEALL)]
        for solved in snapshot.markers:
            markers += _square(header, solved.marker_id, solved.camera_from_marker, solved.length)
            markers += _ellipsoid(header, solved.marker_id, solved.camera_from_marker,
                                  solved.covariance)
        board = self._aruco.board
        if board is not None and snapshot.board is not None:
            pose = snapshot.board.camera_from_board
            drawn = set()
            for seen in snapshot.seen:
                if seen.on_board and seen.marker_id not in drawn:
                    drawn.add(seen.marker_id)
                    place = pose @ _pose_of_square(board.marker_corners(seen.marker_id))
                    markers += _square(header, seen.marker_id, place, seen.length)
            x0, y0, x1, y1 = board.area
            centre = from_rotation_translation(pose[:3, :3], pose[:3, :3] @ (
                (x0 + x1) / 2, (y0 + y1) / 2, -_THICKNESS) + pose[:3, 3])
            markers.append(_shape(header, 'board', 0, centre, (x1 - x0, y1 - y0), _YELLOW))
            markers += _ellipsoid(header, -1, pose, snapshot.board.covariance)
        return MarkerArray(markers=markers)


def _square(header: Header, marker_id: int, pose: FloatArray, length: float) -> list[Marker]:
    label = _shape(header, 'ids', marker_id, pose, (length, length), _GREEN)
    label.type = Marker.TEXT_VIEW_FACING
    label.text = str(marker_id)
    label.scale = Vector3(x=0.0, y=0.0, z=length / 2)
    return [_shape(header, 'markers', marker_id, pose, (length, length), _BLACK), label]


def _ellipsoid(header: Header, marker_id: int, pose: FloatArray, covariance: FloatArray | None
               ) -> list[Marker]:
    """Return what holds the origin of a pose with 95 %; the board's has the id -1."""
    if covariance is None:
        return []
    axes, half = position_ellipsoid(covariance)
    ellipsoid = _shape(header, 'covariance', marker_id,
                       from_rotation_translation(axes, pose[:3, 3]), (1.0, 1.0), _BLUE)
    ellipsoid.type = Marker.SPHERE
    # rviz draws nothing of no size.
    x, y, z = (max(2 * length, 1e-5) for length in half.tolist())
    ellipsoid.scale = Vector3(x=x, y=y, z=z)
    return [ellipsoid]


def _with_covariance(header: Header, board: BoardPose) -> PoseWithCovarianceStamped:
    # Zeros mean unknown there.
    covariance = [0.0] * 36 if board.covariance is None else board.covariance.ravel().tolist()
    return PoseWithCovarianceStamped(header=header, pose=PoseWithCovariance(
        pose=to_pose(board.camera_from_board), covariance=covariance))


def _shape(header: Header, namespace: str, marker_id: int, pose: FloatArray,
           size: tuple[float, float], colour: tuple[float, float, float, float]) -> Marker:
    red, green, blue, alpha = colour
    return Marker(header=header, ns=namespace, id=marker_id, type=Marker.CUBE, action=Marker.ADD,
                  pose=to_pose(pose), scale=Vector3(x=size[0], y=size[1], z=_THICKNESS),
                  color=ColorRGBA(r=red, g=green, b=blue, a=alpha),
                  # A camera that stops leaves nothing standing.
                  lifetime=Duration(sec=1))


def _pose_of_square(corners: FloatArray) -> FloatArray:
    """Return the pose (4x4) of a marker's frame from its four corners (4 x 3)."""
    x = corners[1] - corners[0]
    y = corners[0] - corners[3]
    x, y = x / (x @ x) ** 0.5, y / (y @ y) ** 0.5
    z = [x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0]]
    pose = from_rotation_translation(corners[:3] * 0, corners.mean(axis=0))
    pose[:3, 0], pose[:3, 1], pose[:3, 2] = x, y, z
    return pose
