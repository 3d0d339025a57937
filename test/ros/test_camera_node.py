from __future__ import annotations

import array
import threading
import time

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from ros_side import BEST_EFFORT, camera_info, header, image_message, LATCHED, RELIABLE
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from vision.test_pixel_formats import make_picture, STORE

from camws_bridge.events import DEPTH_PAIRED, EventBus, IMAGE_RECEIVED
from camws_bridge.metrics import Metrics
from camws_bridge.models import Stamp
from camws_bridge.ros import camera_node
from camws_bridge.ros.camera_node import CameraNode
from camws_bridge.services.health_service import HealthService
from camws_bridge.settings import Settings, SettingsHolder
from camws_bridge.vision.pixel_formats import to_bgr

PICTURE = make_picture('bgr8', 1)
KINDS = {'image': Image, 'camera_info': CameraInfo, 'depth/image': Image,
         'image/compressed': CompressedImage}


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class CountingCameraNode(CameraNode):
    infos = 0

    def _on_camera_info(self, message):
        super()._on_camera_info(message)
        self.infos += 1


class Camera:
    """A CameraNode, the drivers before it, and the frames it makes."""

    def __init__(self, graph, *ros_arguments, offers=None, **values):
        self.graph, self.frames, self.warnings = graph, [], []
        self.publishers = {name: graph.publisher(KINDS[name], name, qos)
                           for name, qos in (offers or {}).items()}
        self.node = graph.node(*ros_arguments)
        for publisher in self.publishers.values():
            topic = publisher.topic_name
            graph.spin_until(lambda topic=topic: self.node.count_publishers(topic))
        self.bus, self.clock, self.metrics = EventBus(), Clock(), Metrics()
        self.settings = SettingsHolder(Settings().with_values(
            {name.replace('__', '.'): value for name, value in values.items()}))
        self.health = HealthService(self.settings, self.clock)
        self.wants_images = self.wants_depth = True
        self.idle = 0
        self.bus.subscribe(IMAGE_RECEIVED, self.frames.append)
        self.bus.subscribe(DEPTH_PAIRED, self.frames.append)
        self.camera = CountingCameraNode(
            self.node, self.bus, self.settings, self.health, self.metrics,
            lambda: self.wants_images, lambda: self.wants_depth, self._on_idle)
        for publisher in self.publishers.values():
            graph.spin_until(lambda publisher=publisher: publisher.get_subscription_count(),
                             f'{publisher.topic_name} subscribed')

    def _on_idle(self):
        self.idle += 1

    def publish(self, name, message):
        self.publishers[name].publish(message)

    def send(self, name, message):
        """Publish what makes a frame, and return it."""
        before = len(self.frames)
        self.publish(name, message)
        self.graph.spin_until(lambda: len(self.frames) > before, f'a frame of {name}')
        return self.frames[-1]

    def calibrate(self, info):
        """Publish a camera_info, and wait until it was looked at."""
        before = self.camera.infos
        self.publish('camera_info', info)
        self.graph.spin_until(lambda: self.camera.infos > before, 'camera_info arrives')

    def drop(self, message):
        before = sum(self.health.dropped.values())
        self.publish('image', message)
        self.graph.spin_until(lambda: sum(self.health.dropped.values()) > before, 'dropped')


@pytest.fixture
def camera(graph):
    return Camera(graph, offers=dict.fromkeys(('image', 'camera_info', 'depth/image'), RELIABLE))


@pytest.fixture
def logged(monkeypatch):
    """Collect what nodes log."""
    from rclpy.impl.rcutils_logger import RcutilsLogger
    lines = []
    for level in ('warning', 'info'):
        monkeypatch.setattr(RcutilsLogger, level, lambda _, text, level=level, **__: lines.append(
            (level, text)))
    return lines


def picture_message(number=0, **options):
    return image_message(PICTURE, at=header(100 + number), **options)


def depth_message(at, value=1500):
    return image_message(np.full((6, 8), value, np.uint16), '16UC1', at)


# -- images -----------------------------------------------------------------------------------


