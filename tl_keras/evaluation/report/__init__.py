"""report.html: what a run is worth, for someone who has not trained it.

`record` reads the run folder back, `facts` boils it down to the numbers that `verdict` judges by, and the other modules write a part of the
page each, or nothing where it does not apply; `page` puts them together.
"""
