"""Stills, raw pixels, MJPEG and masks over HTTP, by the wire contract."""
import http.client
import json
import socket
import time

import cv2
import numpy as np
from processes import http_get, wait_until
import pytest
from web_bridge import DEMO_BOARD, running_bridge

from camws_bridge.models import EncodedImage
from camws_bridge.vision.encoding import encode

DEPTH = np.full((240, 320), 1500, np.uint16)


@pytest.fixture(scope='module')
def bridge():
    with running_bridge(board__file=DEMO_BOARD) as it:
        yield it


@pytest.fixture
def frame(bridge):
    return bridge.publish(depth=DEPTH)


def get(bridge, path, **headers):
    return http_get(f'{bridge.http}/api/v1/{path}', headers)


def decode(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.mark.parametrize('stream', [
    'color', 'rectified', 'aruco_debug', 'board_perspective', 'board_mask', 'marker_mask',
    'depth'])
@pytest.mark.parametrize('extension,start', [('jpg', b'\xff\xd8'), ('png', b'\x89PNG')])
def test_the_newest_image_of_every_stream(bridge, frame, stream, extension, start):
    status, headers, body = get(bridge, f'images/{stream}.{extension}')
    assert status == 200 and body.startswith(start)
    assert headers['X-Seq'] == str(frame.seq)
    assert headers['X-Timestamp'] == f'{frame.stamp.sec}.000000250'
    assert headers['X-Frame-Id'] == 'camera_optical'
    assert decode(body) is not None


def test_a_png_of_color_is_lossless(bridge, frame):
    assert np.array_equal(decode(get(bridge, 'images/color.png')[2]), frame.pixels)


def test_depth_raw_is_16_bit_millimetres_and_no_jpeg(bridge, frame):
    assert np.array_equal(decode(get(bridge, 'images/depth_raw.png')[2]), DEPTH)
    status, _, body = get(bridge, 'images/depth_raw.jpg')
    assert status == 404 and 'png' in json.loads(body)['error']['message']


def test_width_and_quality(bridge, frame):
    small = decode(get(bridge, 'images/color.jpg?width=100')[2])
    assert small.shape == (75, 100, 3)
    assert len(get(bridge, 'images/color.jpg?quality=5')[2]) < len(
        get(bridge, 'images/color.jpg?quality=95')[2])


def test_raw_pixels_are_the_cameras_own(bridge, frame):
    status, headers, body = get(bridge, 'images/color/raw')
    assert status == 200 and headers['Content-Type'] == 'application/octet-stream'
    assert (headers['X-Width'], headers['X-Height']) == ('320', '240')
    assert (headers['X-Encoding'], headers['X-Step']) == ('bgr8', '960')
    assert body == frame.pixels.tobytes()
    status, headers, body = get(bridge, 'images/depth/raw')
    assert (headers['X-Encoding'], headers['X-Step']) == ('16UC1', '640')
    assert body == DEPTH.tobytes()


def test_a_jpeg_source_passes_through_byte_for_byte(bridge):
    data = encode(np.full((240, 320, 3), 90, np.uint8), 'image/jpeg', 61)
    bridge.publish(encoded=EncodedImage(data, 'image/jpeg'))
    assert get(bridge, 'images/color.jpg')[2] == data
    assert get(bridge, 'images/color.jpg?width=1000')[2] == data
    assert get(bridge, 'images/color.jpg?quality=20')[2] != data
    assert decode(get(bridge, 'images/color.jpg?width=32')[2]).shape == (24, 32, 3)
    assert decode(get(bridge, 'images/color.png')[2]).shape == (240, 320, 3)


def test_masks(bridge, frame):
    board = decode(get(bridge, 'masks/board.png')[2])
    all_markers = decode(get(bridge, 'masks/marker.png')[2])
    one = decode(get(bridge, 'masks/marker.png?id=42')[2])
    for mask in (board, all_markers, one):
        assert mask.shape == (240, 320) and set(np.unique(mask)) == {0, 255}
    assert one[128, 268] == 255 and one.sum() < all_markers.sum()


@pytest.mark.parametrize('path,status,words', [
    ('images/nothing.jpg', 404, 'color'), ('images/markers.jpg', 404, 'color'),
    ('images/color.gif', 404, 'streams'), ('images/color.jpg?width=0', 400, 'width'),
    ('images/color.jpg?quality=high', 400, 'quality'), ('images/nothing.mjpg', 404, 'color'),
    ('masks/nothing.png', 404, 'streams'), ('masks/marker.png?id=x', 400, 'id')])
def test_errors_are_json_and_say_what_is_allowed(bridge, frame, path, status, words):
    answer = get(bridge, path)
    assert answer[0] == status
    error = json.loads(answer[2])['error']
    assert set(error) == {'code', 'message'} and words in error['message']


def test_without_an_image_503_comes_after_a_second():
    with running_bridge() as bridge:
        started = time.monotonic()
        status, _, body = get(bridge, 'images/color.jpg')
        assert status == 503 and json.loads(body)['error']['code']
        assert time.monotonic() - started >= 1.0
        # A marker that is not seen is no image either, and the reason says so.
        bridge.publish(pixels=np.zeros((240, 320, 3), np.uint8))
        assert get(bridge, 'masks/marker.png?id=3')[0] == 503


def test_a_request_in_time_gets_the_first_image():
    with running_bridge() as bridge:
        connection = http.client.HTTPConnection('127.0.0.1', bridge.server.port, timeout=10)
        connection.request('GET', '/api/v1/images/color.jpg')
        wait_until(lambda: bridge.streaming.is_wanted, 10, 'the request waits')
        frame = bridge.publish()
        response = connection.getresponse()
        assert (response.status, response.headers['X-Seq']) == (200, str(frame.seq))
        connection.close()


def test_cors_headers_are_there_for_pages_that_may_read():
    with running_bridge(allowed_origins=['https://good.example']) as bridge:
        bridge.publish()
        _, headers, _ = get(bridge, 'images/color.jpg', Origin='https://good.example')
        assert headers['Access-Control-Allow-Origin'] == 'https://good.example'
        assert 'X-Seq' in headers['Access-Control-Expose-Headers']
        status, headers, _ = get(bridge, 'images/color.jpg', Origin='https://evil.example')
        assert status == 403 and 'Access-Control-Allow-Origin' not in headers


def test_mjpeg_sends_every_image_as_a_part_and_ends_with_the_client(bridge):
    connection = http.client.HTTPConnection('127.0.0.1', bridge.server.port, timeout=10)
    connection.request('GET', '/api/v1/images/color.mjpg?width=64')
    response = connection.getresponse()
    content_type = response.headers['Content-Type']
    assert content_type.startswith('multipart/x-mixed-replace; boundary=')
    boundary = content_type.partition('boundary=')[2].encode()
    wait_until(lambda: bridge.connections.count('color') == 1, 10, 'connected')
    seqs = []
    for _ in range(3):
        frame = bridge.publish()
        while not seqs or seqs[-1] != frame.seq:
            part = read_part(response, boundary)
            assert decode(part['body']).shape == (48, 64, 3)
            seqs.append(int(part['x-seq']))
    assert seqs == sorted(set(seqs))
    response.close()
    connection.close()
    wait_until(lambda: bridge.publish() and bridge.connections.count('color') == 0, 10, 'gone')


def test_an_mjpeg_client_that_stalls_is_removed():
    # Inject a fault by a client that never reads.
    noise = np.random.default_rng(1).integers(0, 255, (240, 320, 3), np.uint8)
    with running_bridge(client_timeout=1.0) as bridge:
        with socket.create_connection(('127.0.0.1', bridge.server.port)) as stalled:
            stalled.sendall(b'GET /api/v1/images/color.mjpg HTTP/1.1\r\nHost: x\r\n\r\n')
            wait_until(lambda: bridge.connections.total == 1, 10, 'connected')
            wait_until(lambda: bridge.publish(pixels=noise) and bridge.connections.total == 0, 20,
                       'removed')
        assert bridge.count('camws_clients_removed_total', reason='timeout') == 1


def read_part(response, boundary):
    line = response.readline()
    while line.strip() != b'--' + boundary:
        assert line in (b'\r\n',), line
        line = response.readline()
    fields = {}
    while (line := response.readline().strip()):
        name, _, value = line.decode().partition(': ')
        fields[name.lower()] = value
    return {**fields, 'body': response.read(int(fields['content-length']))}
