"""Hyperparameter search: the space, the oracles, the trials, and the processes that share them."""
