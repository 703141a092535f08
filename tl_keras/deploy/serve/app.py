"""The addresses of a server and what each answers; how much may be asked is `limits`, and how images are answered is `service`."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tl_keras import __version__
from tl_keras.data.ahead import Image
from tl_keras.deploy.predictor import Prediction, as_json
from tl_keras.deploy.serve import metrics, protocol
from tl_keras.deploy.serve.bodies import images_in, is_json
from tl_keras.deploy.serve.heat_map import NUM_IMAGES, heat_map
from tl_keras.deploy.serve.limits import BUSY, require_connection, require_token
from tl_keras.deploy.serve.log import event, request_id
from tl_keras.deploy.serve.page import page_routes
from tl_keras.deploy.serve.service import Loaded, Service
from tl_keras.errors import BadImageError, DataError, RunFolderError
from tl_keras.run_folder import json_text

SHORT = 2**16  # bytes of JSON that is parsed at once


def make_app(service: Service) -> Starlette:
    """The application that serves a run."""
    endpoints = Endpoints(service)
    return Starlette(
        routes=[
            *page_routes(service.bodies.most_bytes, shows_photos=service.photos is not None),
            Route("/predict", endpoints.predict, methods=["POST"], name="predict"),
            Route("/explain", endpoints.explain, methods=["POST"], name="explain"),
            Route("/neighbours", endpoints.neighbours, methods=["POST"], name="neighbours"),
            Route("/metrics", endpoints.metrics, name="metrics"),
            Route("/v2", endpoints.server, name="server"),
            Route("/v2/health/live", endpoints.live, name="live"),
            Route("/v2/health/ready", endpoints.ready, name="ready"),
            Route("/v2/models/{name}", endpoints.model, name="model"),
            Route("/v2/models/{name}/ready", endpoints.model_ready, name="model_ready"),
            Route("/v2/models/{name}/infer", endpoints.infer, methods=["POST"], name="infer"),
        ],
        middleware=[Middleware(Gate, service=service)],
        exception_handlers={
            HTTPException: _refused,
            BadImageError: _bad_image,
            DataError: _no_memory,
            RunFolderError: _broken_model,
            ClientDisconnect: _gone,
        },
    )


class Gate:
    """Around all addresses: asks for the token, counts and notes each request, and answers where all else has failed."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, request = time.perf_counter(), 0, Request(scope)
        request.state.noted = noted = {"request_id": request_id(request.headers.get("x-request-id", ""))}

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = noted["request_id"]
            await send(message)

        try:
            require_connection(request)
            require_token(request, self._service.token)
            await self._app(scope, receive, noting)
        except HTTPException as error:
            await (await _refused(request, error))(scope, receive, noting)
        except Exception as error:
            event(logging.ERROR, "a request has failed", error, **noted)
            if status:
                raise
            await _error(request, "The server has failed. See its log.", 500)(scope, receive, noting)
        finally:
            self._note(scope, status or 500, time.perf_counter() - begun, noted)

    def _note(self, scope: Scope, status: int, seconds: float, noted: Mapping[str, Any]) -> None:
        route = scope["route"].name if "route" in scope else "none"
        self._service.metrics.answered(route, status, seconds)
        if self._service.has_access_log:
            event(logging.INFO, "request", route=route, status=status, ms=round(1e3 * seconds, 1), **noted)


