"""novelty.npz: what tells images of none of the classes, kept beside the model that it was fitted on."""

from functools import partial
from io import BytesIO
from pathlib import Path

import keras
import numpy as np

from tl_keras.evaluation.novelty import Novelty, from_arrays
from tl_keras.models.zip_members import open_arrays
from tl_keras.run_folder import NOVELTY, RunFolder, reading, write_atomically


def write_novelty(run: RunFolder, novelty: Novelty) -> None:
    """Write novelty.npz, atomically."""
    whole = BytesIO()
    np.savez(whole, **novelty.arrays())
    write_atomically(run / NOVELTY, partial(Path.write_bytes, data=whole.getbuffer()))


def read_novelty(run: RunFolder, model: keras.Model) -> Novelty | None:
    """What `write_novelty` wrote, for the model of the run; None where there is none, as in runs that have no novelty.

    Raises:
        RunFolderError: the file is damaged, or of another model.
    """
    path = run / NOVELTY
    if not path.exists():
        return None
    with reading(path, "what tells images of none of this model's classes", "Train again, or remove the file, to do without."):
        with open_arrays(path) as found:
            novelty = from_arrays(found)
        novelty.basis.tensors(model)
        return novelty
