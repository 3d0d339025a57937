"""Inject an exception into each stage: the frame is dropped and counted, the next goes through."""
from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('tf2_msgs.msg', reason='tf2_msgs is built by scripts/setup')

from diagnostic_msgs.msg import DiagnosticArray
from tf2_msgs.msg import TFMessage

PACKAGE = 'camws_bridge'
DROPPED = ('camws_images_dropped_total', {'reason': 'internal_error'})


def failed(stream: str) -> tuple[str, dict[str, str]]:
    return 'camws_processing_errors_total', {'stream': stream}


# What is injected where, which streams are watched, and the counter that says so.
STAGES = {
    'receive': ('ros.camera_node:CameraNode._publish', ('color',), DROPPED),
    'convert': ('ros.conversions:to_pixels', ('color',), DROPPED),
    'detect': ('vision.detection:MarkerDetector.detect', ('markers',), failed('poses')),
    'pose': ('services.aruco_service:ArucoService.analyse', ('transforms_board',),
             failed('poses')),
    'product': ('services.image_service:ImageService.picture', ('color',), failed('color')),
    'encode': ('vision.encoding:encode', ('color',), failed('color')),
    'hand_over': ('websockets.streaming_service:StreamingService._hand_over', ('color',),
                  failed('hand_over')),
    'deliver': ('websockets.newest_messages:NewestMessages.keep', ('color',), failed('deliver')),
}


@pytest.mark.parametrize('stage', STAGES)
def test_the_next_frame_goes_through(robot: Any, stage: str) -> None:
    place, streams, (name, labels) = STAGES[stage]
    robot.expects_errors = True
    before = robot.bridge.count(name, **labels)
    with robot.watching(*streams) as viewer:
        viewer.next()
        robot.bridge.inject(f'{PACKAGE}.{place}', 'ZeroDivisionError')
        # A whole image is searched for markers once in 15 of them.
        seqs = [viewer.next()['seq'] for _ in range(20)]
    assert robot.bridge.count(name, **labels) == before + 1
    assert seqs == sorted(set(seqs))
    assert 'injected' in robot.bridge.output       # throttled by stream
    assert robot.bridge.health()[:2] == (200, 'ok')


def test_a_failing_product_costs_the_other_products_nothing(robot: Any) -> None:
    robot.expects_errors = True
    before = robot.bridge.count('camws_processing_errors_total', stream='color')
    with robot.watching('color', 'markers') as (color, markers):
        for viewer in (color, markers):
            viewer.next()
        robot.bridge.inject(f'{PACKAGE}.vision.detection:MarkerDetector.detect',
                            'ZeroDivisionError')
        for _ in range(20):
            color.next()
            markers.next()
    assert robot.bridge.count('camws_processing_errors_total', stream='color') == before


def test_who_cannot_be_sent_to_is_removed_and_the_others_go_on(robot: Any) -> None:
    before = robot.bridge.count('camws_clients_removed_total', reason='send_failed')
    with robot.watching('color', 'color') as viewers:
        for viewer in viewers:
            viewer.next()
        robot.bridge.inject(f'{PACKAGE}.websockets.stream_client:StreamClient.offer',
                            'ZeroDivisionError')
        alive = [viewer for viewer in viewers if goes_on(viewer)]
    assert len(alive) == 1
    assert robot.bridge.count('camws_clients_removed_total', reason='send_failed') == before + 1


def goes_on(viewer: Any) -> bool:
    from websockets.exceptions import ConnectionClosed
    try:
        for _ in range(20):
            viewer.next()
    except ConnectionClosed:
        return False
    return True


def test_tf_that_cannot_be_published_is_counted_and_the_next_is(robot: Any) -> None:
    robot.expects_errors = True
    arrived = robot.listen(TFMessage, '/tf')
    robot.spin_until(lambda: arrived, 'tf')
    with robot.watching('color') as viewer:
        robot.bridge.inject(f'{PACKAGE}.ros.pose_publisher:to_header', 'ZeroDivisionError')
        robot.spin_until(lambda: robot.bridge.count(
            'camws_handler_errors_total', event='TRANSFORMS_COMPUTED') == 1, 'counted')
        before = len(arrived)
        robot.spin_until(lambda: len(arrived) > before + 3, 'tf goes on')
        viewer.next()


@pytest.mark.parametrize(('place', 'label'), [
    ('ros.diagnostics_publisher:total', 'diagnostics'),
    ('ros.camera_node:CameraNode._report_health', 'look')])
def test_a_timer_that_fails_does_not_end_the_ros_thread(
        robot: Any, place: str, label: str) -> None:
    robot.expects_errors = True
    arrived = robot.listen(DiagnosticArray, '/diagnostics')
    robot.bridge.inject(f'{PACKAGE}.{place}', 'ZeroDivisionError')
    robot.spin_until(
        lambda: robot.bridge.count('camws_ros_errors_total', place=label) == 1, 'counted')
    before = len(arrived)
    robot.spin_until(lambda: len(arrived) > before, 'the next diagnostics')
    assert robot.bridge.count('camws_threads_alive', thread='ros') == 1
