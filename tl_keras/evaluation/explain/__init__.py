"""Why a model answers as it does: which parts of an image its answer rests on, drawn on the image, and what can be said against that."""
