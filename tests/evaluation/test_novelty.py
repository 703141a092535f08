"""Novelty against a plain loop, the coverage of its threshold, and its file."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.errors import RunFolderError
from tl_keras.evaluation.novelty import (
    FALSE_ALARMS,
    Basis,
    Novelty,
    fit_basis,
    fit_novelty,
    from_arrays,
    principal_directions,
    with_energy_of,
)
from tl_keras.evaluation.novelty_file import read_novelty, write_novelty
from tl_keras.run_folder import RunFolder

DRAW = np.random.default_rng(0)


def photos(num: int) -> np.ndarray:
    return DRAW.uniform(0, 255, (num, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(5, 3, activation="relu", name="low")(keras.layers.Rescaling(1 / 255)(pixels))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(keras.layers.Conv2D(6, 3, name="high")(x))
    return keras.Model(pixels, keras.layers.Dense(3, name="logits")(x))


def inner(model: keras.Model) -> keras.Model:
    return keras.Model(model.input, [model.output, model.get_layer("pool").output, model.get_layer("low").output])


def style_of(maps: np.ndarray) -> np.ndarray:
    return np.concatenate([maps.mean(axis=(1, 2)), np.sqrt(maps.var(axis=(1, 2)) + 1e-6)], axis=1)


@pytest.fixture(scope="module")
def novelty(model: keras.Model) -> Novelty:
    _, features, low = (each.numpy() for each in inner(model)(photos(40)))
    basis = fit_basis("pool", ["low"], features, style_of(low))
    assert basis is not None
    logits, features, low = inner(model)(photos(30))
    found = fit_novelty(basis, np.asarray(basis.signs(logits, features, [low])))
    assert found is not None
    return found


def by_loops(novelty: Novelty, logits: np.ndarray, features: np.ndarray, maps: np.ndarray) -> list[float]:
    basis, found = novelty.basis, []
    for one, own, low in zip(logits.astype(float), features.astype(float), maps.astype(float), strict=True):
        off = own - basis.mean
        for direction in basis.directions.T.astype(float):
            off = off - (off @ direction) * direction
        style = [low[..., channel].mean() for channel in range(low.shape[-1])]
        style += [np.sqrt(low[..., channel].var() + 1e-6) for channel in range(low.shape[-1])]
        away = [((each - mean) / scale) ** 2 for each, mean, scale in zip(style, basis.style_mean, basis.style_scale, strict=True)]
        signs = [-np.log(sum(np.exp(each) for each in one)), np.sqrt((off**2).sum()), np.sqrt(sum(away) / len(away))]
        found.append(sum((sign - centre) / scale for sign, centre, scale in zip(signs, novelty.centre, novelty.scale, strict=True)))
    return found


def test_the_watched_model_tells_logits_and_what_a_plain_loop_finds(model: keras.Model, novelty: Novelty) -> None:
    new = photos(7)
    told = novelty.watched(model)(new).numpy()
    logits, features, low = (each.numpy() for each in inner(model)(new))
    np.testing.assert_allclose(told[:, :3], logits, atol=1e-6)
    np.testing.assert_allclose(told[:, 3], by_loops(novelty, logits, features, low), atol=1e-4)
    signs = np.asarray(novelty.basis.signs(logits, features, [low]))
    np.testing.assert_allclose(novelty.score(signs), told[:, 3], atol=1e-4)


def test_an_image_unlike_those_of_train_is_stranger(model: keras.Model, novelty: Novelty) -> None:
    own = novelty.watched(model)(photos(20)).numpy()[:, 3]
    flat = novelty.watched(model)(np.full((1, 8, 8, 3), 250, np.float32)).numpy()[:, 3]
    assert flat[0] > own.max()
    assert not novelty.is_known(flat)[0]


@pytest.mark.parametrize("shape", [(12, 40), (40, 12)])
def test_principal_directions_are_those_of_the_singular_values(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(1).normal(size=shape) * np.linspace(1, 5, shape[1])
    found = principal_directions(rows, 4)
    np.testing.assert_allclose(found.T @ found, np.eye(4), atol=1e-6)
    wanted = np.linalg.svd(rows, full_matrices=False)[2][:4].T
    np.testing.assert_allclose(found @ found.T, wanted @ wanted.T, atol=1e-5)


def test_as_many_known_images_are_called_strange_as_was_asked_for() -> None:
    draw = np.random.default_rng(2)
    basis = Basis("pool", (), np.zeros(4, np.float32), np.zeros((4, 1), np.float32), np.zeros(0, np.float32), np.zeros(0, np.float32))
    flagged = []
    for _ in range(400):
        signs = draw.gamma([2, 5], size=(39 + 200, 2)).astype(np.float32)
        found = fit_novelty(basis, signs[:39])
        assert found is not None
        flagged.append(~found.is_known(found.score(signs[39:])))
    assert np.mean(flagged) == pytest.approx(FALSE_ALARMS, abs=0.007)  # 4 standard errors


def test_of_val_the_mean_novelty_is_0_and_the_share_of_strange_images_that_asked_for(novelty: Novelty) -> None:
    signs = DRAW.normal(3, 2, (200, 3)).astype(np.float32)
    found = fit_novelty(novelty.basis, signs)
    assert found is not None
    assert found.score(signs).mean() == pytest.approx(0, abs=1e-5)
    assert 1 - found.is_known(found.score(signs)).mean() == pytest.approx(FALSE_ALARMS, abs=0.006)


def test_too_few_images_fit_nothing(novelty: Novelty) -> None:
    signs = DRAW.normal(size=(19, 3)).astype(np.float32)
    assert fit_novelty(novelty.basis, signs[:18]) is None
    assert fit_novelty(novelty.basis, signs) is not None
    assert fit_basis("pool", [], signs[:2], signs[:2, :0]) is None


def test_energy_follows_the_logits() -> None:
    signs, logits = np.ones((2, 2), np.float32), np.array([[0, 0], [1, 3]], np.float32)
    np.testing.assert_allclose(with_energy_of(signs, logits), [[-np.log(2), 1], [-np.log(np.e + np.e**3), 1]], rtol=1e-6)
    assert (signs == 1).all()


def test_what_is_written_is_read_back(model: keras.Model, novelty: Novelty, tmp_path: Path) -> None:
    run = RunFolder.at(tmp_path)
    assert read_novelty(run, model) is None
    write_novelty(run, novelty)
    again = read_novelty(run, model)
    assert again is not None
    assert (again.threshold, again.basis.maps, again.basis.features) == (novelty.threshold, ("low",), "pool")
    new = photos(3)
    assert np.array_equal(again.watched(model)(new), novelty.watched(model)(new))


def spoil(kind: str, path: Path, novelty: Novelty) -> None:
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:300])
    elif kind == "text":
        path.write_text("none")
    else:
        changed: dict[str, Any] = {
            "other layer": novelty.arrays() | {"features": "elsewhere"},
            "other width": novelty.arrays() | {"mean": novelty.basis.mean[:-1], "directions": novelty.basis.directions[:-1]},
            "no number": novelty.arrays() | {"threshold": np.nan},
            "pieces": novelty.arrays() | {"centre": novelty.centre[:-1]},
            "missing": {name: each for name, each in novelty.arrays().items() if name != "scale"},
        }
        np.savez(path, **changed[kind])


@pytest.mark.parametrize("kind", ["cut", "text", "other layer", "other width", "no number", "pieces", "missing"])
def test_a_file_that_is_damaged_or_of_another_model_is_told_in_a_line(
    kind: str, model: keras.Model, novelty: Novelty, tmp_path: Path
) -> None:
    write_novelty(RunFolder.at(tmp_path), novelty)
    path = tmp_path / "novelty.npz"
    spoil(kind, path, novelty)
    with pytest.raises(RunFolderError, match=re.escape(f"{path}: is damaged, or is not what tells images of none")):
        read_novelty(RunFolder.at(tmp_path), model)


def test_arrays_are_those_of_any_number_of_maps(novelty: Novelty) -> None:
    plain = replace(
        novelty,
        basis=replace(novelty.basis, maps=(), style_mean=np.zeros(0, np.float32), style_scale=np.zeros(0, np.float32)),
        centre=novelty.centre[:2],
        scale=novelty.scale[:2],
    )
    assert from_arrays(plain.arrays()).basis.maps == ()
