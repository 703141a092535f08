"""The phase that adapts a head: both domains' features are brought in, heads are solved, and one of them is kept.

No label of the target is read here: what chooses is in `choice`. The labels, where there are any, serve the table at the end of the run.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_keras.adaptations import AUTO, SOURCE_ONLY
from tl_keras.models.classifier import unfreeze
from tl_keras.models.saved import read_weights, write_weights
from tl_keras.run_folder import CHECKPOINTS, HISTORY, read_json, reading, write_csv, write_json
from tl_keras.transfer.adapt.affine import MappedFeatures, sample
from tl_keras.transfer.adapt.choice import CHOOSABLE, Candidate, choose, judge_candidate
from tl_keras.transfer.adapt.measures import classwise_mmd, coral_distance, proxy_a_distance, squared_mmd
from tl_keras.transfer.adapt.problem import AdaptedHead, DomainProblem, solve
from tl_keras.transfer.adapt.target import Target
from tl_keras.transfer.checkpoints import AGAIN, history_header
from tl_keras.transfer.head.probe import Standardiser
from tl_keras.transfer.head.train import HEAD_WEIGHTS
from tl_keras.transfer.task import Task
