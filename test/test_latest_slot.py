from concurrent.futures import ThreadPoolExecutor

from camws_bridge.latest_slot import LatestSlot, LatestSlots


def test_the_newest_replaces_what_was_not_taken():
    slot = LatestSlot()
    assert slot.take() is None
    assert [slot.put(value) for value in 'abc'] == [None, 'a', 'b']
    assert slot.take() == 'c'
    assert slot.take() is None
    assert slot.put('d') is None


def test_each_key_has_its_slot_and_the_taker_is_woken_once():
    slots = LatestSlots()
    assert slots.put('color', 1) == (True, None)
    assert slots.put('depth', 2) == (False, None)
    assert slots.put('color', 3) == (False, 1)
    assert slots.take_all() == {'color': 3, 'depth': 2}
    assert slots.take_all() == {}
    assert slots.put('depth', 4) == (True, None)


def test_an_older_value_never_replaces_a_newer_one():
    slots = LatestSlots(age=lambda value: value)
    assert slots.put('a', 5) == (True, None)
    assert slots.put('a', 4) == (False, 4)
    assert slots.put('a', 6) == (False, 5)
    assert slots.take_all() == {'a': 6}


def test_between_threads_every_value_is_taken_or_replaced_once():
    slots, count = LatestSlots(), 2000
    seen = []

    def give(start):
        return [slots.put(start, (start, value))[1] for value in range(count)]

    def take():
        for _ in range(count):
            seen.extend(slots.take_all().values())

    with ThreadPoolExecutor(4) as threads:
        giving = [threads.submit(give, start) for start in range(3)]
        threads.submit(take).result()
    replaced = [value for future in giving for value in future.result() if value is not None]
    left = list(slots.take_all().values())
    assert sorted(seen + replaced + left) == [
        (start, value) for start in range(3) for value in range(count)]
