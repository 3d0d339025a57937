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
import time
from typing import TYPE_CHECKING

from camws_bridge.commands import table
from camws_bridge.ros.memory import keep_large_blocks
from camws_bridge.service_manager import ServiceManager
from camws_bridge.supervision import ROS, Threads

if TYPE_CHECKING:
    from rclpy.clock import Clock
    from rclpy.node import Node

    from camws_bridge.dependencies import Application
    from camws_bridge.ros.bridge_node import BridgeNode
    from camws_bridge.settings import SettingsHolder

# How often the main thread looks whether all is well (seconds).
_LOOK_EVERY = 0.5
# How long the bridge goes on after a thread has died, for /healthz and /diagnostics to say so.
_LAST_WORDS = 1.5


def main(arguments: list[str] | None = None) -> int:
    """
    Run a command, or the bridge until SIGINT, SIGTERM or a shutdown of the node.

    Returns the exit code.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if table.is_command(given):
        return table.run(given)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    keep_large_blocks()
    import rclpy
    try:
        return _Process(stop).run(arguments)
    finally:
        rclpy.try_shutdown()
        # The end has begun: one more Ctrl-C must not make a failure of it.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


class _Process:
    """The node, the ROS thread and the main thread, which supervises."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._threads = Threads()
        self._manager = ServiceManager()
        self._application: Application | None = None
        self._died = threading.Event()
        self._threads.on_death = self._on_death

    def run(self, arguments: list[str] | None) -> int:
        node = self._make_node(arguments)
        if node is None:
            return 1
        try:
            if node.settings().autostart and not node.start_up():
                return 1
            self._follow_hangup(node.settings)
            if not self._stop.is_set():
                self._spin(node)
            self._manager.stopping()
        finally:
            node.end()
            node.destroy_node()
            # What was frozen would be neither collected nor closed: DDS would leave its files.
            gc.unfreeze()
        return 1 if self._threads.death else 0

    def _make_node(self, arguments: list[str] | None) -> BridgeNode | None:
        """Return the node, or None when it cannot be (this is said, then)."""
        import rclpy
        from rclpy.signals import SignalHandlerOptions

        from camws_bridge.parameter import SettingsError
        try:
            rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
            from camws_bridge.ros.bridge_node import BridgeNode
            from camws_bridge.ros.logs import forward_logs
            node = BridgeNode(self._start_bridge, on_end=self._stop.set)
            forward_logs(node.get_logger())
            return node
        except SettingsError as error:
            _complain(str(error))
        except (RuntimeError, ValueError) as error:
            # What rcl says of ROS arguments it cannot use.
            _complain(f'{type(error).__name__}: {error}')
        return None

    def _start_bridge(self, node: Node, settings: SettingsHolder) -> Application:
        import cv2

        from camws_bridge.dependencies import build
        from camws_bridge.vision.detection import check_opencv
        check_opencv()
        gc.unfreeze()       # a bridge before this one, that was cleaned up
        # Of a broken image file it would print a line each time; we count them, and log one.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        application = build(node, settings, self._threads)
        application.start()
        # What lives as long as the bridge is never looked at again by the garbage collector.
        gc.freeze()
        _announce(node, application)
        self._application = application
        return application

    def _spin(self, node: BridgeNode) -> None:
        """Spin the node on thread R until it is told to stop or something has died."""
        from rclpy.executors import SingleThreadedExecutor

        from camws_bridge.ros.guard import spin
        # Not rclpy's experimental EventsExecutor: its timers never fire in rclpy 9.1's wheels.
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        node.create_timer(_LOOK_EVERY, lambda: self._threads.beat(ROS), clock=_steady())
        thread = self._threads.start(ROS, lambda: spin(executor))
        self._manager.ready(self._describe())
        self._supervise()
        executor.shutdown()
        thread.join()

    def _supervise(self) -> None:
        """Feed the service manager's watchdog while all is well, until it is time to stop."""
        within = self._manager.watchdog_seconds
        every = _LOOK_EVERY if within is None else min(_LOOK_EVERY, within / 3)
        while not self._stop.wait(every):
            if not self._threads.problem:
                self._manager.alive()
        if self._died.is_set():
            self._say_last_words()

    def _on_death(self, text: str) -> None:
        from rclpy.logging import get_logger
        get_logger('camws_bridge').fatal(f'{text}; the bridge ends')
        self._died.set()
        self._stop.set()

    def _say_last_words(self) -> None:
        """Without one of its threads the bridge is useless: say so, then let it be restarted."""
        application = self._application
        if application is not None:
            application.diagnostics.publish()
            time.sleep(_LAST_WORDS)

    def _follow_hangup(self, settings: SettingsHolder) -> None:
        """Let SIGHUP read tokens and certificate again; with nothing to read it ends all."""
        had_terminal = _has_terminal()

        def on_hangup(*_: object) -> None:
            application, now = self._application, settings()
            if application is not None and (now.auth.tokens_file or now.tls.certfile) and not (
                    had_terminal and not _has_terminal()):
                application.server.reload()
            else:
                self._stop.set()

        signal.signal(signal.SIGHUP, on_hangup)

    def _describe(self) -> str:
        application = self._application
        return f'listening on {application.server.url}' if application else 'unconfigured'


def _steady() -> Clock:
    from rclpy.clock import Clock
    from rclpy.clock_type import ClockType
    return Clock(clock_type=ClockType.STEADY_TIME)


def _complain(text: str) -> None:
    """Say in one line why the bridge does not start."""
    from rclpy.logging import get_logger
    get_logger('camws_bridge').fatal(' '.join(text.split()))


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
