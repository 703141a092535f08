"""`serve` under load, beside a server that answers one image at a time by the model in TensorFlow.

    python benchmarks/serving.py --run-dir RUN --data FOLDER [--format onnx] [--clients 16] [--seconds 60]

The other server is what one would write first: the same HTTP stack, the same decoding in threads, and a lock around the network, which
is compiled by `tf.function` for one image. Clients are threads of this process, on the same processors as the servers, and ask over
loopback, each with a connection that it keeps. Every answer is compared: its probabilities with what `predict` says of the photo by the
same form (to 1e-3), and its class with the model's. After that: twice as many requests as it can answer, at a steady rate whatever comes
back, and how soon a request is answered again; 500 bad bodies; and SIGTERM while clients ask, after which the server's count of images
must be that of the answers that clients got. Last, on a copy of the run, two exports take turns in `export.json` while clients ask: each
answer must be that of one of the two.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from processes import print_table

CLOSE = 1e-3  # of probabilities
PHOTOS = 200
TURNS = 10  # of two exports


class Reply(NamedTuple):
    """What a client got: 0 is no answer at all."""

    photo: int
    status: int
    seconds: float
    told: Any


class Client:
    """Asks over one connection, again over another where that is closed."""

    def __init__(self, port: int) -> None:
        self._port, self._connection = port, HTTPConnection("127.0.0.1", port, timeout=30)

    def ask(self, photo: int, body: bytes) -> Reply:
        begun = time.perf_counter()
        try:
            self._connection.request("POST", "/predict", body)
            reply = self._connection.getresponse()
            told = json.loads(reply.read())
            return Reply(photo, reply.status, time.perf_counter() - begun, told)
        except OSError as error:
            self._connection.close()
            self._connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
            return Reply(photo, 0, time.perf_counter() - begun, repr(error))


def closed_loop(port: int, photos: Sequence[bytes], clients: int, until: Callable[[], bool]) -> list[Reply]:
    """Clients that ask again as soon as they are answered."""
    numbers, lock = count(), Lock()

    def ask(_: int) -> list[Reply]:
        client, found = Client(port), []
        while not until():
            with lock:
                photo = next(numbers) % len(photos)
            found.append(client.ask(photo, photos[photo]))
            if found[-1].status == 0:
                break
        return found

    with ThreadPoolExecutor(clients) as pool:
        return [reply for part in pool.map(ask, range(clients)) for reply in part]


def open_loop(port: int, photos: Sequence[bytes], rate: float, seconds: float, threads: int = 384) -> list[Reply]:
    """Requests at a steady rate, whether earlier ones are answered or not."""
    begun, total = time.perf_counter(), int(rate * seconds)
    numbers, lock = iter(range(total)), Lock()

    def ask(_: int) -> list[Reply]:
        client, found = Client(port), []
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return found
            time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            found.append(client.ask(number % len(photos), photos[number % len(photos)]))

    with ThreadPoolExecutor(threads) as pool:
        return [reply for part in pool.map(ask, range(threads)) for reply in part]


@contextmanager
def server(command: Sequence[str], port: int) -> Iterator[subprocess.Popen[str]]:
    """A server in a process of its own, once it is ready."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            for _ in range(600):
                try:
                    connection = HTTPConnection("127.0.0.1", port, timeout=5)
                    connection.request("GET", "/v2/health/ready")
                    connection.getresponse().read()
                    break
                except OSError:
                    time.sleep(0.1)
            yield process
        finally:
            process.terminate()


def plain_server(run_dir: str, port: int) -> None:
    """One image at a time, by the model in TensorFlow."""
    import tensorflow as tf
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    from tl_keras.data.ahead import load_image
    from tl_keras.deploy.serve.http_server import listen, make_server
    from tl_keras.trained_run import open_run

    trained, lock = open_run(run_dir), Lock()
    compiled = tf.function(
        lambda pixels: trained.model(tf.cast(pixels, tf.float32), training=False),
        input_signature=[tf.TensorSpec((1, *trained.image_size, 3), tf.uint8)],
    )
    pool = ThreadPoolExecutor(2 * (os.cpu_count() or 1))

    def answer(body: bytes) -> dict[str, Any]:
        pixels = load_image(body, "image", trained.image_size, trained.config.data)
        with lock:
            logits = compiled(pixels[np.newaxis]).numpy()
        values = trained.index.output.answers(logits)[0]
        name = trained.index.classes[int(values.argmax())]
        return {"class": name, "probabilities": dict(zip(trained.index.classes, values.tolist(), strict=True))}

    async def predict(request: Request) -> Response:
        return JSONResponse(await asyncio.get_running_loop().run_in_executor(pool, answer, await request.body()))

    answer(Path(os.environ["WARM"]).read_bytes())
    routes = [Route("/predict", predict, methods=["POST"]), Route("/v2/health/ready", lambda request: JSONResponse({}))]
    make_server(Starlette(routes=routes)).run(sockets=[listen("127.0.0.1", port)])


