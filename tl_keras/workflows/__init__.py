"""The modes: their steps, in order, and the files that they leave in the run folder.

Each takes a configuration or a run folder and returns a plain result; none of them prints. `modes` says which is which, `run` is
their command line. Nothing is imported here: each mode needs only what it imports itself.
"""
