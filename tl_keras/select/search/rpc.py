"""A study shared by processes: a chief serves its oracle to workers, over KerasTuner's own gRPC service.

    chief: with serve(address) as chief: chief.open(oracle, digest); supervise(...)
    worker: with connect(address, "worker1", digest) as oracle: run_study(oracle, ...)

Knows oracles, addresses and names of workers; what a trial is and where images lie is for the workflows. KerasTuner's messages
have no room for the cause of a failure nor for which study it is about: both go beside them, as metadata, and so does the token
without which no call is answered.
"""

import hmac
import queue
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import grpc
from keras_tuner import HyperParameters
from keras_tuner.engine import trial as engine
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer
from keras_tuner.src.distribute.oracle_client import OracleClient

from tl_keras.errors import ConfigError, UserError
from tl_keras.quiet import quiet
from tl_keras.select.search.oracles import require_trial_id
from tl_keras.select.search.role import ORACLE_IP, ORACLE_PORT, TOKEN, UNIX, Address

CHIEF_WAIT_S = 120.0  # that a worker waits for its chief to be there
CALL_S = 30.0  # until a call that gets through to nobody is given up: longer than a network hiccup
LEAVE_S = 5.0  # that a chief stays after the last trial, so that workers hear that there are no more
POLL_S = 0.2  # between two looks at local workers
QUIET_S = 120.0  # without news from workers, after which it is said what is waited for
LONGEST_CAUSE = 4000  # bytes; gRPC takes 8 kB of metadata
WORKER_KEY, STUDY_KEY, CAUSE_KEY = "tl-keras-worker-bin", "tl-keras-study-bin", "tl-keras-cause-bin"
TOKEN_KEY = "tl-keras-token-bin"
CALLS = ("CreateTrial", "UpdateTrial", "EndTrial")  # all that workers need of KerasTuner's service
TOKEN_BYTES = 16  # of a token that nobody has given
PROXY, REUSE = ("grpc.enable_http_proxy", 0), ("grpc.so_reuseport", 0)  # else a second chief would get half of the calls
RECONNECTING = (("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 1000))
KEPT_ALIVE = (  # by a worker, through a trial of hours: a connection that was cut meanwhile would be noticed by the report of its end
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
ALLOWED_PINGS = (("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000))
Result = TypeVar("Result")


class Chief:
    """A served study. One thread alone touches the oracle: KerasTuner's lock stays shut for ever where a call fails."""

    def __init__(self, address: Address) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="oracle")
        token = address.token or secrets.token_hex(TOKEN_BYTES)
        self._server = grpc.server(self._thread, interceptors=(Gate(token),), options=(REUSE, *ALLOWED_PINGS))
        self._servicer = Servicer()
        protos.get_service_grpc().add_OracleServicer_to_server(self._servicer, self._server)
        port = self._bind(address)
        self.address = replace(address, port=0 if address.ip.startswith(UNIX) else port, token=token)
        self._server.start()

    def _bind(self, address: Address) -> int:
        with quiet():  # gRPC writes a line of its own
            try:
                return int(self._server.add_insecure_port(str(address)))
            except RuntimeError:
                pass
        raise ConfigError(
            f"cannot serve at {address}: another program has this port, or the address is none of this machine. "
            f"Set another {ORACLE_PORT}, or correct {ORACLE_IP}."
        )

    def open(self, oracle: Any, study: str) -> None:
        """Give trials of a study from now on; workers that came before have waited.

        Args:
            study: the digest of its space, images and version; a worker with another one is refused.
        """

        def begin() -> None:
            self._servicer.oracle, self._servicer.study = oracle, study

        self._do(begin)

    def is_over(self) -> bool:
        """Whether no trial runs and none will begin.

        Raises:
            Exception: what went wrong in a call of a worker.
        """
        return bool(self._do(lambda: self._servicer.oracle.is_over()))

    def ended(self, timeout_s: float) -> Iterator[tuple[engine.Trial, str]]:
        """Trials that ended since the last time, each with the name of its worker; waits for the first at most so long."""
        try:
            yield self._servicer.ended.get(timeout=timeout_s)
            while True:
                yield self._servicer.ended.get_nowait()
        except queue.Empty:
            return

    def requeue(self, worker: str, cause: str) -> engine.Trial | None:
        """Take back the trial of a worker that died, as `ResumableOracleMixin.requeue`."""
        return self._do(lambda: self._servicer.requeue(worker, cause))

    def told(self) -> list[str]:
        """What the servicer has to say since the last time."""
        return self._do(self._servicer.take_lines)

    def ongoing(self) -> dict[str, tuple[str, float]]:
        """By workers' names: the trial that each runs, and for how many seconds."""
        return self._do(self._servicer.ongoing)

    def remote_workers(self, local: Collection[str]) -> set[str]:
        """Names of workers that have come and are not of this machine."""
        return self._do(lambda: set(self._servicer.oracle.tuner_ids) - set(local))

    def read(self, function: Callable[[], Result]) -> Result:
        """Call a function that reads the oracle, in the oracle's thread."""
        return self._do(function)

    def close(self) -> None:
        """Stay until every worker has heard that there are no more trials, a few seconds at most, if there are none; then go."""
        until = time.monotonic() + LEAVE_S
        while time.monotonic() < until and self._thread.submit(self._servicer.is_over_for_some).result():
            time.sleep(POLL_S)
        self._server.stop(0.5).wait()
        self._thread.shutdown()

    def _do(self, function: Callable[[], Result]) -> Result:
        found = self._thread.submit(function).result()
        if self._servicer.defect is not None:
            raise self._servicer.defect
        return found


@contextmanager
def serve(address: Address) -> Iterator[Chief]:
    """Serve a study that is opened later: a port that is taken is told before features are computed.

    Raises:
        ConfigError: the port is taken, or the address is not of this machine.
    """
    chief = Chief(address)
    try:
        yield chief
    finally:
        chief.close()


class Gate(grpc.ServerInterceptor):
    """Lets those calls through that workers need and that carry the token; everything else is refused before it is read.

    Comparing takes equally long wherever a wrong token first differs.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        """The handler of a call, or one that refuses it."""
        given = next((value for key, value in details.invocation_metadata if key == TOKEN_KEY), b"")
        if not hmac.compare_digest(given, self._token):
            return _refusing(grpc.StatusCode.UNAUTHENTICATED, f"it was refused, as {TOKEN} is not the chief's")
        if details.method.rpartition("/")[2] not in CALLS:
            return _refusing(grpc.StatusCode.UNIMPLEMENTED, "workers do not need this call")
        return continuation(details)


def _refusing(code: Any, why: str) -> Any:
    return grpc.unary_unary_rpc_method_handler(lambda _, context: context.abort(code, why))


class Servicer(OracleServicer):
    """Answers workers.

    Attributes:
        oracle: None until there is one; workers wait.
        study: its digest.
        ended: trials that ended, with the names of their workers.
        defect: what went wrong in a call; the chief raises it.
    """

    def __init__(self) -> None:
        super().__init__(None)
        self.study = ""
        self.ended: queue.SimpleQueue[tuple[engine.Trial, str]] = queue.SimpleQueue()
        self.defect: Exception | None = None
        self._lines: list[str] = []
        self._since: dict[str, float] = {}  # by worker: when its trial began

    def CreateTrial(self, request: Any, context: Any) -> Any:  # noqa: N802
        """The next trial of a worker, with the values alone: KerasTuner's copy of a space loses its order."""
        given = sent_with(context)
        if self.oracle is not None and given.get(STUDY_KEY) != self.study:
            self._lines.append(f"worker '{request.tuner_id}' was refused: it works on another study")
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"worker '{request.tuner_id}' was refused: its space, images, settings or version are not the chief's. "
                "Start it with the chief's command, on the same images.",
            )
        with self._noting():
            trial = engine.Trial(HyperParameters(), "", engine.TrialStatus.IDLE) if self.oracle is None else self._next(request.tuner_id)
            bare = HyperParameters()
            bare.values = {name: plain(value) for name, value in trial.hyperparameters.values.items()}
            sent = engine.Trial(bare, trial.trial_id, trial.status)
            return protos.get_service().CreateTrialResponse(trial=sent.to_proto())

    def UpdateTrial(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Take the metrics of a trial."""
        with self._noting():
            if self._owns(sent_with(context).get(WORKER_KEY, ""), request.trial_id):
                self.oracle.update_trial(request.trial_id, dict(request.metrics), step=request.step)
            return protos.get_service().UpdateTrialResponse()

    def EndTrial(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Take how a trial ended; the chief's own values of it stay."""
        given = sent_with(context)
        with self._noting():
            worker, name = given.get(WORKER_KEY, ""), request.trial.trial_id
            if self._owns(worker, name):
                trial = self.oracle.trials[name]
                trial.status = engine.TrialStatus.from_proto(request.trial.status)
                trial.message = given.get(CAUSE_KEY)
                self.oracle.end_trial(trial)
                self.ended.put((trial, worker))
            return protos.get_service().EndTrialResponse()

    def requeue(self, worker: str, cause: str) -> engine.Trial | None:
        """Take back the trial of a worker that died."""
        trial = None if self.oracle is None else self.oracle.requeue(worker, cause)
        if trial is not None and trial.status == engine.TrialStatus.FAILED:
            self.ended.put((trial, worker))
        return trial

    def ongoing(self) -> dict[str, tuple[str, float]]:
        """By workers' names: the trial that each runs, and for how many seconds."""
        now = time.monotonic()
        return {worker: (trial.trial_id, now - self._since[worker]) for worker, trial in self.oracle.ongoing_trials.items()}

    def take_lines(self) -> list[str]:
        """What there is to say, once."""
        lines, self._lines = self._lines, []
        return lines

    def is_over_for_some(self) -> bool:
        """Whether there are no more trials and a worker has not heard of it."""
        return self.oracle is not None and self.defect is None and bool(self.oracle.tuner_ids) and self.oracle.is_over()

    def _next(self, worker: str) -> engine.Trial:
        if worker in self.oracle.ongoing_trials:  # who asks for a trial has ended its last one, or was started again
            left = self.requeue(worker, f"worker {worker} was started again during it, as another was before")
            if left is not None and left.status != engine.TrialStatus.FAILED:
                self._lines.append(f"{worker} was started again during trial {left.trial_id}, which runs again")
        trial = self.oracle.create_trial(worker)
        self._since[worker] = time.monotonic()
        return trial

    def _owns(self, worker: str, name: str) -> bool:
        """Whether a worker runs a trial: who was thought dead, or worked for a chief before this one, is not heard."""
        trial = None if self.oracle is None else self.oracle.ongoing_trials.get(worker)
        return trial is not None and trial.trial_id == name

    @contextmanager
    def _noting(self) -> Iterator[None]:
        """Keep errors for the chief: gRPC reports them to the worker alone."""
        try:
            yield
        except Exception as error:
            self.defect = error
            raise


def sent_with(context: Any) -> dict[str, str]:
    """The texts that a worker sent beside its message."""
    return {key: value.decode("utf-8", "replace") for key, value in context.invocation_metadata() if isinstance(value, bytes)}


def plain(value: Any) -> Any:
    """A value as KerasTuner's messages take it, which know no NumPy."""
    return value.item() if hasattr(value, "item") else value


class Client(OracleClient):
    """The chief's oracle as a worker sees it: what `run_study` asks of an oracle.

    Its calls wait for a chief that is away for a moment, and raise UserError where it stays away or refuses.
    """

    def __init__(self, channel: Any, address: Address, worker: str, study: str) -> None:
        self.stub = protos.get_service_grpc().OracleStub(channel)
        self.tuner_id, self.multi_worker, self.should_report = worker, False, True
        self._address = address
        self._sent = ((WORKER_KEY, worker.encode()), (STUDY_KEY, study.encode()), (TOKEN_KEY, address.token.encode()))

    def create_trial(self, tuner_id: str) -> engine.Trial:
        """The next trial; its hyperparameters are values without their space."""
        response = self._call(self.stub.CreateTrial, protos.get_service().CreateTrialRequest(tuner_id=tuner_id))
        trial = engine.Trial.from_proto(response.trial)
        if trial.status == engine.TrialStatus.RUNNING:
            require_trial_id(trial.trial_id)
        return trial

    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Report metrics."""
        self._call(self.stub.UpdateTrial, protos.get_service().UpdateTrialRequest(trial_id=trial_id, metrics=metrics, step=step))

    def end_trial(self, trial: engine.Trial) -> None:
        """Report how a trial ended, with the cause where it failed."""
        cause = (trial.message or "").encode()[:LONGEST_CAUSE].decode(errors="ignore").encode()  # a letter is not cut in two
        self._call(self.stub.EndTrial, protos.get_service().EndTrialRequest(trial=trial.to_proto()), (CAUSE_KEY, cause))

    def _call(self, method: Any, request: Any, *more: tuple[str, bytes]) -> Any:
        try:
            return method(request, wait_for_ready=True, timeout=CALL_S, metadata=(*self._sent, *more))
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
                raise UserError(error.details()) from None
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                raise UserError(
                    f"worker '{self.tuner_id}': {error.details()} at {self._address}. Set it as it is on the chief's machine."
                ) from None
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED):
                raise UserError(
                    f"the chief at {self._address} is gone; the trials that ended are safe in its run folder. If its search is not "
                    "finished, continue it with --resume, and start this worker again."
                ) from None
            raise UserError(f"the chief at {self._address} failed ({error.details()}); its own output says why.") from None


@contextmanager
def connect(address: Address, worker: str, study: str) -> Iterator[Client]:
    """The oracle of a chief, which may still be starting.

    Args:
        worker: this process' name among those that work on the study.
        study: the digest of its space, images and version, which the chief's must equal.

    Raises:
        UserError: nobody serves there.
    """
    with grpc.insecure_channel(str(address), options=(PROXY, *RECONNECTING, *KEPT_ALIVE)) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=CHIEF_WAIT_S)
        except grpc.FutureTimeoutError:
            raise UserError(
                f"no chief answered at {address} for {CHIEF_WAIT_S:.0f} s. Is it running, are {ORACLE_IP} and {ORACLE_PORT} the chief's, "
                "and does no firewall close the port?"
            ) from None
        yield Client(channel, address, worker, study)
