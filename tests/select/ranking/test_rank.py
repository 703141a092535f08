"""Ranking: which candidates there are, what is looked at, what is measured once, and what is chosen."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tl_keras.config import Config
from tl_keras.data import dataset
from tl_keras.data.pipeline import Pixels
from tl_keras.data.sources import open_source
from tl_keras.errors import BackboneError, ConfigError, DataError
from tl_keras.models.backbone_weights import has_weights
from tl_keras.models.backbones import BACKBONES
from tl_keras.models.outputs import MultiLabel, Regression
from tl_keras.progress import Progress
from tl_keras.run_folder import CONFIG, MODEL, RANKING, RANKING_JSON, RANKING_PICTURE, SPLITS
from tl_keras.select.ranking import rank as ranking
from tl_keras.select.ranking.plot import draw_front
from tl_keras.select.ranking.rank import RankedBackbone, candidates, choose, explain, front, rank_candidates, scores
from tl_keras.transfer.store import Store
from tl_keras.transfer.trunk import Trunk
from tl_keras.workflows.plan import make_plan
from tl_keras.workflows.rank import rank
from tl_keras.workflows.train import train

pytestmark = pytest.mark.usefixtures("own_store")
PhotoFolder = Callable[..., Path]


@pytest.fixture(scope="module")
def photos(photo_folder: PhotoFolder) -> Path:
    return photo_folder(classes=("cat", "dog", "owl"), per_class=10)


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone that sees nothing: its features are the same for all images."""
    pixels = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu", kernel_initializer="zeros", bias_initializer="ones")(x)
    path = tmp_path_factory.mktemp("blind") / "blind.keras"
    keras.Model(pixels, x).save(path)
    return path


def config_of(photos: Path, *names: str, mode: str = "rank", **sections: Any) -> Config:
    data = {"source": str(photos), "image_size": 16} | sections.pop("data", {})
    return Config.model_validate({"mode": mode, "data": data, "rank": {"candidates": names} | sections.pop("rank", {}), **sections})


def judged(name: str, accuracy: float, ms: float, width: float = 0.02) -> RankedBackbone:
    return RankedBackbone(name, (32, 32), accuracy, (accuracy - width, accuracy + width), {"LogME": accuracy}, 1_000_000, ms)


GOOD, QUICK, POOR, SLOW = judged("good", 0.9, 5.0), judged("quick", 0.89, 1.0), judged("poor", 0.5, 3.0), judged("slow", 0.95, 50.0)
RANKED = [SLOW, GOOD, QUICK, POOR]


# --- candidates ----------------------------------------------------------------------------------------------------


def test_cached_are_the_bundled_one_and_what_lies_in_keras_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert candidates(["cached"]) == ["small_resnet"]
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / BACKBONES["vgg16"].weights_file).touch()
    assert candidates(["cached"]) == ["vgg16", "small_resnet"]
    assert candidates(["small_resnet", "cached", "ResNet50"]) == ["small_resnet", "vgg16", "resnet50"]
    assert not has_weights(BACKBONES["resnet50"])


def test_an_unknown_candidate_is_named_before_anything_is_computed(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "judge", lambda *_: pytest.fail("too early"))
    config = config_of(photos, "small_resnet", "resnet5O")
    with pytest.raises(BackboneError, match=r"unknown backbone 'resnet5O'\. Did you mean 'resnet50'\?"):
        rank_candidates(config, open_source(config.data), Progress())


# --- judging -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_backbone_that_sees_is_before_one_that_does_not(photos: Path, blind: Path) -> None:
    config = config_of(photos, str(blind), "small_resnet")
    first, last = rank_candidates(config, open_source(config.data), Progress())
    assert (first.name, last.name) == ("small_resnet", "blind")
    assert first.figure > 0.8
    assert last.figure < 0.5
    assert first.interval[0] < first.figure <= first.interval[1] <= 1
    assert first.num_parameters == BACKBONES["small_resnet"].num_parameters
    assert first.megabytes == pytest.approx(4 * first.num_parameters / 1e6)
    assert first.ms > 0
    for name, value in first.scores.items():
        assert np.isfinite(value), name
        assert last.scores[name] is None


