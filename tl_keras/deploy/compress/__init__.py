"""Smaller forms of a run side by side: how large, how fast and how good each is, as a table and as a picture."""
