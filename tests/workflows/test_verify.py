"""`verify`: each file of an export is told that is not as it was written, and a signature that does not hold."""

import base64
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tl_keras import run
from tl_keras.config import Config
from tl_keras.config_file import from_run, to_yaml
from tl_keras.deploy import signature
from tl_keras.deploy.export import hashes_of
from tl_keras.deploy.parity import Agreement, Reference
from tl_keras.errors import ConfigError, ParityError, RunFolderError
from tl_keras.workflows.export import export
from tl_keras.workflows.verify import verify

Run = tuple[Path, Path]
FIGURES = {"bytes": 1, "agreement": 1.0, "largest_difference": {"float": 0.0}, "single_ms": 1.0, "images_per_second": 1.0}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A run folder with an export of two formats; their contents are not looked at."""
    folder = tmp_path / "R" / "export"
    (folder / "openvino").mkdir(parents=True)
    for name in ("model.onnx", "openvino/model.xml", "openvino/model.bin"):
        (folder / name).write_text(name)
    rows = {
        kind: {"file": name, "sha256": hashes_of(folder / name)} | FIGURES
        for kind, name in (("onnx", "model.onnx"), ("openvino", "openvino"))
    }
    for name in ("export.json", "model_card.json"):
        (folder / name).write_text(json.dumps({"formats": rows}))
    (folder / "model_card.md").write_text("# card")
    return tmp_path / "R"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with key pairs: `NAME.pem` and `NAME.pub`."""
    pytest.importorskip("model_signing")
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    folder = tmp_path_factory.mktemp("keys")
    pairs = {"own": ec.generate_private_key(ec.SECP256R1()), "other": ec.generate_private_key(ec.SECP384R1())}
    pairs |= {"locked": pairs["own"], "edwards": ed25519.Ed25519PrivateKey.generate()}  # type: ignore[dict-item]
    for name, key in pairs.items():
        lock = serialization.BestAvailableEncryption(b"secret") if name == "locked" else serialization.NoEncryption()
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
        public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pem").write_bytes(private)
        (folder / f"{name}.pub").write_bytes(public)
    return folder


@pytest.fixture
def signed(made: Path, keys: Path) -> Path:
    signature.sign(signature.open_signer(keys / "own.pem"), made / "export")
    return made


def edit(folder: Path, name: str, old: bytes, new: bytes) -> None:
    content = (folder / name).read_bytes()
    assert old in content
    (folder / name).write_bytes(content.replace(old, new))


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "changed": (lambda at: (at / "openvino/model.bin").write_text("x"), "openvino/model.bin: is not the file that was exported"),
    "missing": (lambda at: (at / "model.onnx").unlink(), "model.onnx: is missing"),
    "additional": (lambda at: (at / "openvino/more.bin").write_text("x"), "openvino/more.bin: is not a file of this export"),
    "hidden": (lambda at: (at / ".git").write_text("x"), ".git: is not a file of this export"),
    "link": (
        lambda at: ((at / "model.onnx").rename(at.parent / "m"), (at / "model.onnx").symlink_to("../m")),
        "model.onnx: is a link or a special file",
    ),
    "folder_link": (lambda at: (at / "more").symlink_to("openvino"), "more: is a link or a special file"),
    "pipe": (lambda at: os.mkfifo(at / "pipe"), "pipe: is a link or a special file"),
    "no_card": (lambda at: (at / "model_card.md").unlink(), "model_card.md: is missing"),
    "other_card": (lambda at: edit(at, "model_card.json", b"1.0", b"0.5"), "model_card.json: tells of other files than export.json"),
    "outside": (
        lambda at: [edit(at, name, b'"model.onnx": ', b'"../../etc/x": ') for name in ("export.json", "model_card.json")],
        "../../etc/x: is missing",
    ),
}


