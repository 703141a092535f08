"""How good a classifier is, how sure, and why."""
