"""A source task: everything trains, and the backbone it leaves is one that another task takes."""

from collections.abc import Callable

import numpy as np
import pytest

from tl_keras.models.backbone_loading import build_backbone
from tl_keras.run_folder import BACKBONE
from tl_keras.transfer.pretrain import pretrain, save_backbone
from tl_keras.transfer.snapshots import snapshots_of
from tl_keras.transfer.task import Task

MakeTask = Callable[..., Task]


@pytest.mark.slow
def test_pretrained_backbone_is_taken_by_path_with_the_same_feature_map_and_restarts_keep_snapshots(make_task: MakeTask) -> None:
    task = make_task(mode="pretrain", train={"epochs": 2, "schedule": "cosine_restarts", "cycles": 2})
    model = task.classifier.model
    before = {variable.path: variable.numpy() for variable in model.weights}
    pretrain(task)
    save_backbone(task, model)
    assert [file.name for file in snapshots_of(task.run)] == ["1.weights.h5", "2.weights.h5"]
    after = {variable.path: variable.numpy() for variable in model.weights}
    statistics = [path for path in before if path.endswith(("moving_mean", "moving_variance"))]
    assert not any(np.array_equal(before[path], after[path]) for path in [*statistics, "stage1_bn/beta", "logits/kernel"])

    built = build_backbone(str(task.run / BACKBONE), image_size=(16, 16))
    pixels = task.data.pixels.read(task.data.rows("val")).astype(np.float32)
    feature_map = np.asarray(built.model(pixels))
    assert feature_map.shape[1:] == (2, 2, 8)
    np.testing.assert_allclose(feature_map.mean(axis=(1, 2)), task.classifier.trunk(pixels), rtol=1e-4, atol=1e-5)
    assert len(built.stages) == 3
