"""The table of settings as ROS parameters."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult)
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter

from camws_bridge.parameter import Parameter
from camws_bridge.settings import PARAMETERS, Settings, SettingsHolder


def declare_settings(node: Node) -> SettingsHolder:
    """
    Declare every parameter and return the settings given at the start.

    Raises SettingsError for a value that is not allowed.
    """
    values = {name: _declare(node, parameter) for name, parameter in PARAMETERS.items()}
    return SettingsHolder(Settings().with_values(values))


def follow_changes(node: Node, holder: SettingsHolder) -> None:
    """Let live parameters be changed while the node runs; others are refused with the reason."""
    def check(parameters: Sequence[RosParameter[Any]]) -> SetParametersResult:
        try:
            holder.check(_values(parameters))
        except Exception as error:  # whatever it is must not end the ROS thread
            return SetParametersResult(successful=False, reason=str(error) or repr(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(check)
    # Applied once every other callback has agreed, too.
    node.add_post_set_parameters_callback(lambda parameters: holder.change(_values(parameters)))


def _values(parameters: Sequence[RosParameter[Any]]) -> dict[str, Any]:
    return {item.name: item.value for item in parameters if item.name in PARAMETERS}


def _declare(node: Node, parameter: Parameter) -> Any:
    # Declared without a type or range first: a wrong value gets our error, which says what is
    # allowed, and a whole number is as good as a float.
    open_descriptor = ParameterDescriptor(dynamic_typing=True)
    default = list(parameter.default) if isinstance(parameter.default, tuple) \
        else parameter.default
    given = node.declare_parameter(parameter.name, default, open_descriptor).value
    if given is None and isinstance(default, list):
        given = []      # the empty list of a file or a command line has no type, and gets lost
    value = parameter.validate(given)
    plain = list(value) if isinstance(value, tuple) else value
    node.set_parameters([RosParameter(parameter.name, value=plain)])
    node.set_descriptor(parameter.name, _describe(parameter))
    return value


def _describe(parameter: Parameter) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        name=parameter.name, description=parameter.description, dynamic_typing=True,
        additional_constraints=f'{parameter.allowed}'
        + ('' if parameter.live else '; takes effect at start'))
    if parameter.least is not None and parameter.most is not None:
        if parameter.kind == 'int':
            descriptor.integer_range = [IntegerRange(
                from_value=int(parameter.least), to_value=int(parameter.most), step=1)]
        else:
            descriptor.floating_point_range = [FloatingPointRange(
                from_value=float(parameter.least), to_value=float(parameter.most))]
    return descriptor
