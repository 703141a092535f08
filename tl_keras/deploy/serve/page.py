"""The page for people at `/`, and the files that it is made of, all of which need no token: they know nothing of a model."""

from collections.abc import Mapping
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

SCRIPTS = ("page.js", "ask.js", "camera.js", "elements.js", "heat_map.js", "neighbours.js")
PAGE_FILES = {  # address -> file and its type; no other file is read
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    **{f"/{name}": (name, "text/javascript") for name in SCRIPTS},
}
RULES = {  # what the page may do: its own script and style, pictures that it is given, the camera if somebody allows it, and questions here
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def page_routes(most_bytes: int, *, shows_photos: bool) -> list[Route]:
    """The addresses of `PAGE_FILES`.

    Args:
        most_bytes: of a file, above which the page does not send it.
        shows_photos: whether it offers the training images that are most like an image.
    """
    filled = {"{MOST_BYTES}": str(most_bytes), "{SHOWS_PHOTOS}": str(shows_photos).lower()}
    return [_route(address, *about, filled) for address, about in PAGE_FILES.items()]


def _route(address: str, name: str, kind: str, filled: Mapping[str, str]) -> Route:
    text = files("tl_keras.deploy.serve").joinpath("page_files", name).read_text("utf-8")
    for word, value in filled.items():
        text = text.replace(word, value)

    async def answer(request: Request) -> Response:
        return Response(text, headers=RULES, media_type=kind)

    return Route(address, answer, name="page")
