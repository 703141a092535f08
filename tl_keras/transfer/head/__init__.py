"""Heads on frozen features: solved or by steps, on all features or on some."""
