from __future__ import annotations

from contextlib import ExitStack
import re

import numpy as np
import pytest

pytest.importorskip('rclpy')

from processes import BridgeProcess, ROOT
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from rclpy.parameter import Parameter as RosParameter, parameter_value_to_python
from web_bridge import DEMO_BOARD

from camws_bridge.dependencies import build
from camws_bridge.ros.parameters import declare_settings, follow_changes
from camws_bridge.settings import PARAMETERS, Settings, SettingsError, SettingsHolder

TYPES = {'bool': ParameterType.PARAMETER_BOOL, 'int': ParameterType.PARAMETER_INTEGER,
         'float': ParameterType.PARAMETER_DOUBLE, 'str': ParameterType.PARAMETER_STRING,
         'strings': ParameterType.PARAMETER_STRING_ARRAY,
         'floats': ParameterType.PARAMETER_DOUBLE_ARRAY}


def given(graph, *values):
    """Return the settings of a node started with ``-p`` values."""
    words = [word for value in values for word in ('-p', value)]
    return declare_settings(graph.node(*words))()


# -- at the start -----------------------------------------------------------------------------


def test_every_parameter_is_declared_and_described(graph):
    node = graph.node()
    assert declare_settings(node)() == Settings()
    for name, parameter in PARAMETERS.items():
        found, described = node.get_parameter(name), node.describe_parameter(name)
        assert described.description == parameter.description
        assert parameter.allowed in described.additional_constraints
        assert ('takes effect at start' in described.additional_constraints) != parameter.live
        value = found.value
        default = parameter.default
        assert (tuple(value) if isinstance(default, tuple) else value) == default
        if default != ():
            assert found.type_.value == TYPES[parameter.kind]


def test_ranges_are_described(graph):
    node = graph.node()
    declare_settings(node)
    quality, = node.describe_parameter('jpeg.quality').integer_range
    assert (quality.from_value, quality.to_value) == (1, 100)
    least, = node.describe_parameter('depth.min_m').floating_point_range
    assert (least.from_value, least.to_value) == (0.0, 1000.0)


@pytest.mark.parametrize(('name', 'text', 'value'), [
    ('port', '0', 0), ('port', '65535', 65535), ('jpeg.quality', '1', 1),
    ('lazy', 'false', False), ('image_transport', 'compressed', 'compressed'),
    ('stale_after', '5', 5.0), ('depth.max_m', '3', 3.0), ('markers.length_m', '1', 1.0),
    ('robot.pose_in_board', '[]', ()), ('markers.lengths', '[]', ()),
    ('allowed_origins', '[]', ()),
    ('robot.pose_in_board', '[1, 0, 0, 0, 0, -2]', (1.0, 0.0, 0.0, 0.0, 0.0, -2.0)),
    ('robot.pose_in_board', '[0.5, 0.0, 0.0, 0.0, 0.0, 1.5]', (0.5, 0.0, 0.0, 0.0, 0.0, 1.5)),
    ('markers.lengths', "['7:0.08', '9:0.1']", ('7:0.08', '9:0.1')),
    ('tf.board_frame', 'plate', 'plate')])
def test_values_of_the_command_line(graph, name, text, value):
    settings = given(graph, f'{name}:={text}')
    for part in name.split('.'):
        settings = getattr(settings, part)
    assert settings == value
    assert type(settings) is type(value)


@pytest.mark.parametrize(('name', 'text', 'shown', 'allowed'), [
    ('port', '65536', '65536', 'a whole number from 0 to 65535'),
    ('port', '80.5', '80.5', 'a whole number'),
    ('port', 'http', "'http'", 'a whole number'),
    ('jpeg.quality', '0', '0', 'a whole number from 1 to 100'),
    ('jpeg.quality', 'true', 'True', 'a whole number'),
    ('lazy', '1', '1', 'true or false'),
    ('host', '127', '127', 'text'),
    ('image_transport', 'theora', "'theora'", "'raw' or 'compressed'"),
    ('tf.root', 'robot', "'robot'", "'camera' or 'board'"),
    ('stale_after', '.nan', 'nan', 'a number from 0.1 to 3600'),
    ('depth.min_m', '-0.1', '-0.1', 'a number from 0 to 1000'),
    ('detector.window_min', '4', '4', 'an odd window'),
    ('detector.window_min', '31', '31', 'at most detector.window_max (23)'),
    ('depth.max_m', '0.1', '0.2', 'less than depth.max_m'),
    ('robot.pose_in_board', '[1, 2, 3]', '3 values', 'none, or 6'),
    ('robot.pose_in_board', "['a']", "['a']", 'a list of numbers'),
    ('robot.pose_in_board', '7', '7', 'a list of numbers'),
    ('markers.lengths', "['7=0.08']", "'7=0.08'", 'id:metres'),
    ('markers.lengths', '[7, 8]', '7, 8', 'a list of texts'),
    ('tls.certfile', '/cert.pem', 'tls.keyfile', 'a path')])
