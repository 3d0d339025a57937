"""Catalogue, health and metrics."""
import json
import re

import numpy as np
from processes import http_get, wait_until
import pytest
from web_bridge import DEMO_BOARD, running_bridge
from websockets.sync.client import connect

STREAMS = {
    'color': 'image/jpeg', 'rectified': 'image/jpeg', 'aruco_debug': 'image/jpeg',
    'board_perspective': 'image/jpeg', 'board_mask': 'image/png', 'marker_mask': 'image/png',
    'depth': 'image/jpeg', 'depth_raw': 'image/png', 'markers': 'application/json',
    'transforms_camera': 'application/json', 'transforms_board': 'application/json',
    'transforms_robot': 'application/json'}


@pytest.fixture
def bridge():
    with running_bridge(board__file=DEMO_BOARD, stale_after=0.1) as it:
        yield it


def catalogue(bridge):
    streams = json.loads(http_get(f'{bridge.http}/api/v1/streams')[2])['streams']
    return {stream['id']: stream for stream in streams}


def test_the_catalogue_is_that_of_the_contract(bridge):
    assert {name: stream['content_type'] for name, stream in catalogue(bridge).items()} == STREAMS


def test_the_catalogue_says_why_a_stream_is_not_available(bridge):
    bridge.publish(camera=None, camera_problem='no camera_info has arrived')
    http_get(f'{bridge.http}/api/v1/images/color.jpg')
    streams = catalogue(bridge)
    assert streams['color']['available'] and streams['color']['reason'] is None
    assert streams['rectified']['reason'] == 'no camera_info has arrived'
    assert 'no publisher' in streams['depth']['reason']
    assert 'robot.pose_in_board' in streams['transforms_robot']['reason']
    assert not any(streams[name]['available'] for name in ('rectified', 'depth'))


def test_a_board_that_is_not_seen_is_no_longer_available(bridge):
    bridge.publish(pixels=np.zeros((240, 320, 3), np.uint8))
    http_get(f'{bridge.http}/api/v1/aruco')
    assert 'not visible' in catalogue(bridge)['board_mask']['reason']


def test_health_follows_the_images(bridge):
    from processes import wait_until

    def health():
        status, _, body = http_get(f'{bridge.http}/healthz')
        return status, json.loads(body)['code']

    assert health() == (503, 'starting')
    bridge.publish()
    assert health() == (200, 'ok')
    wait_until(lambda: health() == (503, 'stale'), 10, 'stale')
    status, _, body = http_get(f'{bridge.http}/healthz')
    assert json.loads(body)['error']['code'] == 'stale'
    bridge.health.set_watching(False)
    assert health() == (200, 'idle')


def test_metrics_say_what_happened(bridge):
    bridge.publish()
    http_get(f'{bridge.http}/api/v1/images/color.jpg')
    status, headers, body = http_get(f'{bridge.http}/metrics')
    assert status == 200 and headers['Content-Type'].startswith('text/plain')
    text = body.decode()
    assert 'camws_messages_produced_total{stream="color"} 1.0' in text
    assert 'camws_stage_seconds_count{stage="color"} 1.0' in text


def test_life_and_readiness_do_not_depend_on_the_camera(bridge):
    def ask(path):
        status, _, body = http_get(f'{bridge.http}/{path}')
        return status, json.loads(body)['code']

    assert (ask('livez'), ask('readyz'), ask('healthz')) == (
        (200, 'ok'), (200, 'ok'), (503, 'starting'))
    bridge.health.set_active(False)
    assert (ask('livez'), ask('readyz'), ask('healthz')) == (
        (200, 'ok'), (503, 'inactive'), (200, 'inactive'))
    streams = catalogue(bridge)
    assert not any(stream['available'] for stream in streams.values())
    assert 'deactivated' in streams['markers']['reason']


def test_metrics_tell_how_each_of_some_clients_is_served():
    def clients():
        text = http_get(bridge.http + '/metrics')[2].decode()
        return {name: (client, float(value)) for name, client, value in re.findall(
            r'^(camws_client_\w+)\{client="([^"]+)",name="",stream="markers"\} (\S+)$', text,
            re.MULTILINE)}

    with running_bridge(limits__clients_in_metrics=1) as bridge:
        with connect(bridge.ws + '/ws/markers', subprotocols=['camws.v1']) as first:
            frame = bridge.publish()
            while json.loads(first.recv(timeout=10)).get('seq') != frame.seq:
                pass
            first.send(json.dumps({'op': 'ack', 'seq': frame.seq}))
            first.send('{"op":"time","t0":1}')
            first.recv(timeout=10)
            with connect(bridge.ws + '/ws/markers') as second:
                second.ping().wait(10)
                found = clients()
            host, port = first.local_address[:2]
            assert {client for client, _ in found.values()} == {f'{host}:{port}'}
            assert found['camws_client_messages_sent_total'][1] == 1
            assert found['camws_client_unacknowledged_images'][1] == 0
            # The stamps of the test are of 1970.
            assert found['camws_client_age_seconds'][1] > 1e9
        wait_until(lambda: not clients(), 10, 'it is gone, and what was said of it')
