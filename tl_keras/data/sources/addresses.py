"""Addresses of object stores and servers, such as s3://bucket/photos: what they look like, how they are opened, and what can go wrong.

The one place that imports fsspec, which knows the stores, and only once an address is opened. Whatever a store answers becomes one line
that says what to do. What lies at an address is for `objects` to list and for `mirror` to fetch.
"""

import logging
import posixpath
import re
from asyncio import gather
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, cast
from urllib.parse import quote, unquote

from tl_keras.data.sources.source import NEAR
from tl_keras.errors import DataError, first_line

_FORM = re.compile(r"[a-z][a-z0-9+.-]+:[/:]", re.IGNORECASE)  # a drive of Windows is one letter
INSTALL = "pip install"
OF_S3 = {
    "config_kwargs": {"max_pool_connections": 64},  # instead of 10, of which each waits for the answer to a request
    "max_concurrency": 1,  # for parts of an object; with more, the size of each object is asked for once more
}
AWS = "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
GOOGLE = "GOOGLE_APPLICATION_CREDENTIALS to the file of a key, or log in with: gcloud auth application-default login"
AZURE = "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"


@dataclass(frozen=True)
class Scheme:
    """The beginning of an address.

    Attributes:
        package: what has to be installed; None where fsspec alone will do.
        credentials: what to set where the store asks who you are; '' where it does not.
        options: of fsspec's class.
    """

    package: str | None
    credentials: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


SCHEMES = {  # fsspec knows more, which are taken too
    "s3": Scheme("s3fs", AWS, OF_S3),
    "gs": Scheme("gcsfs", GOOGLE),
    "az": Scheme("adlfs", AZURE),
    "http": Scheme("aiohttp"),
    "https": Scheme("aiohttp"),
    "file": Scheme(None),
    "memory": Scheme(None),
    "s3a": Scheme("s3fs", AWS, OF_S3),
    "gcs": Scheme("gcsfs", GOOGLE),
    "abfs": Scheme("adlfs", AZURE),
    "abfss": Scheme("adlfs", AZURE),
    "hf": Scheme("huggingface_hub", "HF_TOKEN"),
    "sftp": Scheme("paramiko"),
    "ssh": Scheme("paramiko"),
    "hdfs": Scheme("pyarrow"),
}
LONGEST_REASON = 200  # letters of what a store says
USUAL = ("s3", "gs", "az", "http", "https")  # that are named where a scheme is not known
LOGGERS = ("adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google", "s3fs")
WEB = ("http", "https")
BUCKETS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")  # whose addresses begin with the name of a bucket
WRAPPERS = frozenset(  # of fsspec: not where files lie, but ways to read what lies elsewhere
    {"arrow_hdfs", "async_wrapper", "asynclocal", "asyncwrapper", "blockcache", "cached", "data", "dir", "filecache", "generic"}
    | {"libarchive", "local", "pyscript", "reference", "simplecache", "tar", "zip"}
)
# Names of the classes of errors, and of those that they are derived from: the packages that have them need not be there.
NO_CREDENTIALS = frozenset({"NoCredentialsError"})
BAD_CREDENTIALS = NO_CREDENTIALS | {
    *("CredentialRetrievalError", "PartialCredentialsError", "ProfileNotFound", "SSOError", "TokenRetrievalError"),  # botocore
    *("DefaultCredentialsError", "RefreshError", "ClientAuthenticationError", "LocalTokenNotFoundError"),  # Google, Azure, Hugging Face
}
NO_NETWORK = frozenset(
    {"ConnectionError", "ClientConnectionError", "ConnectTimeout", "FSTimeoutError", "HTTPClientError", "ServiceRequestError"}
    | {"TimeoutError", "TransportError", "gaierror"}
)


class UnreachableError(DataError):
    """There is no network, or the store does not answer; what was fetched before may do."""


def as_written(address: str, path: str) -> str:
    """A part of an address, or of what lies there, as a person writes it: a web server has it percent-encoded."""
    return unquote(path, errors="surrogateescape") if scheme_of(address) in WEB else path


