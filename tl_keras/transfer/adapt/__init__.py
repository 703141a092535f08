"""Domain adaptation: from images of a source domain, with labels, to those of a target domain, without."""