def test_images_become_frames(camera):
    first = camera.send('image', image_message(PICTURE, at=header(7, 8, 'optical')))
    assert (first.seq, first.stamp, first.frame_id) == (1, Stamp(7, 8), 'optical')
    assert (first.width, first.height, first.encoding, first.encoded) == (8, 6, 'bgr8', None)
    np.testing.assert_array_equal(first.pixels, PICTURE)
    second = camera.send('image', picture_message(1))
    assert (second.seq, second.stamp.sec) == (2, 101)
    assert camera.metrics.registry.get_sample_value('camws_images_received_total') == 2
    assert camera.health.check().code == 'ok'


def test_resolution_encoding_and_frame_may_change_mid_stream(camera):
    for number, (encoding, size) in enumerate([
            ('bgr8', (8, 6)), ('uyvy', (8, 6)), ('nv12', (16, 12)), ('bayer_rggb8', (4, 4)),
            ('mono16', (8, 6)), ('32FC1', (2, 2)), ('rgb16', (8, 6)), ('bgr8', (640, 480))]):
        picture = np.full((size[1], size[0], 3), 80, np.uint8)
        picture[:1, :1] = picture[:1, :1] if 'bayer' in encoding else 80
        store = STORE.get(encoding, lambda bgr: bgr[..., ::-1].astype(np.uint16) * 257)
        frame = camera.send('image', image_message(
            store(picture), encoding, header(100 + number, frame_id=f'frame_{number}'),
            padding=8, size=picture.shape[:2]))
        assert (frame.width, frame.height, frame.frame_id) == (*size, f'frame_{number}')
        shown = to_bgr(frame.pixels, frame.encoding)
        assert shown.shape == picture.shape
        if encoding != '32FC1':         # shown from its least to its most: here there is one
            assert np.abs(shown.astype(int) - picture).max() <= 4


def malformed(**changes):
    message = picture_message()
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_malformed_images_are_dropped_counted_and_reported_once_per_kind(camera, logged):
    short = malformed(data=array.array('B', bytes(10)))
    for message in (short, short, malformed(encoding='bgr9'), malformed(width=0), short,
                    malformed(step=5)):
        camera.drop(message)
    assert camera.frames == []
    assert camera.health.dropped == {
        'short_data': 3, 'unknown_encoding': 1, 'zero_size': 1, 'short_step': 1}
    assert camera.metrics.registry.get_sample_value(
        'camws_images_dropped_total', {'reason': 'short_data'}) == 3
    reports = [text for level, text in logged if level == 'warning' and 'dropped' in text]
    assert len(reports) == 4
    assert '(short_data): 10 bytes of data' in reports[0]
    assert "'bgr9'" in reports[1]
    # The next good one goes through, and its number shows no gap.
    assert camera.send('image', picture_message()).seq == 1


def test_a_malformed_depth_image_costs_nothing_but_itself(camera):
    camera.publish('depth/image', image_message(PICTURE, at=header()))
    camera.graph.spin_until(lambda: camera.health.dropped, 'dropped')
    assert camera.health.dropped == {'depth_encoding': 1}
    assert camera.send('image', picture_message()).depth is None


# -- quality of service -----------------------------------------------------------------------


def test_publishers_of_any_reliability_are_received_within_a_second(wide_graph):
    graph = wide_graph
    camera = Camera(graph)
    for number, qos in enumerate((RELIABLE, BEST_EFFORT, LATCHED)):
        publisher = graph.publisher(Image, 'image', qos)
        started = time.monotonic()

        def arrived(number=number, publisher=publisher):
            publisher.publish(picture_message(number))
            return any(frame.stamp.sec == 100 + number for frame in camera.frames)

        graph.spin_until(arrived, f'images of publisher {number}')
        # Those before stay: at first one reliable, then one best effort beside it.
        assert time.monotonic() - started < 1.5     # 0.5 s, and a loaded machine
        assert camera.health.check().code == 'ok'
    graph.spin_until(lambda: camera.camera._image.publishers == 3)


