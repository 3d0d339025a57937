from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter

from camws_bridge.demo.options import declare_options, find_demo_board, OptionError, SPECS


@pytest.fixture
def context(ros_environment: None) -> Iterator[Context]:
    context = Context()
    rclpy.init(context=context)
    yield context
    rclpy.shutdown(context=context)


def node_with(context: Context, **values: Any) -> Node:
    overrides = [Parameter(name, value=value) for name, value in values.items()]
    return rclpy.create_node('demo_camera', context=context, parameter_overrides=overrides)


def test_defaults_are_declared_and_described(context: Context) -> None:
    node = node_with(context)
    options = declare_options(node)
    assert (options.width, options.height, options.rate) == (640, 480, 30.0)
    for name in SPECS:
        descriptor = node.describe_parameter(name)
        assert descriptor.description
        assert descriptor.read_only
    assert node.describe_parameter('width').integer_range[0].from_value == 64
    assert node.describe_parameter('rate').floating_point_range[0].to_value == 240.0
    node.destroy_node()


def test_whole_numbers_will_do_for_a_rate_and_for_a_source(context: Context) -> None:
    node = node_with(context, rate=15, source=0)
    options = declare_options(node)
    assert options.rate == 15.0
    assert options.source == '0'
    node.destroy_node()


def test_parameters_cannot_change_while_it_runs(context: Context) -> None:
    node = node_with(context)
    declare_options(node)
    assert not node.set_parameters([Parameter('width', value=320)])[0].successful
    node.destroy_node()


@pytest.mark.parametrize(('name', 'value', 'allowed'), [
    ('width', 10, 'a whole number from 64 to 4096'),
    ('height', 480.5, 'a whole number from 48 to 4096'),
    ('rate', 0.0, 'a number from 0.1 to 240'),
    ('rate', float('nan'), 'a number from 0.1 to 240'),
    ('noise', 'much', 'a number from 0 to 50'),
    ('encoding', 'bgr16', 'bgr8, rgb8'),
    ('reliability', 'perfect', 'reliable, best_effort'),
    ('seed', True, 'a whole number'),
    ('frame_id', 1.5, 'a text')])
def test_a_wrong_value_is_named_with_what_is_allowed(
        context: Context, name: str, value: Any, allowed: str) -> None:
    node = node_with(context, **{name: value})
    with pytest.raises(OptionError) as caught:
        declare_options(node)
    assert str(caught.value).startswith(f'parameter {name} is {value!r}; allowed: {allowed}')
    assert '\n' not in str(caught.value)
    node.destroy_node()


def test_an_odd_size_does_not_go_with_shared_colour(context: Context) -> None:
    node = node_with(context, width=321, encoding='nv12')
    with pytest.raises(OptionError, match='parameter width is 321; allowed: an even number'):
        declare_options(node)
    node.destroy_node()


def test_the_demo_board_is_found() -> None:
    assert find_demo_board().endswith('config/boards/demo_board.yaml')
