"""The table of methods that make maps."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tl_keras.evaluation.explain.explainer import Explainer, Map
from tl_keras.evaluation.explain.gradcam import grad_cam
from tl_keras.evaluation.explain.integrated_gradients import integrated_gradients
from tl_keras.evaluation.explain.occlusion import occlusion
from tl_keras.explanations import GRAD_CAM, INTEGRATED_GRADIENTS, OCCLUSION

Method = Callable[[Explainer, NDArray[np.uint8], Sequence[int]], list[Map]]

METHODS: Mapping[str, Method] = {GRAD_CAM: grad_cam, INTEGRATED_GRADIENTS: integrated_gradients, OCCLUSION: occlusion}