def test_an_export_that_is_as_it_was_written(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(made) == {"folder": str(made / "export"), "files": 3, "signed": None, "wrong": []}
    (made / "model.keras").touch()
    (made / "config.yaml").touch()
    (made / "splits.csv").touch()
    assert run.main(["verify", str(made)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "3 files have the SHA-256 that export.json tells" in said
    assert "only a signature tells" in said
    (made / "export" / "model.onnx").write_text("x")
    assert run.main(["verify", str(made)]) == 3
    assert "model.onnx: is not the file that was exported" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_not_as_it_was_written_is_named(made: Path, name: str) -> None:
    damage, line = DAMAGES[name]
    damage(made / "export")
    assert [each for each in verify(made)["wrong"] if line in each]


@pytest.mark.parametrize("name", DAMAGES)
def test_no_damage_passes_a_signature(signed: Path, keys: Path, name: str) -> None:
    assert verify(signed, public_key=keys / "own.pub")["signed"] is True
    DAMAGES[name][0](signed / "export")
    found = verify(signed, public_key=keys / "own.pub")
    assert found["signed"] is False
    assert found["wrong"][-1].startswith(
        (f"{signed}/export/model.sig: is not of these files", f"{signed}/export/model.sig: does not hold (")
    )
    (signed / "export" / "model_card.md").write_text("# another")
    changed = [line for line in verify(signed, public_key=keys / "own.pub")["wrong"] if "model_card.md" in line and "model.sig" in line]
    assert len(changed) == (name not in ("link", "folder_link", "pipe"))


def test_a_record_and_files_that_were_changed_together_are_found_by_the_signature_alone(signed: Path, keys: Path) -> None:
    folder = signed / "export"
    before = hashes_of(folder / "model.onnx")["model.onnx"]
    (folder / "model.onnx").write_text("another model")
    for name in ("export.json", "model_card.json"):
        edit(folder, name, before.encode(), hashes_of(folder / "model.onnx")["model.onnx"].encode())
    assert verify(signed)["wrong"] == []
    line = f"{folder}/model.sig: is not of these files, but of another export.json, model.onnx, model_card.json"
    assert verify(signed, public_key=keys / "own.pub")["wrong"] == [line]


def test_a_signature_goes_with_a_folder_that_is_moved_and_belongs_to_one_key(signed: Path, keys: Path, tmp_path: Path) -> None:
    moved = signed.rename(tmp_path / "moved")
    assert verify(moved, public_key=keys / "own.pub")["signed"] is True
    assert "Key mismatch" in verify(moved, public_key=keys / "other.pub")["wrong"][0]
    file = moved / "export" / "model.sig"
    bundle = json.loads(file.read_text())
    envelope = bundle["dsseEnvelope"]
    forged = base64.b64decode(envelope["payload"]).replace(b"model.onnx", b"model.onnz")
    for changed in (
        envelope | {"payload": base64.b64encode(forged).decode()},
        envelope | {"signatures": [{"sig": base64.b64encode(b"0" * 70).decode()}]},
    ):
        file.write_text(json.dumps(bundle | {"dsseEnvelope": changed}))
        assert verify(moved, public_key=keys / "own.pub")["wrong"] == [f"{file}: is not a signature by this key"]
    for damaged in (b"", b"{}", b"[]", b"\xff", b'{"verificationMaterial": 1}'):
        file.write_bytes(damaged)
        assert f"{file}: does not hold" in verify(moved, public_key=keys / "own.pub")["wrong"][0]
    file.unlink()
    assert verify(moved, public_key=keys / "own.pub")["wrong"] == [f"{file}: is missing"]


def test_keys_that_cannot_sign_or_verify_are_told_before_anything_is_done(made: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, why in (
        ("own.pub", "no BEGIN/END delimiters for a private key"),
        ("edwards.pem", "it is a key of another kind"),
        ("none.pem", "No such file or directory"),
        ("locked.pem", "Password was not given but private key is encrypted"),
    ):
        with pytest.raises(ConfigError, match=f"export.sign_key: .*{name}: cannot be used .*{why}"):
            signature.open_signer(keys / name)
    with pytest.raises(ConfigError, match=r"--public-key: .*own\.pem: cannot be used"):
        verify(made, public_key=keys / "own.pem")
    monkeypatch.setenv(signature.PASSWORD, "wrong")
    with pytest.raises(ConfigError, match=r"locked\.pem: cannot be used"):  # what is decrypted by a wrong one may look like another format
        signature.open_signer(keys / "locked.pem")
    monkeypatch.setenv(signature.PASSWORD, "secret")
    signature.sign(signature.open_signer(keys / "locked.pem"), made / "export")
    assert verify(made, public_key=keys / "own.pub")["signed"] is True


def test_without_an_export_or_the_packages(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tl_keras.packages.is_installed", lambda name: False)
    for call, asked_by in (
        (lambda: verify(made, public_key="k"), "--public-key"),
        (lambda: signature.open_signer(Path("k")), "export.sign_key"),
    ):
        with pytest.raises(ConfigError, match=f"^{asked_by}: needs model-signing and pyopenssl, .* pip install model-signing pyopenssl"):
            call()
    shutil.rmtree(made / "export")
    with pytest.raises(RunFolderError, match=r"R/export: holds no export\. Write one: .*export .*R"):
        verify(made)


def test_a_run_folder_names_no_key_of_whoever_exports_it() -> None:
    told = to_yaml(Config(mode="extract").replace("export.sign_key", "/home/you/key.pem"))
    assert "/home/you/key.pem" in told
    assert from_run(told, "config.yaml").export.sign_key is None


@pytest.mark.slow
def test_an_export_is_signed_last_and_an_unsigned_one_removes_the_signature(
    trained: Run, keys: Path, tmp_path: Path, heard: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(exported: Any, target: Path, reference: Reference, bounds: Any, *, kind: str) -> Agreement:
        if bounds.max_probability_difference < 1e-9:
            raise ParityError("it differs")
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(os.urandom(8))
        speed = {"cold_start_s": 1.0, "single_ms": 1.0, "images_per_second": 1.0}
        return Agreement({"float": 0.0}, {}, {}, 1.0, None, None, reference.answers, speed)

    monkeypatch.setattr("tl_keras.workflows.export.export_model", write)
    copy = shutil.copytree(trained[0], tmp_path / "R")
    file = copy / "export" / "model.sig"
    words = ["export", str(copy), "--format", "onnx", "--format", "litert", "--set", "export.parity_images=3"]
    assert run.main([*words, "--set", f"export.sign_key={keys / 'own.pem'}"]) == 0
    assert f"signed: {file}" in capsys.readouterr().out.replace("\n", "")
    assert verify(copy, public_key=keys / "own.pub")["signed"] is True
    assert export(copy, formats=["onnx"], settings={"export.max_probability_difference": 1e-15}, progress=heard)["missed"]
    assert verify(copy, public_key=keys / "own.pub")["wrong"] == []  # nothing was changed, and the signature holds
    assert export(copy, formats=["onnx"], progress=heard)["signature"] is None
    assert not file.exists()
    assert f"removed {file}, which was of the files before" in heard.lines
    assert verify(copy)["wrong"] == []
    with pytest.raises(ConfigError, match=r"export\.sign_key: .*none\.pem: cannot be used"):
        export(copy, formats=["openvino"], settings={"export.sign_key": str(keys / "none.pem")})
    assert not (copy / "export" / "openvino").exists()