def test_a_driver_that_changes_its_reliability_is_followed(wide_graph):
    graph = wide_graph
    camera = Camera(graph, offers={'image': BEST_EFFORT})
    camera.send('image', picture_message())
    graph.peer.destroy_publisher(camera.publishers['image'])
    publisher = graph.publisher(Image, 'image', RELIABLE)

    def follows():
        found = graph.peer.get_subscriptions_info_by_topic(graph.topic('image'))
        return [info.qos_profile.reliability for info in found] == [RELIABLE.reliability]

    graph.spin_until(follows, 'the subscription is reliable, too', 2.0)
    graph.spin_until(lambda: publisher.get_subscription_count())
    publisher.publish(picture_message(5))
    graph.spin_until(lambda: camera.frames[-1].stamp.sec == 105)


def test_a_latched_camera_info_of_long_ago_counts(wide_graph):
    graph = wide_graph
    publisher = graph.publisher(CameraInfo, 'camera_info', LATCHED)
    publisher.publish(camera_info())
    camera = Camera(graph, offers={'image': RELIABLE})
    graph.spin_until(lambda: camera.camera._camera, 'the latched calibration arrives')
    assert camera.send('image', picture_message()).camera.k[0, 0] == 400.0


# -- calibration ------------------------------------------------------------------------------


def test_without_camera_info_frames_say_so(camera):
    frame = camera.send('image', picture_message())
    assert (frame.camera, frame.camera_problem) == (None, 'no camera_info has arrived')


def test_the_calibration_may_change_mid_stream(camera):
    camera.calibrate(camera_info(focal=400.0))
    first = camera.send('image', picture_message())
    assert (first.camera.k[0, 0], first.camera_problem) == (400.0, '')
    camera.calibrate(camera_info(focal=500.0))
    second = camera.send('image', picture_message(1))
    assert second.camera.k[0, 0] == 500.0
    camera.calibrate(camera_info(focal=0.0))
    assert camera.send('image', picture_message(2)).camera is None
    camera.calibrate(camera_info(focal=500.0))
    assert camera.send('image', picture_message(3)).camera.k[0, 0] == 500.0


def test_the_same_calibration_is_not_made_anew(camera):
    camera.calibrate(camera_info())
    first = camera.send('image', picture_message())
    camera.calibrate(camera_info())
    assert camera.send('image', picture_message(1)).camera is first.camera


@pytest.mark.parametrize(('info', 'problem'), [
    (CameraInfo(width=8, height=6), 'focal lengths 0, 0'),
    (CameraInfo(), 'focal lengths 0, 0'),
    (camera_info(focal=float('nan')), 'not finite'),
    (camera_info(d=[0.1, float('inf'), 0, 0, 0]), 'not finite'),
    (camera_info(model='fisheye7'), "'fisheye7'; allowed: plumb_bob"),
    (camera_info(d=[0.1, 0.2, 0.3]), '3 distortion coefficients; plumb_bob takes 0 or 4 or 5'),
    (camera_info(640, 480), 'camera_info is for 640x480 pixels, the image has 8x6')],
    ids=['zero', 'empty', 'nan', 'inf', 'model', 'coefficients', 'resolution'])
def test_a_calibration_that_cannot_be_used_says_why(camera, logged, info, problem):
    camera.calibrate(info)
    frame = camera.send('image', picture_message())
    assert frame.camera is None
    assert problem in frame.camera_problem
    np.testing.assert_array_equal(frame.pixels, PICTURE)
    # The driver repeats it with every image; the log does not.
    camera.calibrate(info)
    is_wrong_by_itself = 'pixels, the image has' not in problem
    assert [level for level, text in logged if 'poses need a calibration' in text] == (
        ['warning'] * is_wrong_by_itself)
    camera.calibrate(camera_info(focal=450.0))
    assert camera.send('image', picture_message(2)).camera.k[0, 0] == 450.0


def test_a_calibration_without_a_size_takes_that_of_the_image(camera):
    camera.calibrate(camera_info(0, 0))
    found = camera.send('image', picture_message()).camera
    assert (found.width, found.height) == (8, 6)


