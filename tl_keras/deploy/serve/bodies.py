"""What a request asks about: from the bytes of a body to images, none of them decoded yet."""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

from starlette.exceptions import HTTPException

from tl_keras.deploy.serve.limits import MOST_IMAGES

ASKS = 'Send the bytes of an image file, or JSON: {"images": ["BASE64", ...]}.'


def is_json(content_type: str) -> bool:
    """Whether a body of `POST /predict` is JSON, by its type; else it is an image file, whatever its type says.

    Raises:
        HTTPException: 415, it is a form.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        raise HTTPException(415, f"Forms are not read. {ASKS}")
    return kind == "application/json"


def images_in(body: bytes) -> list[bytes]:
    """The image files in JSON.

    Raises:
        HTTPException: 400 or 413, see `json_of`, `files_of` and `require_number`.
    """
    given = json_of(body)
    found = given.get("images") if isinstance(given, dict) else None
    if not isinstance(found, list) or not found:
        raise HTTPException(400, f"The JSON has no list 'images' with an image in it. {ASKS}")
    require_number(len(found))
    return files_of(found, "images")


def json_of(body: bytes) -> Any:
    """The JSON document in a body.

    Raises:
        HTTPException: 400, it is none.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:  # of a number of too many digits too, and of bytes that are not UTF-8
        raise HTTPException(400, f"The body is not JSON ({str(error) or type(error).__name__}).") from error


def files_of(texts: Sequence[Any], name: str) -> list[bytes]:
    """The files in a list of base64.

    Raises:
        HTTPException: 400, an item is no base64.
    """
    found = []
    for place, text in enumerate(texts):
        try:
            found.append(base64.b64decode(text, validate=True))
        except (TypeError, ValueError, binascii.Error) as error:
            raise HTTPException(400, f"{name}[{place}]: is not base64. Encode the bytes of an image file.") from error
    return found


def require_number(number: int) -> None:
    """Refuse more images than a request may hold.

    Raises:
        HTTPException: 413.
    """
    if number > MOST_IMAGES:
        raise HTTPException(413, f"Got {number} images, expected at most {MOST_IMAGES} in a request.")
