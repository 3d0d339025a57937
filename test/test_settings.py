from array import array
from dataclasses import FrozenInstanceError
import math

import builders  # noqa: F401  (the profile of hypothesis)
from hypothesis import given, strategies as st
import pytest

from camws_bridge.settings import (
    parse_assignments, parse_marker_lengths, PARAMETERS, Settings, SettingsError, SettingsHolder)

# Those that protocol.md promises to others.
PROMISED = {
    'host', 'port', 'image_transport', 'image_is_rectified', 'lazy', 'jpeg.quality',
    'depth.min_m', 'depth.max_m', 'markers.dictionary', 'markers.length_m', 'markers.lengths',
    'board.file', 'robot.pose_in_board', 'tf.publish', 'tf.root', 'tf.board_frame',
    'tf.marker_frame_prefix', 'tf.robot_frame', 'tls.certfile', 'tls.keyfile', 'auth.token',
    'auth.tokens_file', 'allowed_origins', 'max_clients', 'client_timeout'}


def value_of(settings, name):
    for part in name.split('.'):
        settings = getattr(settings, part)
    return settings


def test_the_promised_parameters_exist():
    assert set(PARAMETERS) >= PROMISED
    assert PARAMETERS['host'].default == '127.0.0.1'
    assert PARAMETERS['port'].default == 8080


@pytest.mark.parametrize('name', PARAMETERS)
def test_every_default_is_valid_and_described(name):
    parameter = PARAMETERS[name]
    assert parameter.name == name
    assert parameter.validate(parameter.default) == parameter.default
    assert value_of(Settings(), name) == parameter.default
    assert len(parameter.description) > 10
    assert parameter.description[-1] in '.;)'
    assert Settings().with_values({name: parameter.default}) == Settings()


def test_all_defaults_together_are_valid():
    defaults = {name: parameter.default for name, parameter in PARAMETERS.items()}
    assert Settings().with_values(defaults) == Settings()


WRONG = [
    ('port', 65536, '65536', 'a whole number from 0 to 65535'),
    ('port', True, 'True', 'a whole number'),
    ('port', 80.0, '80.0', 'a whole number'),
    ('host', 5, '5', 'text'),
    ('lazy', 1, '1', 'true or false'),
    ('jpeg.quality', 0, '0', 'from 1 to 100'),
    ('depth.max_m', math.nan, 'nan', 'a number from 0.001 to 1000'),
    ('depth.max_m', math.inf, 'inf', 'a number'),
    ('depth.min_m', 6.0, '6', 'less than depth.max_m'),
    ('image_transport', 'h264', "'h264'", "'raw' or 'compressed'"),
    ('tf.root', 'robot', "'robot'", "'camera' or 'board'"),
    ('allowed_origins', 'https://a', "'https://a'", 'a list of texts'),
    ('allowed_origins', [1], r'\[1\]', 'a list of texts'),
    ('robot.pose_in_board', [1.0, 2.0], r'\[1.0, 2.0\]', '6: .x, y, z, roll, pitch, yaw'),
    ('robot.pose_in_board', [math.nan] * 6, 'nan', 'a list of numbers'),
    ('markers.lengths', ['7=0.08'], "'7=0.08'", 'id:metres'),
    ('markers.lengths', ['7:0'], "'7:0'", 'id:metres'),
    ('markers.lengths', ['-1:0.1'], "'-1:0.1'", 'id:metres'),
    ('markers.lengths', ['7:nan'], "'7:nan'", 'id:metres'),
    ('detector.window_min', 4, '4', 'an odd window'),
    ('detector.window_min', 25, '25', r'at most detector.window_max \(23\)'),
    ('tls.keyfile', 'key.pem', "''", 'a path'),
]


@pytest.mark.parametrize(('name', 'value', 'said', 'allowed'), WRONG)
def test_a_wrong_value_is_named_with_what_is_allowed(name, value, said, allowed):
    named = 'tls.certfile' if name == 'tls.keyfile' else name
    with pytest.raises(SettingsError, match=f'^parameter {named}: .*{said}.*allowed: .*{allowed}'
                       ) as caught:
        Settings().with_values({name: value})
    assert '\n' not in str(caught.value)


@given(st.sampled_from(sorted(PARAMETERS)), st.one_of(
    st.none(), st.booleans(), st.integers(-10 ** 9, 10 ** 9), st.floats(), st.text(max_size=4),
    st.lists(st.text(max_size=4), max_size=3), st.lists(st.floats(), max_size=7)))
def test_any_value_is_taken_or_refused_by_name(name, value):
    try:
        taken = PARAMETERS[name].validate(value)
    except SettingsError as error:
        assert str(error).startswith(f'parameter {name}: ')
    else:
        assert PARAMETERS[name].validate(taken) == taken


