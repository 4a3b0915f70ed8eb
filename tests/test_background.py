"""Work in a thread: its order, its errors, its end."""

import threading
import time

import pytest

from jaxnst.background import ahead, background_map


def test_work_ahead_raises_where_it_is_awaited():
    def items():
        yield 1
        raise KeyError("made")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(KeyError, match="made"):
        next(found)


def test_no_work_ahead_goes_on_when_its_caller_has_stopped():
    def items():
        for i in range(3):
            yield i
            time.sleep(0.3)

    before = set(threading.enumerate())
    found = ahead(items())
    assert next(found) == 0
    found.close()
    assert set(threading.enumerate()) == before


def test_what_waits_is_still_done_when_the_next_item_fails():
    def items():
        yield from range(3)
        raise KeyError("no more")

    done, go = [], threading.Event()

    def slow(item):
        go.wait()
        done.append(item)

    threading.Timer(0.1, go.set).start()
    with pytest.raises(KeyError, match="no more"):
        list(background_map(slow, items(), most=9))
    assert done == [0, 1, 2]


def test_an_error_in_the_thread_is_raised_by_the_caller_and_ends_the_work():
    made = []

    def items():
        for item in range(99):
            made.append(item)
            yield item

    with pytest.raises(ZeroDivisionError):
        list(background_map(lambda x: 1 // (2 - x), items(), most=3))
    assert len(made) <= 6
