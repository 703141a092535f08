"""What a server counts, in Prometheus' text format: https://prometheus.io/docs/instrumenting/exposition_formats/.

Prometheus' own client library would be one more package, and counts for the whole process, in which two servers may run.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from threading import Lock

LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # seconds; upper ends
RECENT = 1000  # images
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts of one server."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()  # (route, status)
        self._latencies: Counter[float] = Counter()  # upper end -> answered requests about images
        self._seconds = self._batch_seconds = 0.0
        self._batches = self.images = 0
        self._novelty: deque[tuple[float, bool]] = deque(maxlen=RECENT)
        self.reloads = dict.fromkeys(("loaded", "refused"), 0)
        self._lock = Lock()

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request; only the routes of the server may be named, or there would be no end of them."""
        self.requests[route, status] += 1
        if status == 200 and route in ("predict", "infer"):
            self._seconds += seconds
            self._latencies[next((end for end in LATENCIES if seconds <= end), float("inf"))] += 1

    def batch(self, images: int, seconds: float) -> None:
        """Count what the model has answered at once; for several threads: while another is loaded there are two."""
        with self._lock:
            self._batches += 1
            self.images += images
            self._batch_seconds += seconds

    def seen(self, novelty: float, known: bool) -> None:
        """Take note of how far an image is from those of training."""
        self._novelty.append((novelty, known))

    def forget(self) -> None:
        """Another model answers, which has another novelty."""
        self._novelty.clear()

    def text(self, form: str, version: str, inside: int) -> str:
        """All of it, for Prometheus; `form` is what answers, and `inside` how many images wait."""
        reloads = [(f'{{result="{result}"}}', number) for result, number in self.reloads.items()]
        parts = [
            _family("info", "gauge", "What answers.", [(f'{{form="{form}",version="{version}"}}', 1)]),
            _family("reloads_total", "counter", "New exports that were loaded, or refused.", reloads),
            _family("requests_total", "counter", "Requests, by route and status.", self._by_route()),
            _family("request_seconds", "histogram", "Seconds of requests that were answered.", self._histogram()),
            _family("images_total", "counter", "Images that were answered.", [("", self.images)]),
            _family("batches_total", "counter", "Calls of the model.", [("", self._batches)]),
            _family("batch_seconds_total", "counter", "Seconds in the model.", [("", self._batch_seconds)]),
            _family("inside_images", "gauge", "Images that are accepted and not answered yet.", [("", inside)]),
        ]
        if last := list(self._novelty):
            novelty, known = zip(*last, strict=True)
            mean, unknown = sum(novelty) / len(novelty), 1 - sum(known) / len(known)
            recent = f"of the last {RECENT} images"
            parts.append(_family("recent_images", "gauge", "Images that the next two are of.", [("", len(last))]))
            parts.append(_family("novelty", "gauge", f"Mean novelty {recent}; of val it was 0.", [("", mean)]))
            parts.append(
                _family(
                    "unknown_share", "gauge", f"Share {recent} that are likely none of the classes; of val it was 0.05.", [("", unknown)]
                )
            )
        return "".join(f"{line}\n" for part in parts for line in part)

    def _by_route(self) -> Iterator[tuple[str, float]]:
        return ((f'{{route="{route}",status="{status}"}}', number) for (route, status), number in sorted(self.requests.items()))

    def _histogram(self) -> Iterator[tuple[str, float]]:
        number = 0
        for end in (*LATENCIES, float("inf")):
            number += self._latencies[end]
            yield f'_bucket{{le="{"+Inf" if end == float("inf") else f"{end:g}"}"}}', number
        yield "_sum", self._seconds
        yield "_count", number


def _family(name: str, kind: str, meaning: str, samples: Iterable[tuple[str, float]]) -> list[str]:
    whole = f"tl_keras_{name}"
    return [f"# HELP {whole} {meaning}", f"# TYPE {whole} {kind}", *(f"{whole}{labels} {value:.10g}" for labels, value in samples)]