def test_a_rectified_image_has_the_intrinsics_of_p_and_no_distortion(graph):
    camera = Camera(graph, offers=dict.fromkeys(('image', 'camera_info'), RELIABLE),
                    image_is_rectified=True)
    camera.calibrate(camera_info(focal=400.0, p_focal=300.0))
    found = camera.send('image', picture_message()).camera
    assert (found.k[0, 0], found.is_distorted) == (300.0, False)


# -- depth ------------------------------------------------------------------------------------


def wait_for_depth(camera):
    camera.graph.spin_until(lambda: camera.camera._pairing._depths or camera.frames
                            and camera.frames[-1].depth is not None, 'depth arrives')


def test_depth_that_comes_first_goes_with_its_image(camera):
    camera.publish('depth/image', depth_message(header(100, 0)))
    wait_for_depth(camera)
    frame = camera.send('image', image_message(PICTURE, at=header(100, 5_000_000)))
    assert frame.depth.tolist() == np.full((6, 8), 1500).tolist()
    assert [frame.seq for frame in camera.frames] == [1]


def test_depth_that_comes_later_brings_its_image_again(camera):
    plain = camera.send('image', image_message(PICTURE, at=header(100, 0)))
    assert plain.depth is None
    paired = camera.send('depth/image', depth_message(header(100, 5_000_000), 900))
    assert (paired.seq, paired.stamp) == (plain.seq, plain.stamp)
    assert paired.depth[0, 0] == 900
    np.testing.assert_array_equal(paired.pixels, PICTURE)
    assert camera.send('image', picture_message(1)).seq == 2


def test_depth_of_another_time_is_not_paired(camera):
    camera.publish('depth/image', depth_message(header(99, 979_000_000)))
    wait_for_depth(camera)
    assert camera.send('image', image_message(PICTURE, at=header(100, 0))).depth is None
    camera.publish('depth/image', depth_message(header(100, 27_000_000)))
    camera.graph.spin_until(lambda: len(camera.camera._pairing._depths) == 2)
    assert len(camera.frames) == 1
    # It is that of the next image.
    frame = camera.send('image', image_message(PICTURE, at=header(100, 33_000_000)))
    assert frame.depth is not None


def test_of_two_depth_images_the_nearer_belongs_to_the_image(camera):
    for nanosec, value in ((0, 1000), (6_000_000, 2000)):
        camera.publish('depth/image', depth_message(header(100, nanosec), value))
        camera.graph.spin_until(
            lambda value=value: any(depth[0, 0] == value
                                    for _, depth in camera.camera._pairing._depths))
    assert camera.send('image', image_message(PICTURE, at=header(100, 0))).depth[0, 0] == 1000


def test_the_tolerance_is_a_live_parameter(camera):
    camera.settings.change({'depth.max_stamp_difference': 0.0})
    plain = camera.send('image', image_message(PICTURE, at=header(100, 0)))
    camera.publish('depth/image', depth_message(header(100, 1)))
    wait_for_depth(camera)
    assert camera.frames == [plain]
    assert camera.send('depth/image', depth_message(header(100, 0))).depth is not None


def test_depth_is_left_alone_while_nobody_wants_it(camera, monkeypatch):
    monkeypatch.setattr(camera_node, '_LINGER', 0.3)
    publisher = camera.publishers['depth/image']
    camera.wants_depth = False
    camera.graph.spin_until(lambda: publisher.get_subscription_count() == 0, 'unsubscribed', 2.0)
    assert camera.health.has_depth
    assert camera.send('image', picture_message()).depth is None
    assert not camera.camera._pairing._frames


# -- compressed transport ---------------------------------------------------------------------


@pytest.mark.parametrize(('remaps', 'topic'), [
    ((), 'image/compressed'),
    (('-r', 'image:=front/image_raw'), 'front/image_raw/compressed'),
    (('-r', 'image/compressed:=jpegs'), 'jpegs'),
    (('-r', 'image/compressed:=jpegs', '-r', 'image:=front/image_raw'), 'jpegs')])
