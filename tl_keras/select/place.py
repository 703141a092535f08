"""Which part of a shared study this process plays, as KerasTuner's three environment variables say it. Knows nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass

from tl_keras.errors import ConfigError

TUNER_ID, ORACLE_IP, ORACLE_PORT = "KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT"
LOCALHOST = "127.0.0.1"


@dataclass(frozen=True)
class Address:
    """Where a chief serves; port 0 asks for any that is free."""

    ip: str
    port: int

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


@dataclass(frozen=True)
class Place:
    """What the environment says that this process is: a chief or a worker, and where the chief is."""

    name: str
    address: Address

    @property
    def is_chief(self) -> bool:
        """Whether this process serves; KerasTuner tells it by the name."""
        return "chief" in self.name

    def variables(self) -> dict[str, str]:
        """The environment of a process in this place."""
        return {TUNER_ID: self.name, ORACLE_IP: self.address.ip, ORACLE_PORT: str(self.address.port)}


def place_in(environment: Mapping[str, str]) -> Place | None:
    """Read KerasTuner's three variables; None where none of them is set.

    Raises:
        ConfigError: some are set and others are not, or the port is none.
    """
    given = {name: environment.get(name, "") for name in (TUNER_ID, ORACLE_IP, ORACLE_PORT)}
    missing = [name for name, value in given.items() if not value]
    if len(missing) == len(given):
        return None
    if missing:
        there = next(name for name in given if name not in missing)
        raise ConfigError(f"{there} is set and {missing[0]} is not. Set {TUNER_ID}, {ORACLE_IP} and {ORACLE_PORT}, or none of them.")
    port = given[ORACLE_PORT]
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ConfigError(f"{ORACLE_PORT}: got '{port}', expected a port number from 1 to 65535.")
    return Place(given[TUNER_ID], Address(given[ORACLE_IP], int(port)))
