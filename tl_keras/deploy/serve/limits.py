"""What a stranger may ask of a server: how much, how slowly, how many at once, and with which token.

Every limit holds while a request is read, before anything is decoded.
"""

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.exceptions import HTTPException
from starlette.requests import Request

from tl_keras.deploy.serve.page import PAGE_FILES

MOST_BYTES = 32 * 2**20  # of a body
MOST_HELD = 256 * 2**20  # bytes of all bodies at once
MOST_IMAGES = 32  # of a request
MOST_CONNECTIONS = 512
BEYOND = "is_beyond"  # in the state of a request: it came on a connection beyond these
BODY_S = 10.0  # until a body has come
HEAD_S = 10.0  # until the head of a request has come
DEADLINE_S = 10.0  # from a body until its answer
OPEN = (*PAGE_FILES, "/v2/health/live", "/v2/health/ready")  # need no token: they know nothing of a model
BUSY = {"Retry-After": "1"}


class Bodies:
    """Reads bodies, and knows how many bytes of them are held.

    Args:
        most_bytes: of a body.
        most_held: of all at once.
        longest_s: until a body has come.
    """

    def __init__(self, *, most_bytes: int = MOST_BYTES, most_held: int = MOST_HELD, longest_s: float = BODY_S) -> None:
        self.most_bytes, self._most_held, self._longest_s = most_bytes, most_held, longest_s
        self.num_held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request, held until the block ends.

        Raises:
            HTTPException: 413, it is too large, told before it is read where it says so; 408, it comes too slowly; 503, too many are held.
            ClientDisconnect: nobody waits for an answer.
        """
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > self.most_bytes:
            raise self._too_large()
        taken = [0]  # bytes that this request holds
        try:
            try:
                async with asyncio.timeout(self._longest_s):
                    body = b"".join([part async for part in self._parts(request, taken)])
            except TimeoutError as error:
                raise HTTPException(408, f"The body did not come within {self._longest_s:g} seconds.") from error
            yield body
        finally:
            self.num_held -= taken[0]

    async def _parts(self, request: Request, taken: list[int]) -> AsyncIterator[bytes]:
        async for part in request.stream():
            taken[0] += len(part)
            self.num_held += len(part)
            if taken[0] > self.most_bytes:
                raise self._too_large()
            if self.num_held > self._most_held:
                raise HTTPException(503, "The server holds as many bytes as it can. Ask again.", BUSY)
            yield part

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"The body is larger than {self.most_bytes / 2**20:g} MB, the most that is read. Send a smaller image.")


def require_connection(request: Request) -> None:
    """Refuse what comes on a connection beyond the most that there may be, and close it; health answers all the same.

    Raises:
        HTTPException: 503.
    """
    if getattr(request.state, BEYOND, False) and request.scope["path"] not in OPEN:
        raise HTTPException(503, "The server has as many connections as it takes. Ask again.", BUSY | {"Connection": "close"})


def require_token(request: Request, token: str | None) -> None:
    """Refuse a request that does not carry the token of the server.

    Args:
        token: None where the server has none.

    Raises:
        HTTPException: 401.
    """
    if token is None or request.scope["path"] in OPEN:  # of `request.url`, early versions of Starlette take the client's word
        return
    given = request.headers.get("authorization", "").encode("latin-1", "replace")
    if not hmac.compare_digest(given, f"Bearer {token}".encode()):
        raise HTTPException(401, "Expected the server's token: the header 'Authorization: Bearer TOKEN'.", {"WWW-Authenticate": "Bearer"})
