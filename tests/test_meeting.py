"""Processes that wait for each other: here threads, at addresses of this machine."""

import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tl_keras.errors import ConfigError
from tl_keras.meeting import meet
from tl_keras.tf_config import Place
from tl_keras.workflows.together import free_addresses

SOON_S, LONG_S = 0.3, 20.0


def errors(places: Sequence[Place], within_s: float) -> list[str]:
    """What each place says in the end; nothing where it has met the others."""

    def one(place: Place) -> str:
        try:
            meet(place, within_s)
        except ConfigError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(places)) as pool:
        return list(pool.map(one, places))


def test_all_go_on_when_all_are_there():
    addresses = free_addresses(3)
    assert errors([Place(index, addresses) for index in (2, 0, 1)], LONG_S) == ["", "", ""]
    with socket.create_server(("", int(addresses[0].rpartition(":")[2]))):
        pass  # the chief's address is free for TensorFlow


def test_who_does_not_come_is_named():
    addresses = free_addresses(3)
    chief, other = errors([Place(0, addresses), Place(1, addresses)], SOON_S)
    mend = "Start all, and see that they reach each other."
    assert chief == f"TF_CONFIG: worker 0 of 3 has waited 0.3 s for {addresses[2]}. {mend}"
    assert other == f"TF_CONFIG: worker 1 of 3 has waited 0.3 s for the chief at {addresses[0]}. {mend}"


def test_a_stranger_is_not_taken_for_one_of_them():
    addresses = free_addresses(2)
    with ThreadPoolExecutor(1) as pool:
        chief = pool.submit(errors, [Place(0, addresses)], 1.0)
        host, _, port = addresses[0].partition(":")
        while True:
            try:
                stranger = socket.create_connection((host, int(port)))
                break
            except OSError:
                assert not chief.done()
        with stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n")
            assert "has waited 1 s" in chief.result()[0]


def test_an_address_that_is_taken_is_said():
    addresses = free_addresses(2)
    with socket.create_server(("", int(addresses[0].rpartition(":")[2]))):
        told = errors([Place(0, addresses)], SOON_S)[0]
    assert told.startswith(f"TF_CONFIG: worker 0 of 2 cannot listen at its address {addresses[0]}: ")
