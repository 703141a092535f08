"""The processes of `TF_CONFIG` wait for each other, for a time: TensorFlow would wait for ever, and hear no signal meanwhile.

The chief listens at its address, where TensorFlow will listen next; each of the others says there which one it is, and goes on when told.
"""

import socket
import time
from contextlib import ExitStack, suppress

from tl_keras.errors import ConfigError
from tl_keras.tf_config import TF_CONFIG, Place

HELLO, GO = "tl_keras worker", b"go\n"
LONGEST = 64  # bytes of a first line
TRY_S = 0.2  # between two tries to reach the chief
LINE_S = 5.0  # that a line may take


def meet(place: Place, within_s: float) -> None:
    """Return when all processes are there.

    Raises:
        ConfigError: they are not after `within_s` seconds, or the chief's port is taken.
    """
    until = time.monotonic() + within_s
    missing = _gather(place, until) if place.is_chief else _report(place, until)
    if missing:
        raise ConfigError(
            f"{TF_CONFIG}: {place} has waited {within_s:g} s for {', '.join(missing)}. Start all, and see that they reach each other."
        )


def _gather(place: Place, until: float) -> list[str]:
    """Wait for the others, and tell them to go on; the addresses of those that have not come."""
    port = int(place.addresses[0].rpartition(":")[2])
    with ExitStack() as stack:
        try:
            listening = stack.enter_context(socket.create_server(("", port), family=_family(place.addresses[0])))
        except OSError as error:
            raise ConfigError(f"{TF_CONFIG}: {place} cannot listen at its address {place.addresses[0]}: {error.strerror}.") from None
        come: dict[int, socket.socket] = {}
        while len(come) < len(place.addresses) - 1 and (left := until - time.monotonic()) > 0:
            listening.settimeout(left)
            with suppress(OSError):
                caller = stack.enter_context(listening.accept()[0])
                caller.settimeout(LINE_S)
                number = _number(caller.recv(LONGEST))
                if 0 < number < len(place.addresses):
                    come[number] = caller  # again, where it was started again
        missing = [address for number, address in enumerate(place.addresses) if number and number not in come]
        for caller in come.values() if not missing else ():
            with suppress(OSError):
                caller.sendall(GO)
        return missing


def _report(place: Place, until: float) -> list[str]:
    """Tell the chief that this process is there, and wait for its word; the chief's address where it does not come."""
    host, _, port = place.addresses[0].rpartition(":")
    while (left := until - time.monotonic()) > 0:
        with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), timeout=left) as chief:
            chief.sendall(f"{HELLO} {place.index}\n".encode())
            chief.settimeout(max(0.01, until - time.monotonic()))
            if chief.recv(len(GO)) == GO:
                return []
        time.sleep(TRY_S)
    return [f"the chief at {place.addresses[0]}"]


def _number(line: bytes) -> int:
    """Which process says so; 0 for what none of them says."""
    words = line.decode("ascii", "replace").strip().removeprefix(HELLO).strip()
    return int(words) if line.startswith(HELLO.encode()) and words.isdecimal() else 0


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if address.startswith("[") else socket.AF_INET
