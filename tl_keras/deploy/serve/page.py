"""The page for people at `/`, and the files that it is made of, all of which need no token: they know nothing of a model."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

SCRIPTS = ("page.js", "ask.js", "camera.js", "elements.js", "heat_map.js")
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


def page_routes(most_bytes: int) -> list[Route]:
    """The addresses of `PAGE_FILES`; the page refuses files above `most_bytes` by itself."""
    return [_route(address, *about, most_bytes) for address, about in PAGE_FILES.items()]


def _route(address: str, name: str, kind: str, most_bytes: int) -> Route:
    text = files("tl_keras.deploy.serve").joinpath("page_files", name).read_text("utf-8")
    filled = text.replace("{MOST_BYTES}", str(most_bytes))

    async def answer(request: Request) -> Response:
        return Response(filled, headers=RULES, media_type=kind)

    return Route(address, answer, name="page")
