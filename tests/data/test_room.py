"""Room that threads share is never overdrawn, and is given back."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tl_keras.data.room import Room


def test_no_more_is_held_than_there_is():
    room, held, most, lock = Room(10), [0], [0], threading.Lock()

    def hold(amount):
        with room.taking(amount):
            with lock:
                held[0] += min(amount, 10)
                most[0] = max(most[0], held[0])
            time.sleep(0.001)
            with lock:
                held[0] -= min(amount, 10)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, [1, 3, 7, 10, 25, 4, 6, 2] * 10))
    assert held == [0]
    assert most == [10]


def test_a_large_amount_is_not_passed_over():
    room, order = Room(2), []

    def hold(amount):
        with room.taking(amount):
            order.append(amount)

    threads = [threading.Thread(target=hold, args=(amount,)) for amount in (2, 1)]
    with room.taking(1):
        for thread in threads:
            thread.start()
            time.sleep(0.05)
        assert order == []  # one is free, and the first in turn needs two
    for thread in threads:
        thread.join()
    assert order == [2, 1]


def test_room_is_given_back_after_an_error():
    room = Room(1)
    with pytest.raises(ValueError, match="inside"), room.taking(1):
        raise ValueError("inside")
    with room.taking(1):
        pass
