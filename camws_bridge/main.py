"""
The entry point: init, build, spin, and stop in the reverse order.

What is heavy is imported inside the functions, once the signal handlers stand: it takes a second
or more, in which Ctrl-C must end the bridge as it does later, not with a traceback.
"""
from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from camws_bridge.commands import table
from camws_bridge.ros.memory import keep_large_blocks

if TYPE_CHECKING:
    from rclpy.node import Node

    from camws_bridge.dependencies import Application


def main(arguments: list[str] | None = None) -> int:
    """Run a command, or the bridge until SIGINT or SIGTERM; return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if table.is_command(given):
        return table.run(given)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    keep_large_blocks()
    import rclpy
    try:
        node = _make_node(arguments)
        return 1 if node is None else _run(node, stop)
    finally:
        rclpy.try_shutdown()


def _make_node(arguments: list[str] | None) -> Node | None:
    """Return the node, or None when rcl cannot use the ROS arguments (this is said, then)."""
    import rclpy
    from rclpy.node import Node
    from rclpy.signals import SignalHandlerOptions
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        return Node('camws_bridge')
    except (RuntimeError, ValueError) as error:
        _complain(f'{type(error).__name__}: {error}')
        return None


def _run(node: Node, stop: threading.Event) -> int:
    from camws_bridge.api.server import ServerError
    from camws_bridge.dependencies import build
    from camws_bridge.ros.logs import forward_logs
    from camws_bridge.parameter import SettingsError
    from camws_bridge.vision.detection import check_opencv
    forward_logs(node.get_logger())
    try:
        check_opencv()
        application = build(node)
        application.start()
        # What lives as long as the process is never looked at again by the garbage collector.
        gc.freeze()
    except (SettingsError, ServerError, RuntimeError) as error:
        _complain(str(error))
        node.destroy_node()
        return 1
    _announce(node, application)
    _reload_on_hangup(application, stop)
    try:
        ended_well = _spin(node, stop)
    finally:
        application.stop()
        node.destroy_node()
    return 0 if ended_well else 1


def _complain(text: str) -> None:
    """Say in one line why the bridge does not start."""
    from rclpy.logging import get_logger
    get_logger('camws_bridge').fatal(' '.join(text.split()))


def _spin(node: Node, stop: threading.Event) -> bool:
    """Spin the node on thread R until ``stop``; return False when it failed before."""
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    # Not rclpy's experimental EventsExecutor: its timers never fire in the wheels of rclpy 9.1.
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    failures: list[Exception] = []

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            pass
        except Exception as error:  # without its executor the bridge is blind: end it
            failures.append(error)
            node.get_logger().fatal(f'the ROS thread failed: {error!r}')
        finally:
            stop.set()

    thread = threading.Thread(target=spin, name='ros', daemon=True)
    thread.start()
    stop.wait()
    executor.shutdown()
    thread.join()
    return not failures


def _reload_on_hangup(application: Application, stop: threading.Event) -> None:
    """Let SIGHUP read tokens and certificate again; when the terminal is gone, it ends all."""
    settings = application.settings()
    if not settings.auth.tokens_file and not settings.tls.certfile:
        return      # there is nothing to read: SIGHUP is what it is to other nodes
    had_terminal = _has_terminal()

    def on_hangup(*_: object) -> None:
        if had_terminal and not _has_terminal():
            stop.set()
        else:
            application.server.reload()

    signal.signal(signal.SIGHUP, on_hangup)


def _has_terminal() -> bool:
    try:
        os.close(os.open('/dev/tty', os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _announce(node: Node, application: Application) -> None:
    settings, server = application.settings(), application.server
    from camws_bridge.api.origins import is_loopback
    log = node.get_logger()
    if is_loopback(settings.host):
        log.info('only this machine can connect; -p host:=0.0.0.0 opens it to the network')
    for line in application.bridge.access.warnings():
        log.warning(line)
    log.info(f'listening on {server.url}')


if __name__ == '__main__':
    sys.exit(main())
