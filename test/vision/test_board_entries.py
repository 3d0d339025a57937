import numpy as np
import pytest

from camws_bridge.vision.board_entries import BoardError, Entries, shown


def test_values_come_out_in_their_type():
    entries = Entries({'a': 1, 'b': 'two', 'c': [1, 2.5], 'd': True, 'e': [3]}, 'here')
    assert (entries.count('a'), entries.text('a'), entries.length('a')) == (1, '1', 1.0)
    assert entries.choice('b', ('one', 'two')) == 'two'
    assert entries.flag('d') is True
    assert entries.sequence('e') == [3]
    np.testing.assert_array_equal(entries.numbers('c', (2,)), [1.0, 2.5])
    entries.check_all_used()


def test_defaults_stand_in_for_what_is_missing():
    entries = Entries({}, 'here')
    assert (entries.count('a', 3), entries.text('a', 'x'), entries.flag('a')) == (3, 'x', False)
    assert (entries.length('a', 0.0), entries.length('a', 0.5)) == (0.0, 0.5)
    for read in (entries.text, entries.count, entries.length, entries.sequence):
        with pytest.raises(BoardError, match='here: a is missing'):
            read('a')


def test_zero_is_a_length_only_where_it_is_the_default():
    entries = Entries({'a': 0}, 'here')
    assert entries.length('a', 0.0) == 0.0
    with pytest.raises(BoardError, match='a is 0; allowed: a length in metres'):
        entries.length('a', 0.5)


def test_what_nobody_asked_for_is_an_error():
    entries = Entries({'a': 1, 'b': 2, 3: 4}, 'here')
    entries.count('a')
    with pytest.raises(BoardError, match='here: 3, b is not known here; known: a'):
        entries.check_all_used()


@pytest.mark.parametrize('value', ['x' * 10 ** 6, list(range(10 ** 6)), 10 ** 10 ** 4, 'a\nb',
                                   [[['deep'] * 100] * 100] * 100],
                         ids=['text', 'list', 'number', 'lines', 'deep'])
def test_a_value_is_shown_short_and_in_one_line(value):
    assert '\n' not in shown(value)
    assert len(shown(value)) < 170
