import asyncio

from camws_bridge.models import Message, Stamp, Variant
from camws_bridge.websockets.newest_messages import NewestMessages

COLOR = Variant('color')


def message(seq, variant=COLOR):
    return Message(variant, seq, Stamp(seq, 0), 'camera', 'image/jpeg', 4, 3, b'x',
                   memoryview(b'x'))


def test_only_the_newest_is_kept():
    newest = NewestMessages()
    assert newest.get(COLOR) is None
    newest.keep(message(1))
    newest.keep(message(2))
    assert newest.get(COLOR).seq == 2
    newest.clear()
    assert newest.get(COLOR) is None


def test_variants_are_not_kept_without_end():
    newest = NewestMessages()
    for width in range(1, 1000):
        newest.keep(message(width, Variant('color', width)))
    kept = [width for width in range(1, 1000) if newest.get(Variant('color', width))]
    assert kept == list(range(936, 1000))


def test_who_expects_a_message_gets_the_next_one_and_nothing_is_left():
    async def run():
        newest = NewestMessages()
        first, second, third = (newest.expect(COLOR) for _ in range(3))
        assert newest.awaited == {COLOR}
        newest.give_up(COLOR, third)
        newest.keep(message(5))
        assert (await first).seq == (await second).seq == 5
        assert not third.done() and newest.awaited == frozenset()
        newest.give_up(COLOR, first)
    asyncio.run(run())
