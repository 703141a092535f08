"""The card says what is known of a run, and nothing of what is not."""

from tl_keras.config import Config
from tl_keras.deploy.model_card import card_of, text_of

ABOUT = {
    "task": "single_label",
    "classes": [f"class{number}" for number in range(30)],
    "input": {"name": "pixels", "shape": [None, 224, 224, 3]},
    "resize": "crop",
    "outputs": ["probabilities"],
}
ROW = {"file": "model.onnx", "bytes": 1234, "agreement": 0.995, "sha256": {"model.onnx": "abc"}}


def test_a_card_with_figures() -> None:
    config = Config.model_validate({"mode": "finetune", "data": {"source": "flowers"}, "model": {"backbone": "mobilenet_v2"}})
    test = {
        "accuracy": 0.92,
        "accuracy_ci95": [0.87, 0.95],
        "macro_f1": 0.9,
        "log_loss": 0.2,
        "ece": 0.04,
        "ece_ci95": [0.02, 0.06],
        "per_class": {},
    }
    metrics = {"backbone": "mobilenet_v2", "test": test, "data": {"train": 600, "val": 200, "test": 200}, "temperature": 0.66}
    card = card_of(config, metrics, {"tl_keras": "0.1.0"}, ABOUT, {"onnx": ROW})
    assert (card["licence_of_the_backbones_weights"], card["temperature"]) == ("Apache-2.0", 0.66)
    assert list(card["test"]) == ["accuracy", "accuracy_ci95", "macro_f1", "log_loss", "ece", "ece_ci95"]
    text = text_of(card)
    for part in (
        "# mobilenet_v2: class0, class1,",
        "and 10 more",
        "- Images: 600 train, 200 val, 200 test, of flowers",
        "| accuracy | 0.9200 | 0.8700 to 0.9500 |",
        "| log_loss | 0.2000 |  |",
        "| onnx | model.onnx | 1,234 | 0.995 | model.onnx abc |",
    ):
        assert part in text


def test_a_card_of_a_number_from_a_run_that_was_not_measured() -> None:
    config = Config.model_validate({"mode": "extract", "model": {"weights": "none"}})
    about = {**ABOUT, "task": "regression", "classes": ["age"], "outputs": ["value"]}
    card = card_of(config, {}, {}, about, {"onnx": {**ROW, "agreement": None}})
    assert card["licence_of_the_backbones_weights"] is None
    text = text_of(card)
    assert "not known here" in text
    assert "figure of test" not in text
    assert "| onnx | model.onnx | 1,234 |  | model.onnx abc |" in text
