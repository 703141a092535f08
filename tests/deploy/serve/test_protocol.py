"""What the tensors of an answer hold, of each task."""

from tl_keras.deploy.predictor import Prediction, as_json
from tl_keras.deploy.serve import protocol
from tl_keras.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL

CLASSES = ("sea", "sun")


def test_several_labels_are_names_with_a_semicolon_between() -> None:
    shares = {"sea": 0.9, "sun": 0.7}
    found = Prediction("", CLASSES, "sea;sun", probabilities=shares, task=MULTI_LABEL, labels=CLASSES)
    none = Prediction("", CLASSES, "", probabilities=dict.fromkeys(CLASSES, 0.0), task=MULTI_LABEL)
    described = protocol.outputs(MULTI_LABEL, 2, has_novelty=False, has_sets=False)
    assert protocol.answer([found, none], described, []) == [
        {"name": "classes", "datatype": "BYTES", "shape": [2], "data": ["sea;sun", ""]},
        {"name": "probabilities", "datatype": "FP64", "shape": [2, 2], "data": [0.9, 0.7, 0.0, 0.0]},
    ]
    assert as_json(found) == {"classes": CLASSES, "probabilities": shares}


def test_a_number_is_a_value() -> None:
    found = Prediction("", ("age",), "61.5", task=REGRESSION, value=61.5)
    described = protocol.outputs(REGRESSION, 1, has_novelty=False, has_sets=False)
    assert protocol.answer([found], described, ["value"]) == [{"name": "value", "datatype": "FP64", "shape": [1], "data": [61.5]}]
    assert as_json(found) == {"value": 61.5}


def test_a_prediction_set_is_names_with_a_semicolon_between() -> None:
    found = [Prediction("", CLASSES, "sea", prediction_set=names) for names in (CLASSES, ("sun",), ())]
    described = protocol.outputs(SINGLE_LABEL, 2, has_novelty=False, has_sets=True)
    assert protocol.answer(found, described, ["prediction_set"]) == [
        {"name": "prediction_set", "datatype": "BYTES", "shape": [3], "data": ["sea;sun", "sun", ""]}
    ]