@dataclass(frozen=True)
class Opened:
    """An address that there is.

    Attributes:
        address: as the user wrote it, for messages.
        system: of fsspec.
        path: what the system calls it.
        about: what the system says of it.
    """

    address: str
    system: Any
    path: str
    about: dict[str, Any]

    @property
    def is_file(self) -> bool:
        """Whether it is a single object; of a web server only an address says so, by its ending."""
        return self.about.get("type") == "file" and not self.is_web

    def above(self) -> "Opened":
        """The folder that this lies in, on behalf of the same address."""
        return replace(self, path=self.path.rpartition("/")[0], about={})

    @property
    def is_async(self) -> bool:
        """Whether it can be asked several things at once."""
        return bool(self.system.async_impl)

    @property
    def lists_by_folder(self) -> bool:
        """Whether fsspec goes from folder to folder to list what lies below one."""
        from fsspec import AbstractFileSystem
        from fsspec.asyn import AsyncFileSystem

        kind = type(self.system)
        return bool(kind._find is AsyncFileSystem._find if issubclass(kind, AsyncFileSystem) else kind.find is AbstractFileSystem.find)

    @property
    def is_web(self) -> bool:
        """Whether it is a web server, which need not give parts of a file."""
        return scheme_of(self.address) in WEB

    def name_of(self, path: str) -> str:
        """A path as a person writes it; a web server gives it percent-encoded."""
        return as_written(self.address, path)

    def below(self, path: str) -> str:
        """What the system calls something in this folder; the opposite of `name_of`."""
        own = quote(path, errors="surrogateescape") if self.is_web else path
        return f"{self.path}/{own}" if own else self.path

    def read(self, paths: Sequence[str]) -> list[bytes | Exception]:
        """The bytes of several objects, at once where the system can; an error in place of one that it does not give."""
        if self.is_async:
            from fsspec.asyn import sync

            return cast(list[bytes | Exception], sync(self.system.loop, _read_all, self.system, paths))
        return [_read_one(self.system, path) for path in paths]


async def _read_all(system: Any, paths: Sequence[str]) -> list[bytes | BaseException]:
    return await gather(*(system._cat_file(path) for path in paths), return_exceptions=True)


def _read_one(system: Any, path: str) -> bytes | Exception:
    try:
        return cast(bytes, system.cat_file(path))
    except Exception as error:  # of each store its own; told by `telling`
        return error


def is_address(source: str) -> bool:
    """Whether a `data.source` has the form of an address, be it a misspelt one."""
    return _FORM.match(source) is not None


def scheme_of(address: str) -> str:
    """What an address begins with, in lower case."""
    return address.partition(":")[0].lower()


def require_known(address: str) -> None:
    """Refuse an address that leads nowhere, without the network.

    Raises:
        DataError: it has no two slashes, its scheme is not known, or the package for that is not installed.
    """
    scheme, rest = scheme_of(address), address.partition(":")[2]
    if "::" in address:
        raise DataError(f"{address}: is several addresses in one. Give one.")
    if not rest.startswith("//"):
        slashes = f" Did you mean '{scheme}://{rest.lstrip('/')}'?" if rest.lstrip("/") else ""
        raise DataError(f"{address}: is neither a path nor an address, which has two slashes: {scheme}://bucket/folder.{slashes}")
    _require_scheme(address, scheme)
    if not rest.strip("/"):
        raise DataError(f"{address}: names no bucket. Give {scheme}://bucket/folder.")


def _require_scheme(address: str, scheme: str) -> None:
    from fsspec import available_protocols, get_filesystem_class

    known = (set(available_protocols()) | set(SCHEMES)) - WRAPPERS
    if scheme not in known:
        near = get_close_matches(scheme, USUAL, n=1, cutoff=0.5)
        hint = f" Did you mean '{near[0]}{address[len(scheme) :]}'?" if near else ""
        raise DataError(f"{address}: '{scheme}://' is not known; known are {', '.join(f'{each}://' for each in USUAL)} and others.{hint}")
    try:
        get_filesystem_class(scheme)
    except (ImportError, ValueError) as error:
        package = SCHEMES.get(scheme, Scheme(None)).package
        mend = f"Install it: {INSTALL} {package}." if package else f"{first_line(error)}."
        raise DataError(f"{address}: what lies there is read by {package or 'a package'}, which is not installed. {mend}") from error


