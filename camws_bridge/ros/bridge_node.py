"""The node: managed, as ROS 2 calls it, so that it can be configured, activated and cleaned up."""
from __future__ import annotations

from collections.abc import Callable
import logging
from typing import Any, Protocol

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from camws_bridge.parameter import SettingsError
from camws_bridge.ros.parameters import declare_settings, follow_changes
from camws_bridge.settings import SettingsHolder

log = logging.getLogger(__name__)
_DONE, _REFUSED = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
_FAILED = TransitionCallbackReturn.ERROR


class Configured(Protocol):
    """What runs between configure and cleanup."""

    def set_active(self, active: bool) -> None:
        """Look at the camera when somebody wants it, or leave it alone."""

    def stop(self) -> None:
        """End and free everything."""


class BridgeNode(LifecycleNode):
    """
    Runs a bridge through the states of a managed node.

    Unconfigured there are only parameters, all of which can be changed. Configured (inactive) the
    server listens and clients may connect, but the camera is left alone. Active it streams.
    Transitions run on the ROS thread, or before it starts and after it has ended.
    """

    def __init__(self, start: Callable[[BridgeNode, SettingsHolder], Configured],
                 on_end: Callable[[], None], **options: Any) -> None:
        """
        Create the node; raises SettingsError for a parameter that is not allowed.

        ``start`` returns a bridge that runs; it raises SettingsError or RuntimeError, with a
        text for people, when it cannot. ``on_end`` is called when the node was shut down.
        ``options`` are those of rclpy's Node.
        """
        super().__init__('camws_bridge', **options)
        self._start, self._on_end = start, on_end
        self._bridge: Configured | None = None
        try:
            self.settings = declare_settings(self)
        except SettingsError:
            self.destroy_node()
            raise
        self.settings.release()
        follow_changes(self, self.settings)

    def start_up(self) -> bool:
        """Configure and activate; return False when this fails (the reason was logged)."""
        return (self.trigger_configure() is _DONE) and (self.trigger_activate() is _DONE)

    def end(self) -> None:
        """Shut down from whatever state, unless that was done."""
        if self._state_machine.current_state[1] != 'finalized':
            self.trigger_shutdown()

    # -- transitions: rclpy would swallow what they raise ---------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Build the bridge and listen."""
        self.settings.hold()
        try:
            self._bridge = self._start(self, self.settings)
        except (SettingsError, RuntimeError) as error:
            self.settings.release()
            self.get_logger().fatal(' '.join(str(error).split()))
            return _REFUSED
        except Exception as error:  # rclpy would say nothing
            return self._failed('configure', error)
        return _DONE

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Look at the camera."""
        return self._set_active(True)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Leave the camera alone; clients stay, and are told."""
        return self._set_active(False)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything but the parameters."""
        return self._free('cleanup')

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything and end the process."""
        result = self._free('shutdown')
        self._on_end()
        return result

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free what there is: the node can be configured again."""
        return self._free('error')

    def _set_active(self, active: bool) -> TransitionCallbackReturn:
        assert self._bridge is not None
        try:
            self._bridge.set_active(active)
        except Exception as error:  # rclpy would say nothing
            return self._failed('activate' if active else 'deactivate', error)
        self.get_logger().info('active' if active else 'inactive: the camera is left alone')
        return _DONE

    def _free(self, transition: str) -> TransitionCallbackReturn:
        bridge, self._bridge = self._bridge, None
        try:
            if bridge is not None:
                bridge.stop()
        except Exception as error:  # rclpy would say nothing
            return self._failed(transition, error)
        finally:
            self.settings.release()
        return _DONE

    def _failed(self, transition: str, error: Exception) -> TransitionCallbackReturn:
        log.error('%s failed: %s', transition, error, exc_info=error)
        return _FAILED
