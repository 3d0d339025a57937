"""
Changes the bridge's parameters while it runs; ``python -m benchmarks.soak.steering SECONDS``.

Every so many seconds one change is made, the next of a list that begins anew. On SIGTERM it
prints one JSON line: how many were made, and those that were refused or not answered.
"""
from __future__ import annotations

import json
import signal
import sys
import time

from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions

CHANGES: tuple[tuple[str, object], ...] = (
    ('jpeg.quality', 60), ('board.view_width', 320), ('detector.refinement', 'subpix'),
    ('tracking.enabled', False), ('markers.length_m', 0.06), ('depth.max_m', 3.0),
    ('unsent_bytes', 65536), ('tf.publish', False), ('jpeg.quality', 90),
    ('detector.inverted', True), ('limits.messages_per_second', 100.0),
    ('client_timeout', 10.0), ('detector.inverted', False), ('tf.publish', True),
    ('unsent_bytes', 32768), ('depth.max_m', 5.0), ('markers.length_m', 0.05),
    ('tracking.enabled', True), ('detector.refinement', 'edges'), ('board.view_width', 640),
    ('limits.messages_per_second', 200.0), ('client_timeout', 20.0), ('jpeg.quality', 80))
# What is not allowed must be refused, and change nothing.
WRONG: tuple[str, object] = ('jpeg.quality', 101)
_PATIENCE = 20.0


def main() -> None:
    """Change parameters until SIGTERM."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node('soak_steering')
    client = node.create_client(SetParameters, '/camws_bridge/set_parameters')
    client.wait_for_service(_PATIENCE)
    made, wrong, number = 0, [], 0
    while not ended:
        is_wrong = number % 5 == 4
        name, value = WRONG if is_wrong else CHANGES[made % len(CHANGES)]
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()])
        future = client.call_async(request)
        rclpy.spin_until_future_complete(node, future, timeout_sec=_PATIENCE)
        answer = future.result() if future.done() else None
        if answer is None or answer.results[0].successful == is_wrong:
            wrong.append(f'{name} {value}: {answer and answer.results[0].reason}')
        made, number = made + (not is_wrong), number + 1
        until = time.monotonic() + float(sys.argv[1])
        while not ended and time.monotonic() < until:
            time.sleep(0.1)
    print(json.dumps({'made': number, 'wrong': wrong}), flush=True)
    node.destroy_node()
    rclpy.shutdown()


if __name__ == '__main__':
    main()