def expected_of(run_dir: str, form: str | None, files: Sequence[Path]) -> list[Any]:
    """What `predict` says of photos, alone in a batch as far as it goes."""
    from tl_keras.workflows.predict import predict

    return list(predict(run_dir, [str(file) for file in files], formats=[form] if form else []))


def wrong(replies: Sequence[Reply], expected: Sequence[Any]) -> int:
    """How many answers are not those of the same form by itself."""
    return sum(
        any(abs(share - expected[reply.photo].probabilities[name]) > CLOSE for name, share in reply.told["probabilities"].items())
        for reply in replies
        if reply.status == 200
    )


def row(name: str, replies: Sequence[Reply], seconds: float, expected: Sequence[Any], model: Sequence[Any]) -> list[str]:
    """A line of the table."""
    good = [reply for reply in replies if reply.status == 200]
    took = 1e3 * np.array([reply.seconds for reply in good])
    same = np.mean([reply.told["class"] == model[reply.photo].label for reply in good])
    others = Counter(reply.status for reply in replies if reply.status != 200)
    return [
        name,
        f"{len(good) / seconds:.0f}",
        *(f"{value:.0f}" for value in np.percentile(took, [50, 99])),
        ", ".join(f"{number} x {status}" for status, number in sorted(others.items())) or "0",
        str(wrong(good, expected)),
        f"{same:.3f}",
    ]


def bad_bodies() -> list[bytes]:
    """Empty, huge, a bomb, of a wrong type, truncated."""
    parts = (b"IHDR" + (40_000).to_bytes(4) * 2 + bytes([8, 2, 0, 0, 0]), b"IDAT" + zlib.compress(bytes(10**7)), b"IEND")
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join((len(part) - 4).to_bytes(4) + part + zlib.crc32(part).to_bytes(4) for part in parts)
    return [b"", bytes(33 * 2**20), bomb, b"%PDF-1.7 hello", b"\xff\xd8\xff\xe0" + bytes(500)]