def test_a_wrong_value_names_parameter_value_and_what_is_allowed(
        graph, name, text, shown, allowed):
    with pytest.raises(SettingsError) as caught:
        given(graph, f'{name}:={text}')
    message = str(caught.value)
    # Where two parameters contradict one another, either may be named.
    assert re.match(r'parameter (depth\.min_m|tls\.keyfile|' + re.escape(name) + '):', message)
    assert shown in message and 'allowed' in message and allowed in message
    assert '\n' not in message


def test_values_of_a_file(graph, tmp_path):
    path = tmp_path / 'params.yaml'
    path.write_text('''
/**:
  ros__parameters:
    port: 0
    stale_after: 5
    allowed_origins: []
    markers: {lengths: [], length_m: 1}
    robot: {pose_in_board: [1, 0, 0, 0, 0, 0]}
''')
    settings = declare_settings(graph.node('--params-file', str(path)))()
    assert settings == Settings().with_values({
        'port': 0, 'stale_after': 5.0, 'markers.length_m': 1.0,
        'robot.pose_in_board': [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]})
    path.write_text('/**: {ros__parameters: {robot: {pose_in_board: []}}}')
    assert declare_settings(graph.node('--params-file', str(path)))() == Settings()


def test_the_demos_file_is_complete(graph):
    settings = declare_settings(graph.node('--params-file', str(ROOT / 'config/demo.yaml')))()
    assert settings.board.file == DEMO_BOARD
    assert settings.markers.lengths and len(settings.robot.pose_in_board) == 6
    assert settings.depth.max_m == 2.0


def test_the_documented_file_holds_every_parameter_with_its_default(graph):
    path = ROOT / 'config/camws_bridge.yaml'
    settings = declare_settings(graph.node('--params-file', str(path)))()
    assert settings == Settings()
    text = path.read_text()
    for name in PARAMETERS:
        assert re.search(rf'^\s*#?\s*{name.rpartition(".")[2]}:', text, re.MULTILINE), name


WRONG_STARTS = {
    ('-p', 'jpeg.quality:=500'):
        'parameter jpeg.quality: 500 is not allowed; allowed: a whole number from 1 to 100',
    ('--params-file', '/nowhere.yaml'): '/nowhere.yaml',
    ('--bogus',): 'bogus'}


@pytest.mark.parametrize(('name', 'value'), [
    ('board.file', '/nowhere.yaml'), ('board.file', 'package://camws_bridge/no.yaml'),
    ('markers.dictionary', 'DICT_9X9')])
def test_what_services_cannot_use_names_the_parameter(graph, name, value):
    with pytest.raises(SettingsError, match=f'^parameter {re.escape(name)}: .*{value[-7:]}'):
        build(graph.node('-p', f'{name}:={value}'))


def test_a_wrong_start_is_one_line_and_exit_1():
    with ExitStack() as stack:
        started = [(BridgeProcess(*arguments), line) for arguments, line in WRONG_STARTS.items()]
        for process, _ in started:
            stack.callback(process.stop)
        for process, line in started:
            assert process.wait() == 1
            fatal = [found for found in process.lines if 'FATAL' in found]
            assert len(fatal) == 1 and line in fatal[0]
            assert 'Traceback' not in process.output
            if line.startswith('parameter'):
                assert process.own_lines == fatal


# -- while it runs ----------------------------------------------------------------------------


