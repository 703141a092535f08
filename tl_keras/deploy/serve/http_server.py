"""The server around the application: its socket, clients that are slow before anything of theirs is read, and how it ends."""

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from tl_keras.deploy.serve.limits import BEYOND, BODY_S, DEADLINE_S, HEAD_S, MOST_CONNECTIONS
from tl_keras.deploy.serve.log import SETTINGS
from tl_keras.errors import ConfigError

ENDS = (signal.SIGINT, signal.SIGTERM)


GRACE_S = 0.2  # in the end: what clients had sent by then is read
ENDING = "is_ending"  # in what all connections share
CLOSE = (b"connection", b"close")


class Protocol(H11Protocol):
    """HTTP/1.1 that closes a connection on which no whole head of a request comes within `HEAD_S`, however steadily bytes do.

    In the end, the next answer of a connection is its last. What comes on a connection beyond `MOST_CONNECTIONS` is marked as such.
    """

    longest_s, most = HEAD_S, MOST_CONNECTIONS
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if max(len(self.connections), len(self.tasks)) > self.most:
            self.app_state = self.app_state | {BEYOND: True}
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if ENDING in self.app_state:
            self.let_it_be_the_last()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def let_it_be_the_last(self) -> None:
        """Tell the client in the next answer to send no more here."""
        if self.cycle is not None and not self.cycle.response_started and CLOSE not in self.cycle.default_headers:
            self.cycle.default_headers = [*self.cycle.default_headers, CLOSE]

    def _watch(self) -> None:
        """Let the time run while there is no request, and stop it when there is one."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.longest_s, self._give_up)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class Server(uvicorn.Server):
    """A server that a signal ends once what it has accepted is answered; then the process goes on, as after any call."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in ENDS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, and close what is idle; but first read what clients have sent, or it would be lost with their connections."""
        self.lifespan.state[ENDING] = True
        for server in self.servers:
            server.close()
        for connection in self.server_state.connections:
            cast(Protocol, connection).let_it_be_the_last()
        await asyncio.sleep(GRACE_S)
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: an address or a name of this machine.
        port: 0 for any that is free.

    Raises:
        ConfigError: there is no such address here, or the port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family)
    except socket.gaierror as error:
        raise ConfigError(f"--host: got '{host}', which is no address ({error.strerror}). Give one of this machine.") from error
    except OSError as error:
        raise ConfigError(f"--port: cannot listen on port {port} of {host} ({error.strerror}). Give another --port, or --host.") from error
    # Connections inherit it. asyncio sets it only for sockets that name their protocol; without it, the second part of an answer waits
    # 40 ms for the client to confirm the first.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def address_of(listening: socket.socket) -> str:
    """Where a listening socket is reached."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(app: Starlette) -> Server:
    """A server for an application; `run(sockets=[...])` ends with a signal, or when `should_exit` is set."""
    settings: dict[str, Any] = {
        "http": Protocol,
        "ws": "none",
        "lifespan": "off",
        "log_config": SETTINGS,
        "access_log": False,
        "server_header": False,
        "timeout_graceful_shutdown": int(BODY_S + DEADLINE_S) + 1,
    }
    return Server(uvicorn.Config(app, **settings))
