"""Who made an export: a signature over all of its files by a key pair, in the format of OpenSSF's model signing, without any network.

Knows a folder and keys; what lies in the folder, and whether it is what an export wrote, is not its business.
"""

import os
from pathlib import Path
from typing import Any

from tl_keras.errors import ConfigError, DataError
from tl_keras.packages import require_packages
from tl_keras.partial import clear_partial
from tl_keras.run_folder import write_atomically

SIGNATURE = "model.sig"
PASSWORD = "TL_KERAS_SIGN_KEY_PASSWORD"  # the environment variable; a command line is seen by all users of a machine
PACKAGES = ("model-signing", "pyopenssl")  # the first imports the second and does not ask for it
KEYS = "an elliptic key (P-256, P-384 or P-521) as PEM"
UNUSABLE = (OSError, ValueError, TypeError, AttributeError)  # what a file that is no such key raises


def open_signer(key: Path) -> Any:
    """What signs with a private key, whose password, where it has one, is in the environment.

    Raises:
        ConfigError: the packages are not installed, or it is not such a key.
    """
    require_packages("export.sign_key", PACKAGES)
    from model_signing import signing

    password = os.environ.get(PASSWORD)
    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=key, password=password.encode() if password else None)
    except UNUSABLE as error:
        raise ConfigError(
            f"export.sign_key: {key}: cannot be used ({_why(error)}). Give the private part of {KEYS}, and its password, if it has one, in "
            f"{PASSWORD}."
        ) from error
    return signer.set_hashing_config(_hashing())


def sign(signer: Any, folder: Path) -> None:
    """Write a signature of all other files of a folder into it.

    Raises:
        OSError: it cannot be written; none is left.
    """
    clear_partial(folder)
    write_atomically(folder / SIGNATURE, lambda temporary: signer.sign(folder, temporary))


def open_verifier(key: Path) -> Any:
    """What knows the signatures of a public key.

    Raises:
        ConfigError: the packages are not installed, or it is not such a key.
    """
    require_packages("--public-key", PACKAGES)
    from model_signing import verifying

    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=key)
    except UNUSABLE as error:
        raise ConfigError(f"--public-key: {key}: cannot be used ({_why(error)}). Give the public part of {KEYS}.") from error
    return verifier.set_hashing_config(_hashing())


def require_signed(verifier: Any, folder: Path) -> None:
    """Refuse a folder whose signature is missing, damaged, of another key, or of other files.

    Raises:
        DataError: with the reason, for a line that begins with the signature's name.
    """
    if not (folder / SIGNATURE).is_file():
        raise DataError("is missing")
    from cryptography.exceptions import InvalidSignature

    try:
        verifier.verify(folder, folder / SIGNATURE)
    except InvalidSignature as error:
        raise DataError("is not a signature by this key") from error
    except Exception as error:  # of a damaged file it raises many kinds, none documented
        raise DataError(f"does not hold ({_why(error)})") from error


def _hashing() -> Any:
    from model_signing import hashing

    return hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, AttributeError):  # it asks any key for its curve
        return "it is a key of another kind"
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]
