"""A picture of a ranking: what each backbone costs and what it is expected to reach, and the front that none beats."""

from collections.abc import Sequence
from pathlib import Path

from tl_keras.run_folder import write_whole
from tl_keras.select.rank import Judged, front


def draw_front(path: Path, judged: Sequence[Judged], chosen: Judged) -> None:
    """Write a PNG of accuracy over milliseconds an image; bars are 95 % intervals, the front is a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    best = front(judged)
    axes.step([one.ms for one in best], [one.accuracy for one in best], where="post", color="tab:blue", alpha=0.5, label="Pareto front")
    for one in judged:
        colour = "tab:red" if one is chosen else "tab:blue" if one in best else "0.6"
        low, high = one.interval
        axes.errorbar(one.ms, one.accuracy, [[one.accuracy - low], [high - one.accuracy]], fmt="o", color=colour, elinewidth=0.7)
        axes.annotate(one.name, (one.ms, one.accuracy), xytext=(5, 5), textcoords="offset points", fontsize=8, color=colour)
    axes.set(xscale="log", xlabel="milliseconds an image, in batches on this machine", ylabel="accuracy on images left out")
    axes.set_title(f"chosen: {chosen.name}", loc="left")
    axes.grid(alpha=0.3, which="both")
    axes.margins(x=0.2)
    axes.legend(loc="lower right")
    write_whole(path, lambda temporary: figure.savefig(temporary, dpi=120))
