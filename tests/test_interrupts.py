"""Ctrl-C and SIGTERM get through, whatever becomes of them on their way, and other handlers are left alone."""

import gc
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tl_keras.interrupts import Terminated, noted_interrupts, raise_noted, sent_again


@pytest.fixture(autouse=True)
def _python_s_own_handlers() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before[0])
    signal.signal(signal.SIGTERM, before[1])


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_that_becomes_another_error_ends_as_an_interrupt(number, kind):
    def lost():
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise ValueError("could not convert") from None

    with pytest.raises(kind), noted_interrupts(as_program=True):
        lost()
    with pytest.raises(kind), noted_interrupts(as_program=True), noted_interrupts():
        lost()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_that_was_swallowed_can_be_asked_for():
    with noted_interrupts(as_program=True):
        raise_noted()
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Terminated):
            raise_noted()
    raise_noted()


def test_other_errors_and_handlers_stay_what_they_are():
    with pytest.raises(ValueError, match="mine"), noted_interrupts(as_program=True):
        raise ValueError("mine")
    with noted_interrupts():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL  # a program that imports the package has its own ways
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with noted_interrupts(as_program=True):
        signal.raise_signal(signal.SIGINT)


class Dying:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def let_one_die():
    Dying()
    gc.collect()
    for _ in range(500):  # one long sleep would be slept to its end
        time.sleep(0.01)


def test_a_signal_that_came_in_a_destructor_comes_again(capfd):
    with pytest.raises(KeyboardInterrupt), sent_again(), noted_interrupts():
        let_one_die()
    assert capfd.readouterr().err == ""