class Running:
    """A node of real services, and a client of its parameter services."""

    def __init__(self, graph, *words):
        self.graph, self.node = graph, graph.node('-p', 'port:=0', *words)
        self.application = build(self.node)
        self.settings = self.application.settings

    def call(self, kind, service, **request):
        client = self.graph.peer.create_client(
            kind, f'{self.node.get_fully_qualified_name()}/{service}')
        self.graph.spin_until(client.service_is_ready, service)
        future = client.call_async(kind.Request(**request))
        self.graph.spin_until(future.done, f'{service} answers')
        self.graph.peer.destroy_client(client)
        return future.result()

    def set(self, **values):
        parameters = [RosParameter(name.replace('__', '.'), value=value).to_parameter_msg()
                      for name, value in values.items()]
        return self.call(SetParameters, 'set_parameters', parameters=parameters).results

    def get(self, name):
        value, = self.call(GetParameters, 'get_parameters', names=[name]).values
        return parameter_value_to_python(value)

    def close(self):
        # Built, but never started: only the loop has to be closed.
        self.application.server.loop.close()


@pytest.fixture
def running(graph):
    it = Running(graph, '-p', f'board.file:={DEMO_BOARD}', '-p', 'tf.publish:=false')
    yield it
    it.close()


@pytest.mark.parametrize(('values', 'path', 'expected'), [
    ({'jpeg__quality': 55}, 'jpeg.quality', 55),
    ({'detector__refinement': 'contour'}, 'detector.refinement', 'contour'),
    ({'detector__threshold_constant': 9}, 'detector.threshold_constant', 9.0),
    ({'markers__length_m': 0.07}, 'markers.length_m', 0.07),
    ({'markers__lengths': ['3:0.2']}, 'markers.lengths', ('3:0.2',)),
    ({'depth__max_m': 4.0, 'lazy': False}, 'depth.max_m', 4.0)])
def test_live_parameters_change_through_the_service(running, values, path, expected):
    results = running.set(**values)
    assert [(result.successful, result.reason) for result in results] == [(True, '')] * len(values)
    found = running.settings()
    for part in path.split('.'):
        found = getattr(found, part)
    assert found == expected
    shown = running.get(path)
    assert np.allclose(shown, expected) if isinstance(expected, float) else (
        tuple(shown) == expected if isinstance(expected, tuple) else shown == expected)


@pytest.mark.parametrize(('values', 'reason'), [
    ({'port': 9000}, 'parameter port takes effect at start only'),
    ({'host': '0.0.0.0'}, 'takes effect at start only'),
    ({'board__file': '/x'}, 'takes effect at start only'),
    ({'jpeg__quality': 500}, 'out of range'),
    ({'jpeg__quality': 'high'}, "'high' is not allowed; allowed: a whole number from 1 to 100"),
    ({'depth__min_m': 700.0}, 'less than depth.max_m'),
    ({'detector__window_min': 6}, 'an odd window'),
    ({'markers__lengths': ['x']}, 'id:metres'),
    ({'markers__dictionary': 'DICT_9X9'}, 'DICT_9X9'),
    ({'markers__dictionary': 'DICT_4X4_50'}, 'the dictionary of the board'),
    ({'jpeg__quality': None}, 'None is not allowed')])
def test_other_changes_are_refused_with_the_reason(running, values, reason):
    before, name = running.settings(), next(iter(values)).replace('__', '.')
    shown = running.get(name)
    result, = running.set(**values)
    assert not result.successful
    assert reason in result.reason
    assert running.settings() is before
    assert running.get(name) == shown


def test_descriptions_can_be_asked_for(running):
    answer = running.call(DescribeParameters, 'describe_parameters', names=['jpeg.quality'])
    descriptor, = answer.descriptors
    assert descriptor.description.startswith('JPEG quality')
    assert descriptor.integer_range[0].to_value == 100


def test_what_is_not_ours_is_left_alone(graph):
    node = graph.node()
    node.declare_parameter('somebody_elses', 1)
    holder = SettingsHolder(declare_settings(node)())
    follow_changes(node, holder)
    before = holder()
    assert node.set_parameters([RosParameter('somebody_elses', value=2)])[0].successful
    assert holder() == before
