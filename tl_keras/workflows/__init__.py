"""The modes: what is done, in which order, and what lies in the run folder afterwards.

Each takes a configuration or a run folder and returns a plain result; none of them prints. `run` is their command
line.
"""

from tl_keras.workflows.crossval import crossval
from tl_keras.workflows.ensemble import ensemble
from tl_keras.workflows.evaluate import evaluate
from tl_keras.workflows.export import export
from tl_keras.workflows.plan import make_plan
from tl_keras.workflows.predict import predict, write_predictions
from tl_keras.workflows.rank import rank
from tl_keras.workflows.search import search
from tl_keras.workflows.search_worker import work
from tl_keras.workflows.train import train

__all__ = [
    "crossval",
    "ensemble",
    "evaluate",
    "export",
    "make_plan",
    "predict",
    "rank",
    "search",
    "train",
    "work",
    "write_predictions",
]