def test_values_arrive_in_the_types_of_ros():
    settings = Settings().with_values({
        'robot.pose_in_board': array('d', [1, 2, 3, 0, 0, 0]), 'depth.max_m': 3,
        'markers.lengths': ['7:0.08', '9:0.1']})
    assert settings.robot.pose_in_board == (1.0, 2.0, 3.0, 0.0, 0.0, 0.0)
    assert isinstance(settings.depth.max_m, float)
    assert parse_marker_lengths(settings.markers.lengths) == {7: 0.08, 9: 0.1}


def test_settings_are_values():
    settings = Settings()
    changed = settings.with_values({'jpeg.quality': 50})
    assert (settings.jpeg.quality, changed.jpeg.quality) == (80, 50)
    assert changed.depth == settings.depth
    with pytest.raises(FrozenInstanceError):
        settings.port = 1


def test_live_parameters_change_at_run_time():
    holder = SettingsHolder(Settings())
    before = holder()
    holder.change({'jpeg.quality': 30, 'depth.max_m': 9.0})
    assert (holder().jpeg.quality, holder().depth.max_m) == (30, 9.0)
    assert before.jpeg.quality == 80


OTHER_VALUES = {
    'port': 1, 'image_transport': 'compressed', 'image_is_rectified': True,
    'allowed_origins': ['*'], 'robot.pose_in_board': [0.0] * 6, 'tf.root': 'board'}


@pytest.mark.parametrize('name', [
    name for name, item in PARAMETERS.items() if not item.live and not name.startswith('tls.')])
def test_the_others_need_a_restart(name):
    holder = SettingsHolder(Settings())
    with pytest.raises(SettingsError, match=f'parameter {name} takes effect at start only'):
        holder.change({'jpeg.quality': 30, name: OTHER_VALUES.get(name, 'other')})
    assert holder() == Settings()
    # A file of all parameters can be loaded again: what stays as it is needs no restart.
    holder.change({'jpeg.quality': 30, name: PARAMETERS[name].default})
    assert holder().jpeg.quality == 30


def test_a_change_is_made_as_a_whole_or_not_at_all():
    holder = SettingsHolder(Settings())
    before = holder()
    for values in ({'jpeg.quality': 30, 'depth.max_m': -1.0},
                   {'jpeg.quality': 30, 'depth.min_m': 7.0}):
        with pytest.raises(SettingsError):
            holder.change(values)
        assert holder() is before
    # Two that are wrong alone are right together.
    holder.change({'depth.min_m': 7.0, 'depth.max_m': 8.0})
    assert (holder().depth.min_m, holder().depth.max_m) == (7.0, 8.0)


def test_a_service_may_refuse_a_change():
    holder, asked = SettingsHolder(Settings()), []

    def check(settings):
        asked.append(settings.markers.dictionary)
        if settings.markers.dictionary != 'DICT_5X5_100':
            raise SettingsError('not with this board')

    holder.add_check(check)
    before = holder()
    with pytest.raises(SettingsError, match='not with this board'):
        holder.change({'markers.dictionary': 'DICT_4X4_50', 'jpeg.quality': 30})
    assert holder() is before
    holder.change({'jpeg.quality': 30})
    assert asked == ['DICT_4X4_50', 'DICT_5X5_100']


@pytest.mark.parametrize('name', ['tf.board_frame', 'tf.marker_frame_prefix', 'tf.robot_frame'])
@pytest.mark.parametrize('value', ['', '/board'])
def test_frame_names_are_those_of_tf(name, value):
    with pytest.raises(SettingsError, match=f'parameter {name}: .* allowed: a tf frame name'):
        Settings().with_values({name: value})


@pytest.mark.parametrize('origin', ['nonsense', 'https://example.org/', 'ftp://example.org', ''])
def test_origins_are_origins(origin):
    with pytest.raises(SettingsError, match='parameter allowed_origins: .* allowed: '):
        Settings().with_values({'allowed_origins': [origin]})


def test_detector_parameters_are_names_and_numbers():
    assert parse_assignments(['minOtsuStdDev:4', 'polygonalApproxAccuracyRate:0.05']) == {
        'minOtsuStdDev': 4.0, 'polygonalApproxAccuracyRate': 0.05}
    for entry in ('minOtsuStdDev', 'minOtsuStdDev:', ':3', 'a b:3', 'x:nan', 'x:4.5.6'):
        with pytest.raises(SettingsError, match=f"detector.parameters: '{entry}' is not allowed"):
            Settings().with_values({'detector.parameters': [entry]})