def resident_mb(pid: int) -> float:
    """Memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def for_seconds(seconds: float) -> Callable[[], bool]:
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() > end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--data", type=Path, help="photos, such as the test split")
    parser.add_argument("--format", help="the export that answers; by default what serve chooses")
    parser.add_argument("--other", default="litert", help="the export that takes turns with it")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--plain", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        plain_server(options.run_dir, options.plain)
        return
    files = sorted(options.data.rglob("*.jpg"))
    files = files[:: max(1, len(files) // PHOTOS)]
    photos = [file.read_bytes() for file in files]
    model = expected_of(options.run_dir, None, files)
    os.environ["WARM"] = str(files[0])
    rows, rates = [], []
    for name, command in commands(options):
        port = free_port()
        with server([*command, str(port)], port) as process:
            form = None if name == "one at a time" else form_of(process)
            expected = expected_of(options.run_dir, form, files) if form else model
            closed_loop(port, photos, options.clients, for_seconds(2))
            replies = closed_loop(port, photos, options.clients, for_seconds(options.seconds))
            rows.append(row(f"{name} ({form or 'the model'})", replies, options.seconds, expected, model))
            rates.append(sum(reply.status == 200 for reply in replies) / options.seconds)
            if name == "serve":
                rows += beyond(process, port, photos, rates[-1], expected, model)
    rows.append(taking_turns(options, form, files, photos, model))
    print_table(["", "images/s", "p50 ms", "p99 ms", "others", "wrong", "the model's class"], rows)
    print(f"serve answers {rates[1] / rates[0]:.1f} times as many images a second")


def commands(options: argparse.Namespace) -> list[tuple[str, list[str]]]:
    chosen = ["--format", options.format] if options.format else []
    return [
        ("one at a time", [sys.executable, __file__, "--run-dir", options.run_dir, "--plain"]),
        ("serve", [sys.executable, "-m", "tl_keras", "serve", options.run_dir, *chosen, "--port"]),
    ]


def form_of(process: subprocess.Popen[str]) -> str | None:
    """The export that the first line of a server names."""
    assert process.stdout is not None
    line = next(line for line in process.stdout if "answers at" in line)
    return line.partition("by its export ")[2].partition(";")[0] or None


def beyond(process: Any, port: int, photos: Sequence[bytes], rate: float, expected: Sequence[Any], model: Sequence[Any]) -> list[list[str]]:
    """Overload, bad bodies and the end."""
    begun = time.perf_counter()
    flood = open_loop(port, photos, 2 * rate, 15)
    found = [row("twice as many", flood, time.perf_counter() - begun, expected, model)]
    again, client = time.perf_counter(), Client(port)
    while client.ask(0, photos[0]).status != 200:
        time.sleep(0.02)
    print(f"after the flood a request was answered in {time.perf_counter() - again:.2f} s", flush=True)
    bodies, before = bad_bodies(), resident_mb(process.pid)
    bad = [client.ask(number, bodies[number % len(bodies)]) for number in range(500)]
    print(
        f"500 bad bodies: {dict(Counter(reply.status for reply in bad))}, the slowest {max(reply.seconds for reply in bad):.2f} s; "
        f"memory {before:.0f} -> {resident_mb(process.pid):.0f} MB",
        flush=True,
    )
    before_end = images_counted(port)
    begun = time.perf_counter()

    def until() -> bool:
        if time.perf_counter() - begun > 2 and process.poll() is None:
            process.send_signal(signal.SIGTERM) if not sent else None
            sent.append(1)
        return False  # until nobody answers

    sent: list[int] = []
    last = closed_loop(port, photos, 16, until)
    said = process.communicate()[0]
    images = int(said.rpartition(" requests, ")[2].partition(" ")[0].replace(",", "")) - before_end
    answered = sum(reply.status == 200 for reply in last)
    dropped = sum(reply.status == 0 and "Refused" not in reply.told for reply in last)  # what was sent, and neither answered nor refused
    print(f"SIGTERM: {answered} answers, {images} images by the model, {dropped} dropped, exit status {process.returncode}", flush=True)
    return found


def taking_turns(options: argparse.Namespace, form: str, files: Sequence[Path], photos: Sequence[bytes], model: Sequence[Any]) -> list[str]:
    """New exports under load."""
    from tl_keras.run_folder import EXPORT, EXPORT_RECORD, write_json

    forms, port, memory = (form, options.other), free_port(), list[int]()
    with TemporaryDirectory() as temporary:
        run = Path(shutil.copytree(options.run_dir, Path(temporary, "R")))
        record = run / EXPORT / EXPORT_RECORD
        found = json.loads(record.read_text())

        def let_answer(name: str) -> None:
            write_json(record, found | {"formats": {name: found["formats"][name]}})

        let_answer(forms[0])
        with (
            server([sys.executable, "-m", "tl_keras", "serve", str(run), "--port", str(port)], port) as process,
            ThreadPoolExecutor(1) as pool,
        ):
            ended = list[bool]()
            begun = time.perf_counter()
            asking = pool.submit(closed_loop, port, photos, options.clients, lambda: bool(ended))
            took = []
            for turn in range(1, TURNS + 1):
                time.sleep(3)
                memory.append(round(resident_mb(process.pid)))
                at = time.perf_counter()
                let_answer(forms[turn % 2])
                while json.loads(text_of(port, "/v2/models/R"))["platform"] != f"tl_keras_{forms[turn % 2]}":
                    time.sleep(0.05)
                took.append(time.perf_counter() - at)
            time.sleep(3)
            ended.append(True)
            replies, seconds = asking.result(), time.perf_counter() - begun
    by_form = [expected_of(options.run_dir, each, files) for each in forms]
    strange = sum(all(wrong([reply], by) for by in by_form) for reply in replies)
    shares = [sum(reply.status == 200 and not wrong([reply], by) for reply in replies) for by in by_form]
    print(f"{TURNS} new exports: {shares} answers by {forms}, each {min(took):.1f} to {max(took):.1f} s after it is written; {memory} MB")
    made = row(f"{TURNS} new exports ({' and '.join(forms)})", replies, seconds, model, model)
    return [*made[:5], str(strange), made[6]]


def text_of(port: int, place: str) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", place)
    return connection.getresponse().read().decode()


def images_counted(port: int) -> int:
    return int(text_of(port, "/metrics").partition("\ntl_keras_images_total ")[2].partition("\n")[0])


if __name__ == "__main__":
    main()