class Endpoints:
    """What each address answers."""

    def __init__(self, service: Service) -> None:
        self._service, self._parsing = service, asyncio.Semaphore(1)
        predictor, index = service.predictor, service.predictor.trained.index
        has = {"has_novelty": predictor.novelty is not None, "has_sets": predictor.thresholds is not None}
        # what comes later has the same, see `reload.require_alike`
        self._outputs = protocol.outputs(index.output.task, len(index.classes), **has)

    async def predict(self, request: Request) -> Response:
        """An image file, or JSON with several."""
        are_many = is_json(request.headers.get("content-type", ""))
        async with self._service.bodies.read(request) as body:
            images = await self._parsed(images_in, body) if are_many else [body]
            names = [f"images[{place}]" for place in range(len(images))] if are_many else ["image"]
            found = [as_json(each) for each in (await self._classify(request, images, names))[0]]
        return _json({"predictions": found} if are_many else found[0])

    async def explain(self, request: Request) -> Response:
        """Where in an image file the answer comes from."""
        request.state.noted["images"] = NUM_IMAGES
        async with self._service.bodies.read(request) as body:
            told, loaded = await heat_map(self._service, body, request.query_params.get("label"))
        request.state.noted |= {"form": loaded.form, "version": loaded.version}
        return _json(told)

    async def neighbours(self, request: Request) -> Response:
        """The training images that are most like an image file to the model."""
        if self._service.photos is None:
            raise HTTPException(404, "This server shows no training images. Whoever starts it can allow that: --neighbours N.")
        async with self._service.bodies.read(request) as body, self._service.room(1) as loaded:
            pixels = await self._service.decoded(loaded, body, "image")
            return _json({"neighbours": await self._service.photos.nearest(pixels, body)})

    async def infer(self, request: Request) -> Response:
        """The same, in the tensors of the Open Inference Protocol."""
        self._require_model(request)
        async with self._service.bodies.read(request) as body:
            asked = await self._parsed(protocol.inference_in, body, request.headers.get("inference-header-content-length"))
            protocol.answer([], self._outputs, asked.outputs)  # an output that there is not is refused before anything is computed
            names = [f"{protocol.IMAGE}[{place}]" for place in range(len(asked.images))]
            found, loaded = await self._classify(request, asked.images, names)
        told = {"model_name": self._service.name, "model_version": loaded.version} | ({} if asked.id is None else {"id": asked.id})
        return _json(told | {"outputs": protocol.answer(found, self._outputs, asked.outputs)})

    async def server(self, request: Request) -> Response:
        """Metadata of the server."""
        return _json({"name": "tl_keras", "version": __version__, "extensions": protocol.EXTENSIONS})

    async def live(self, request: Request) -> Response:
        """Whether the process answers."""
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        """Whether the model does; it is loaded before the server listens."""
        return _json({"ready": True})

    async def model(self, request: Request) -> Response:
        """Metadata of the model, and beside the protocol its classes and what answers."""
        self._require_model(request)
        service = self._service
        told = {"name": service.name, "versions": [service.loaded.version], "platform": f"tl_keras_{service.loaded.form}"}
        index = service.predictor.trained.index
        return _json(told | {"inputs": protocol.inputs(), "outputs": self._outputs, "parameters": {"classes": list(index.classes)}})

    async def model_ready(self, request: Request) -> Response:
        """Whether the model answers."""
        self._require_model(request)
        return _json({"name": self._service.name, "ready": True})

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        loaded = self._service.loaded
        text = self._service.metrics.text(loaded.form, loaded.version, loaded.batcher.num_inside)
        return Response(text, headers={"content-type": metrics.MEDIA_TYPE})

    async def _classify(self, request: Request, images: Sequence[Image], names: Sequence[str]) -> tuple[list[Prediction], Loaded]:
        request.state.noted["images"] = len(images)
        found, loaded = await self._service.classify(images, names)
        request.state.noted |= {"form": loaded.form, "version": loaded.version}
        return found, loaded

    def _require_model(self, request: Request) -> None:
        if request.path_params["name"] != self._service.name:
            raise HTTPException(404, f"There is no such model here, but '{self._service.name}'.")

    async def _parsed(self, parse: Callable[..., Any], body: bytes, *given: Any) -> Any:
        """Parse JSON; a long document in a thread, or all others would wait, and one at a time: it takes ten times its size."""
        if len(body) <= SHORT:
            return parse(body, *given)
        async with self._parsing:
            return await asyncio.to_thread(parse, body, *given)


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json_text(value), status, headers, "application/json")


def _error(request: Request, text: str, status: int, headers: dict[str, str] | None = None) -> Response:
    request.state.noted["error"] = text
    return _json({"error": text}, status, headers)


async def _refused(request: Request, error: Any) -> Response:
    return _error(request, error.detail, error.status_code, dict(error.headers or {}))


async def _bad_image(request: Request, error: Exception) -> Response:
    return _error(request, f"{error}.", 422)


async def _no_memory(request: Request, error: Exception) -> Response:
    event(logging.ERROR, str(error), **request.state.noted)
    return _error(request, str(error), 503, BUSY)


async def _broken_model(request: Request, error: Exception) -> Response:
    event(logging.ERROR, "the model does not answer", error, **request.state.noted)
    return _error(request, "The model does not answer. See the log of the server.", 500)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)  # to nobody
