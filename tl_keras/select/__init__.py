"""Which backbone, which hyperparameters, which combination: choices that need no final training."""
