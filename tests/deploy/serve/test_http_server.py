"""Real sockets: clients that are slow or send too much, an address that is taken, and an end that loses no answer."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from tl_keras.deploy.predictor import Predictor
from tl_keras.deploy.serve.app import make_app
from tl_keras.deploy.serve.batcher import Batcher
from tl_keras.deploy.serve.choice import Form
from tl_keras.deploy.serve.http_server import Protocol, Server, address_of, listen, make_server
from tl_keras.deploy.serve.limits import MOST_BYTES, Bodies
from tl_keras.errors import ConfigError
from tl_keras.workflows.serve import serving


@contextmanager
def listening(predictor: Predictor, **settings: Any) -> Iterator[tuple[int, Callable[[], None]]]:
    """A server in a thread: its port, and what ends it."""
    with serving(Form("model", "0", predictor), **settings) as service:
        server, own = make_server(make_app(service)), listen("127.0.0.1", 0)
        thread = Thread(target=server.run, kwargs={"sockets": [own]})
        port = own.getsockname()[1]
        thread.start()

        def end() -> None:
            server.should_exit = True
            thread.join(10)
            assert not thread.is_alive()

        try:
            yield port, end
        finally:
            end()


def post(port: int, body: bytes) -> tuple[int, bytes]:
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("POST", "/predict", body)
        reply = connection.getresponse()
        return reply.status, reply.read()


def is_closed_within(client: socket.socket, seconds: float) -> bool:
    client.settimeout(seconds)
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def test_slow_clients_are_let_go_and_the_others_are_answered(
    predictor: Predictor, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Protocol, "longest_s", 0.3)
    with listening(predictor, bodies=Bodies(longest_s=0.3)) as (port, _):
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        clients[1].sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\n")
        clients[2].sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        for _ in range(4):  # more often than any single silence would be noticed
            time.sleep(0.08)
            for client, drop in zip(clients[1:], (b"X-A: b\r\n", b"x"), strict=True):
                with suppress(ConnectionError):  # on a busy machine its time may be over
                    client.sendall(drop)
            assert post(port, files[0].read_bytes())[0] == 200
        assert is_closed_within(clients[0], 5)
        assert is_closed_within(clients[1], 5)
        clients[2].settimeout(5)
        assert b" 408 " in clients[2].recv(1000)
        for client in clients:
            client.close()


def test_who_sends_too_much_hears_why_while_still_sending(predictor: Predictor, files: list[Path]) -> None:
    with listening(predictor) as (port, _):
        status, text = post(port, bytes(2 * MOST_BYTES))
        assert status == 413
        assert b"larger than 32 MB" in text
        assert post(port, files[0].read_bytes())[0] == 200


def test_who_comes_when_there_are_too_many_connections_hears_so(
    predictor: Predictor, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Protocol, "most", 2)
    with listening(predictor) as (port, _):
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(2)]
        with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            connection.request("GET", "/v2/health/live")
            assert connection.getresponse().read() == b'{"live": true}'
            connection.request("POST", "/predict", files[0].read_bytes())
            found = connection.getresponse()
            assert (found.status, found.headers["retry-after"], found.headers["connection"]) == (503, "1", "close")
            assert json.loads(found.read()) == {"error": "The server has as many connections as it takes. Ask again."}
        for client in held:
            client.close()
        while post(port, files[0].read_bytes())[0] != 200:  # until it has noticed
            time.sleep(0.01)


def test_garbage_is_no_request(predictor: Predictor, files: list[Path]) -> None:
    with listening(predictor) as (port, _):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
            assert b" 400 " in client.recv(1000)
        assert post(port, files[0].read_bytes())[0] == 200


def test_what_was_accepted_is_answered_before_the_end(predictor: Predictor, files: list[Path]) -> None:
    begun, may, found = Event(), Event(), []

    def tell(pixels: Any) -> Any:
        begun.set()
        assert may.wait(10)
        return predictor.told(pixels)

    with Batcher(tell, lambda *_: None) as batcher, listening(predictor, batcher=batcher) as (port, end):
        idle = socket.create_connection(("127.0.0.1", port))
        asking = [Thread(target=lambda: found.append(post(port, files[0].read_bytes())[0])) for _ in range(3)]
        for thread in asking:
            thread.start()
        while batcher.num_inside < 3:
            time.sleep(0.01)
        ending = Thread(target=end)
        ending.start()
        while True:  # until it listens no more
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                time.sleep(0.02)
            except OSError:
                break
        assert is_closed_within(idle, 5)
        idle.close()
        may.set()
        for thread in (*asking, ending):
            thread.join(10)
    assert found == [200] * 3


def test_a_request_that_is_sent_while_it_begins_to_end_is_answered(
    predictor: Predictor, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticked, sent, tick = Event(), Event(), Server.on_tick

    async def late(server: Server, counter: int) -> bool:
        if server.should_exit:  # the loop stands still until the client has sent
            ticked.set()
            assert sent.wait(10)
        return await tick(server, counter)

    monkeypatch.setattr(Server, "on_tick", late)
    with listening(predictor) as (port, end), closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", "/v2")
        first = connection.getresponse()
        assert first.read()
        assert first.headers["connection"] is None
        ending = Thread(target=end)
        ending.start()
        assert ticked.wait(10)
        connection.request("POST", "/predict", files[0].read_bytes())
        sent.set()
        found = connection.getresponse()
        assert (found.status, found.headers["connection"]) == (200, "close")
        ending.join(10)


def test_answers_do_not_wait_for_the_client_to_confirm_their_first_part() -> None:
    with listen("127.0.0.1", 0) as own, socket.create_connection(own.getsockname()), own.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_an_address_that_cannot_be_had_is_told() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert address_of(taken) == f"http://127.0.0.1:{port}"
        with pytest.raises(ConfigError, match=rf"^--port: cannot listen on port {port} of 127\.0\.0\.1 \(.*\)\. Give another --port"):
            listen("127.0.0.1", port)
    with pytest.raises(ConfigError, match=r"^--host: got 'no such host', which is no address"):
        listen("no such host", 0)
    with pytest.raises(ConfigError, match=r"^--port: cannot listen on port 0 of 192\.0\.2\.1"):
        listen("192.0.2.1", 0)
