import asyncio
import time

from camws_bridge.api.loop_watch import watch_loop
from camws_bridge.metrics import Metrics


def test_a_loop_that_was_held_up_is_seen_to_be_late():
    metrics, beats = Metrics(), []

    async def run():
        watch_loop(asyncio.get_running_loop(), metrics, lambda: beats.append(1))
        while not beats:
            await asyncio.sleep(0.01)
        # Inject a fault by holding the loop up.
        time.sleep(0.6)
        while len(beats) < 2:
            await asyncio.sleep(0.01)

    asyncio.run(run())
    value = metrics.registry.get_sample_value
    assert value('camws_loop_lag_seconds_count') == len(beats) == 2
    assert value('camws_loop_lag_seconds_sum') > 0.3