@pytest.mark.slow
def test_test_images_are_not_looked_at(photos: Path, own_backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()
    real = Pixels.read_good

    def read_good(self: Pixels, rows: Any) -> Any:
        seen.update(str(self.paths[row]) for row in rows)
        return real(self, rows)

    monkeypatch.setattr(Pixels, "read_good", read_good)
    config = config_of(photos, own_backbone)
    index = open_source(config.data)
    rank_candidates(config, index, Progress())
    split = dataset.cut(index, config.data, {})
    assert seen == {str(index.root / path) for path, part in zip(index.paths, split, strict=True) if part != "test"}


@pytest.mark.slow
def test_no_more_images_than_asked_for_and_each_class_among_them(photos: Path, own_backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr(ranking, "judge", lambda _, sample, *__: sizes.append(np.bincount(sample.labels).tolist()) or GOOD)
    config = config_of(photos, own_backbone, rank={"max_images": 10})
    rank_candidates(config, open_source(config.data), Progress())
    assert sizes == [[4, 3, 3]]


@pytest.mark.slow
def test_a_second_ranking_computes_and_times_nothing(photos: Path, own_backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(photos, own_backbone)
    first = rank_candidates(config, open_source(config.data), Progress())
    monkeypatch.setattr(Trunk, "__call__", lambda *_: pytest.fail("an image was sent through the backbone"))
    assert rank_candidates(config, open_source(config.data), Progress()) == first


@pytest.mark.slow
def test_a_bad_file_is_passed_over_and_many_are_an_error(photo_folder: PhotoFolder, own_backbone: str) -> None:
    photos = photo_folder(classes=("cat", "dog"), per_class=12)
    sorted((photos / "cat").iterdir())[3].write_text("text")
    config = config_of(photos, own_backbone, data={"max_bad_fraction": 0.5})
    (only,) = rank_candidates(config, open_source(config.data), Progress())
    assert only.figure > 0.5
    strict = config_of(photos, own_backbone, data={"max_bad_fraction": 0.0})
    with pytest.raises(DataError, match=r"do not decode, more than data\.max_bad_fraction=0\."):
        rank_candidates(strict, open_source(strict.data), Progress())


# --- choosing ------------------------------------------------------------------------------------------------------


def test_the_front_is_what_none_beats() -> None:
    assert front(RANKED) == [QUICK, GOOD, SLOW]
    assert front([POOR]) == [POOR]
    same = judged("same", 0.9, 5.0)
    assert front([GOOD, same]) == [GOOD]


def test_the_best_that_is_fast_enough_is_chosen() -> None:
    assert choose(RANKED, None) is SLOW
    assert choose(RANKED, 50.0) is SLOW
    assert choose(RANKED, 49.9) is GOOD
    with pytest.raises(
        ConfigError, match=r"^rank\.max_ms: got 0\.5, and the fastest candidate, quick, takes 1\.00 ms per image\. Raise it\.$"
    ):
        choose(RANKED, 0.5)


def test_the_choice_is_explained() -> None:
    assert explain(RANKED, None) == (
        "slow: accuracy 0.950 expected of its frozen features (95 % interval 0.930 to 0.970), the best of 4; 50.0 ms per image, "
        "1.0 M parameters"
    )
    assert explain(RANKED, 10.0) == (
        "good: accuracy 0.900 expected of its frozen features (95 % interval 0.880 to 0.920), the best of 3 within 10 ms per image; "
        "5.0 ms per image, 1.0 M parameters. quick is 5.0 times faster and not clearly worse (0.890). Without the limit: slow, 0.950"
    )


def test_of_errors_the_least_is_the_best(tmp_path: Path) -> None:
    def erring(name: str, error: float, ms: float) -> RankedBackbone:
        return RankedBackbone(name, (32, 32), error, (error - 1, error + 1), {"LogME": -error}, 1_000_000, ms, "regression")

    slow, good, quick, poor = erring("slow", 11.5, 50.0), erring("good", 12.0, 5.0), erring("quick", 12.9, 1.0), erring("poor", 40.0, 3.0)
    ranked = sorted([poor, quick, slow, good], key=lambda one: -one.merit)
    assert ranked == [slow, good, quick, poor]
    assert front(ranked) == [quick, good, slow]
    assert explain(ranked, 10.0) == (
        "good: mean absolute error 12 expected of its frozen features (95 % interval 11 to 13), the best of 3 within 10 ms per image; "
        "5.0 ms per image, 1.0 M parameters. quick is 5.0 times faster and not clearly worse (12.9). Without the limit: slow, 11.5"
    )
    draw_front(tmp_path / "rank.png", ranked, good)
    assert (tmp_path / "rank.png").is_file()


def test_metrics_are_those_of_the_task_and_know_no_unit() -> None:
    draws = np.random.default_rng(0)
    features = draws.normal(size=(60, 6)).astype(np.float32)
    numbers = (100 + 10 * features[:, 0] + draws.normal(size=60)).astype(np.float32)
    for output, labels, num in ((Regression().fitted(numbers), numbers, 1), (MultiLabel(), features[:, :3] > 0, 3)):
        assert list(scores(features, labels, output, num)) == ["LogME", "CKA"]
        found = scores(np.ones((60, 6), np.float32), labels, output, num)
        assert found == {"LogME": None, "CKA": None}
    unit = scores(features, 1000 * numbers, Regression().fitted(1000 * numbers), 1)
    assert unit == pytest.approx(scores(features, numbers, Regression().fitted(numbers), 1), rel=1e-4)  # none counts


def test_the_front_is_drawn_whole_or_not_at_all(tmp_path: Path) -> None:
    draw_front(tmp_path / "rank.png", RANKED, GOOD)
    assert (tmp_path / "rank.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["rank.png"]


# --- the mode ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_ranking_leaves_a_table_a_picture_and_its_reasons(photos: Path, own_backbone: str, blind: Path, tmp_path: Path) -> None:
    config = config_of(photos, str(blind), own_backbone)
    result = rank(config, tmp_path / "R")
    assert result["chosen"] == own_backbone
    assert json.loads((tmp_path / "R" / RANKING_JSON).read_text()) == json.loads(json.dumps(result))
    lines = (tmp_path / "R" / RANKING).read_text().splitlines()
    assert lines[0].startswith("backbone,image_size,accuracy,low,high,ms,parameters,megabytes,on_front,LogME")
    assert [line.split(",")[0] for line in lines[1:]] == [own_backbone, str(blind)]
    assert (tmp_path / "R" / RANKING_PICTURE).is_file()
    assert (tmp_path / "R" / CONFIG).is_file()


@pytest.mark.slow
def test_a_ranking_that_fails_leaves_nothing(photos: Path, own_backbone: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rank\.max_ms"):
        rank(config_of(photos, own_backbone, rank={"max_ms": 1e-9}), tmp_path / "R")
    assert not (tmp_path / "R").exists()


@pytest.mark.slow
def test_auto_trains_what_ranks_first_as_if_it_had_been_named(photos: Path, own_backbone: str, blind: Path, tmp_path: Path) -> None:
    names = (str(blind), own_backbone)
    by_name = config_of(photos, *names, mode="extract", model={"backbone": own_backbone})
    auto = config_of(photos, *names, mode="extract", model={"backbone": "auto"})
    expected = train(by_name, tmp_path / "named")
    found = train(auto, tmp_path / "auto")
    assert (found["backbone"], found["test"]) == (own_backbone, expected["test"])
    assert f"backbone: {own_backbone}" in (tmp_path / "auto" / CONFIG).read_text()
    assert (tmp_path / "auto" / RANKING).is_file()
    assert (tmp_path / "auto" / SPLITS).read_text() == (tmp_path / "named" / SPLITS).read_text()
    models = [keras.models.load_model(tmp_path / run / MODEL).get_weights() for run in ("auto", "named")]
    assert all(np.array_equal(a, b) for a, b in zip(*models, strict=True))


@pytest.mark.slow
def test_a_plan_says_which_backbone_auto_would_take(photos: Path, own_backbone: str) -> None:
    config = config_of(photos, own_backbone, mode="extract", model={"backbone": "auto"})
    assert make_plan(config, Progress()).config.model.backbone == own_backbone


def test_costs_are_of_a_machine(own_store: Path, photos: Path, own_backbone: str) -> None:
    config = config_of(photos, own_backbone)
    (one,) = rank_candidates(config, open_source(config.data), Progress())
    (kept,) = json.loads((Store(own_store, 1.0).root / ranking.COSTS).read_text()).values()
    assert kept == one.ms


@pytest.mark.slow
def test_a_time_on_a_busy_machine_does_not_stay(own_store: Path, photos: Path, own_backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(photos, own_backbone)
    for seconds, expected in ((0.64, 20.0), (0.032, 1.0), (0.64, 1.0)):
        monkeypatch.setattr(ranking, "timed", lambda *_, seconds=seconds: (None, seconds))
        for collection in own_store.glob("*/"):
            shutil.rmtree(collection)  # its features are computed again
        (one,) = rank_candidates(config, open_source(config.data), Progress())
        assert one.ms == pytest.approx(expected)


@pytest.mark.slow
def test_what_a_ranking_computed_serves_the_training(photos: Path, own_backbone: str, tmp_path: Path) -> None:
    rank(config_of(photos, own_backbone), tmp_path / "R")
    metrics = train(config_of(photos, own_backbone, mode="extract", model={"backbone": own_backbone}), tmp_path / "T")
    assert metrics["features"]["computed"] == metrics["data"]["test"]
