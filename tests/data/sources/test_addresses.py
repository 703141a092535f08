"""Addresses: which are known, and what each mistake, and each refusal of a store, is told."""

import logging
import subprocess
import sys

import fsspec
import pytest

from tl_keras.data.sources import addresses
from tl_keras.data.sources.addresses import SCHEMES, UnreachableError, is_address, open_address, require_known, telling
from tl_keras.errors import DataError


def error_of(address, asked=open_address):
    with pytest.raises(DataError) as caught:
        asked(address)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "source", ["s3://bucket/photos", "S3://b", "memory://x", "s3:/b/photos", "https://host/a.zip", "zip::s3://b/a.zip"]
)
def test_addresses_are_known_by_their_form(source):
    assert is_address(source)


@pytest.mark.parametrize("source", ["digits", "photos/", "/data/s3", "./s3://b", "C:/photos", "cifar10", "cats/small:1.0.0", "a b://c", ""])
def test_paths_and_names_are_not_addresses(source):
    assert not is_address(source)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("s3:/bucket/photos", ["is neither a path nor an address", "Did you mean 's3://bucket/photos'?"]),
        ("s4://bucket/photos", ["'s4://' is not known; known are s3://, gs://", "Did you mean 's3://bucket/photos'?"]),
        ("quux://bucket", ["'quux://' is not known"]),
        ("memory://", ["names no bucket. Give memory://bucket/folder."]),
        ("simplecache::s3://b/x", ["is several addresses in one"]),
        ("reference://x", ["'reference://' is not known"]),
        ("zip://x", ["'zip://' is not known"]),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_without_the_network(address, words):
    text = error_of(address, require_known)
    assert text.startswith(address)
    assert all(word in text for word in words), text


def test_no_scheme_is_guessed_from_a_word_that_is_not_like_one():
    assert "Did you mean" not in error_of("quux://bucket", require_known)


@pytest.mark.parametrize(("address", "package"), [("s3://b/x", "s3fs"), ("gs://b/x", "gcsfs"), ("https://host/x", "aiohttp")])
def test_a_package_that_is_missing_is_told_with_the_line_that_installs_it(monkeypatch, address, package):
    def missing(scheme):
        raise ImportError("Install it")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    assert error_of(address, require_known).endswith(f"which is not installed. Install it: pip install {package}.")


def test_the_nearest_name_is_told_where_nothing_is(memory):
    memory.pipe("/pics/photos/cat/0.png", b"0")
    assert "there is nothing there. Did you mean 'memory://pics/photos'?" in error_of("memory://pics/phots")
    assert "Did you mean" not in error_of("memory://pics/toto")
    assert "there is nothing there" in error_of("memory://no/such/thing")


def test_what_the_packages_of_stores_log_does_not_go_to_the_terminal(memory, monkeypatch):
    monkeypatch.setattr(logging.getLogger("gcsfs"), "handlers", [])
    memory.pipe("/pics/photos/cat/0.png", b"0")
    for _ in range(2):
        open_address("memory://pics/photos")
    assert [type(each) for each in logging.getLogger("gcsfs").handlers] == [logging.NullHandler]


def made(name, base=Exception):
    return type(name, (base,), {})


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (made("NoCredentialsError")("no"), f"needs credentials (no). Set {addresses.AWS}."),
        (made("ProfileNotFound")("the profile x"), "needs credentials"),
        (
            PermissionError("Access Denied"),
            f"may not be read: credentials are missing, or do not allow it (Access Denied). Set {addresses.AWS}.",
        ),
        (FileNotFoundError("x/y"), "is gone (x/y). Run again."),
        (OSError(5, "what"), "cannot be read (OSError: [Errno 5] what)."),
        (made("Strange")("one\ntwo"), "cannot be read (Strange: one two)."),
    ],
)
def test_what_a_store_answers_is_one_line_that_says_what_to_do(error, words):
    with pytest.raises(DataError) as caught, telling("s3://b/x"):
        raise error
    assert str(caught.value).startswith("s3://b/x: ")
    assert words in str(caught.value)
    assert not isinstance(caught.value, UnreachableError)


@pytest.mark.parametrize("name", ["EndpointConnectionError", "ClientConnectorError", "ReadTimeoutError"])
def test_a_store_that_does_not_answer_is_told_from_one_that_refuses(name):
    error = made(name, made("HTTPClientError"))("no route")
    for each in (error, TimeoutError("slow"), ConnectionRefusedError("closed")):
        with pytest.raises(UnreachableError, match=r"cannot be reached \(.*\)\. Check the network"), telling("s3://b/x"):
            raise each


def test_credentials_are_told_for_each_kind_of_store():
    wanted = {scheme: SCHEMES[scheme].credentials for scheme in ("s3", "gs", "az")}
    assert "AWS_PROFILE" in wanted["s3"]
    assert "GOOGLE_APPLICATION_CREDENTIALS" in wanted["gs"]
    assert all(wanted.values())


@pytest.mark.slow
def test_importing_the_package_does_not_import_fsspec():
    code = "import sys, tl_keras, tl_keras.run, tl_keras.data.sources, tl_keras.launch; sys.exit('fsspec' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
