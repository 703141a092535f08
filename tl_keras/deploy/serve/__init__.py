"""Answering over HTTP: what is asked, within limits, through one queue, by what was exported of a run or by its model."""
