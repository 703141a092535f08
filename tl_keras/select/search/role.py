"""The role of this process in a shared study: KerasTuner's three environment variables, and the secret that a search has.

Knows nothing else.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from tl_keras.errors import ConfigError

TUNER_ID, ORACLE_IP, ORACLE_PORT = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
TOKEN = "TL_KERAS_SEARCH_TOKEN"  # the secret of one search, which every call of a worker carries
LOCALHOST = "127.0.0.1"
UNIX = "unix:"  # begins the address of a socket in the file system, which has no port
SHORTEST_TOKEN = 16  # characters
HAS_UNIX_SOCKETS = hasattr(socket, "AF_UNIX")


@dataclass(frozen=True)
class Address:
    """Where a chief serves, and the token that it asks for.

    Attributes:
        ip: an IP address; or `UNIX` and the path of a socket, for processes of this machine and user alone.
        port: 0 asks for any that is free.
        token: empty asks for a new one.
    """

    ip: str
    port: int
    token: str = field(default="", repr=False)

    def __str__(self) -> str:
        if self.ip.startswith(UNIX):
            return self.ip
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True)
class Role:
    """What the environment says that this process is: a chief or a worker, and where the chief is."""

    name: str
    address: Address

    @property
    def is_chief(self) -> bool:
        """Whether this process serves; KerasTuner decides it by the name."""
        return "chief" in self.name

    def variables(self) -> dict[str, str]:
        """The environment of a process in this role."""
        address = self.address
        return {TUNER_ID: self.name, ORACLE_IP: address.ip, ORACLE_PORT: str(address.port), TOKEN: address.token}


def role_in(environment: Mapping[str, str]) -> Role | None:
    """Read KerasTuner's three variables and the token; None where none of the three is set.

    Raises:
        ConfigError: some are set and others are not, the port is not a port, or the token is missing or short.
    """
    given = {name: environment.get(name, "") for name in (TUNER_ID, ORACLE_IP, ORACLE_PORT)}
    missing = [name for name, value in given.items() if not value]
    if len(missing) == len(given):
        return None
    if missing:
        there = next(name for name in given if name not in missing)
        raise ConfigError(f"{there} is set and {missing[0]} is not. Set {TUNER_ID}, {ORACLE_IP} and {ORACLE_PORT}, or none of them.")
    ip, port = given[ORACLE_IP], given[ORACLE_PORT]
    least = 0 if ip.startswith(UNIX) else 1
    if not (port.isascii() and port.isdigit() and least <= int(port) <= 65535):
        raise ConfigError(f"{ORACLE_PORT}: got '{port}', expected a port number from 1 to 65535.")
    token = environment.get(TOKEN, "")
    if len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable()):
        got = "is not set" if not token else "is not ASCII" if len(token) >= SHORTEST_TOKEN else f"has {len(token)} characters"
        raise ConfigError(
            f"{TOKEN} {got}: whoever reaches the chief's port could decide the search. Set it to the same secret of at least "
            f"{SHORTEST_TOKEN} characters on every machine, e.g. from: openssl rand -hex 16"
        )
    return Role(given[TUNER_ID], Address(ip, int(port), token))
