"""Wide features made narrow at the cost of reading them: sums of random columns with random signs.

For judgements over all images, such as what is mislabelled, where a solver on all columns would take
minutes and a learned projection another pass. Products of rows are kept on average, within about 1 / sqrt(width).
"""

import numpy as np
from numpy.typing import NDArray

from tl_keras.transfer.head.probe import Features, Standardiser

SEED = 0


class Sketch:
    """Features float32 (n, d) as float32 (n, width), read by slices.

    Args:
        features: raw, in memory or not.
        standardise: applied before columns are added, so that those with large values do not drown the others.
        width: less than d.

    Reference: Charikar, Chen & Farach-Colton 2002, "Finding frequent items in data streams"; Weinberger et al. 2009, arXiv:0902.2206.
    """

    def __init__(self, features: Features, standardise: Standardiser, width: int) -> None:
        rng = np.random.default_rng(SEED)
        wide = features.shape[1]
        self.shape = (len(features), width)
        self._features, self._standardise = features, standardise
        self._order = rng.permutation(wide)  # columns that are added lie side by side
        self._signs = rng.choice(np.array([-1, 1], np.float32), wide)
        self._begins = np.arange(width) * wide // width

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        signed = self._standardise(self._features[rows])[:, self._order] * self._signs
        return np.add.reduceat(signed, self._begins, axis=1)