def test_the_compressed_topic_follows_the_image_unless_remapped_itself(graph, remaps, topic):
    camera = Camera(graph, *remaps, image_transport='compressed')
    assert camera.camera._image.topic == graph.topic(topic)


def test_an_absolute_image_topic_has_its_compressed_one(graph):
    camera = Camera(graph, '-r', 'image:=/cam/image_raw', image_transport='compressed')
    assert camera.camera._image.topic == '/cam/image_raw/compressed'


def test_image_files_arrive_as_they_are(graph):
    camera = Camera(graph, offers={'image/compressed': RELIABLE, 'camera_info': RELIABLE},
                    image_transport='compressed')
    data = cv2.imencode('.jpg', PICTURE)[1].tobytes()
    camera.calibrate(camera_info())
    frame = camera.send('image/compressed', CompressedImage(
        header=header(9, 1, 'optical'), format='jpeg', data=array.array('B', data)))
    assert (frame.stamp, frame.frame_id, frame.seq) == (Stamp(9, 1), 'optical', 1)
    assert (frame.width, frame.height, frame.pixels) == (8, 6, None)
    assert frame.encoded.data == data
    assert frame.camera is not None
    camera.publish('image/compressed', CompressedImage(data=array.array('B', b'no image')))
    graph.spin_until(lambda: camera.health.dropped == {'not_an_image_file': 1}, 'dropped')


# -- lazy -------------------------------------------------------------------------------------


def test_the_camera_is_left_alone_while_nobody_wants_it(graph, monkeypatch):
    monkeypatch.setattr(camera_node, '_LINGER', 0.3)
    camera = Camera(graph, offers={'image': RELIABLE})
    publisher = camera.publishers['image']
    camera.send('image', picture_message())
    camera.wants_images = False
    left = time.monotonic()
    graph.spin_until(lambda: publisher.get_subscription_count() == 0, 'unsubscribed', 3.0)
    assert time.monotonic() - left > 0.25
    assert (camera.idle, camera.health.check().code) == (1, 'idle')
    # Who comes does not wait for the timer: nor does this test.
    timer, = (timer for timer in camera.node.timers if timer.timer_period_ns == 500_000_000)
    timer.cancel()
    camera.wants_images = True
    thread = threading.Thread(target=camera.camera.look_soon)
    thread.start()
    thread.join()
    graph.spin_until(lambda: publisher.get_subscription_count() == 1, 'subscribed at once', 2.0)
    assert camera.send('image', picture_message(1)).seq == 2


def test_lazy_can_be_switched_off(graph, monkeypatch):
    monkeypatch.setattr(camera_node, '_LINGER', 1e-9)
    camera = Camera(graph, lazy=False)
    camera.wants_images = False
    camera.camera.look()
    assert camera.camera._image.is_active
    camera.settings.change({'lazy': True})
    camera.camera.look()
    assert not camera.camera._image.is_active


# -- health -----------------------------------------------------------------------------------


def test_a_publisher_from_which_nothing_arrives_is_reported_once_with_the_remedy(graph, logged):
    camera = Camera(graph, offers={'image': BEST_EFFORT})
    camera.camera.look()
    assert camera.health.check().code == 'starting'
    camera.clock.now += 3.1
    camera.camera.look()
    camera.camera.look()
    silent = camera.health.check()
    assert (silent.is_ok, silent.code) == (False, 'no_images')
    assert graph.topic('image') in silent.message
    assert 'FASTDDS_DEFAULT_PROFILES_FILE' in silent.message
    assert [entry for entry in logged if 'image' in entry[1]] == [('warning', silent.message)]
    camera.send('image', picture_message())
    camera.camera.look()
    assert logged[-1] == ('info', 'images arrive')


def test_without_a_publisher_health_says_so(graph):
    camera = Camera(graph)
    camera.clock.now += 3.1
    assert camera.health.check().message == (
        f'no image on {graph.topic("image")}: it has no publisher')