def open_address(address: str) -> Opened:
    """Ask a store what there is at an address.

    A store of S3 for which this machine has no credentials is asked for what is public.

    Raises:
        DataError: there is no such bucket, folder or object, it may not be read, or the store wants to know who asks.
        UnreachableError: the store does not answer.
    """
    require_known(address)
    with telling(address):
        try:
            return _opened(address)
        except Exception as error:
            if not _is_any(error, NO_CREDENTIALS):
                raise
            with suppress(PermissionError):
                return _opened(address, anon=True)
            raise


def open_place(address: str) -> tuple[Any, str]:
    """The file system of an address, of fsspec, and what that calls the place, where there need not be anything yet; asks nobody.

    Raises:
        DataError: its scheme is not known, or the package for that is not installed.
    """
    require_known(address)
    with telling(address):
        system, path = _system_of(address)
        return system, path.rstrip("/")


def _system_of(address: str, **options: Any) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    for logger in map(logging.getLogger, LOGGERS):
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())  # else their warnings, with tracebacks, go to the terminal
    options |= SCHEMES.get(scheme_of(address), Scheme(None)).options
    found: tuple[Any, str] = url_to_fs(address, use_listings_cache=False, skip_instance_cache=True, **options)
    return found


def _opened(address: str, **options: Any) -> Opened:
    system, path = _system_of(address, **options)
    try:
        about = system.info(path)
    except FileNotFoundError as error:  # of a web server whatever it is
        if _is_any(error, NO_NETWORK) or _is_refused(error):
            raise
        raise DataError(_nothing_there(address, system, path)) from error
    return Opened(address.rstrip("/"), system, path.rstrip("/"), about)


def _nothing_there(address: str, system: Any, path: str) -> str:
    """What is said of an address where nothing is: that there is no such bucket, or the nearest name in the folder above."""
    bucket, _, below = path.strip("/").partition("/")
    if scheme_of(address) in BUCKETS and not (below and system.exists(bucket)):
        return f"{address}: there is no bucket '{bucket}'. Check its name, and the account and region that are set."
    above, _, name = path.rstrip("/").rpartition("/")
    names: list[str] = []
    with suppress(OSError):
        names = [posixpath.basename(found.rstrip("/")) for found in system.ls(above, detail=False)]
    near = get_close_matches(name, names, n=1, cutoff=NEAR)
    hint = f" Did you mean '{address.rstrip('/').removesuffix(name)}{near[0]}'?" if near else ""
    return f"{address}: there is nothing there.{hint} Give a folder of class folders, a .zip or .tar archive of it, or a table."


@contextmanager
def telling(address: str) -> Iterator[None]:
    """Turn whatever goes wrong while a store is asked into one line.

    Raises:
        DataError: the store refuses, or has not what it listed.
        UnreachableError: the store does not answer.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # of each store its own, and of the packages that it is built on
        raise _told(address, error) from error


def _told(address: str, error: Exception) -> DataError:
    wants = SCHEMES.get(scheme_of(address), Scheme(None)).credentials
    mend = f"Set {wants}." if wants else "Ask whoever owns it for access."
    if (cause := _first_of(error, NO_NETWORK)) is not None:
        return UnreachableError(f"{address}: cannot be reached ({_reason(cause)}). Check the network, and the address.")
    reason = _reason(error)
    if _is_any(error, BAD_CREDENTIALS):
        return DataError(f"{address}: needs credentials ({reason}). {mend}")
    if _is_refused(error):
        return DataError(f"{address}: may not be read: credentials are missing, or do not allow it ({reason}). {mend}")
    if isinstance(error, FileNotFoundError):
        return DataError(f"{address}: an object that was listed is gone ({reason}). Run again.")
    return DataError(f"{address}: cannot be read ({type(error).__name__}: {reason}).")


def _reason(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:LONGEST_REASON].rstrip(".")


def _first_of(error: BaseException, names: frozenset[str]) -> BaseException | None:
    """An error, or what caused it, of a class of one of some names."""
    return next((each for each in _chain(error) if any(kind.__name__ in names for kind in type(each).__mro__)), None)


def _is_any(error: BaseException, names: frozenset[str]) -> bool:
    return _first_of(error, names) is not None


def _is_refused(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that somebody else might read this."""
    return any(isinstance(each, PermissionError) or getattr(each, "status", None) in (401, 403) for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
