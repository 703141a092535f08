"""Computing the frozen features of one part of the images, so that several processes or machines fill the store together.

Which part an image is in follows from its content, so that equal files are in one and nobody has to hand out work. Each process writes
whole shards into the same folder and reads none of the others'; a part that was lost is computed by whoever needs it next, as by the
training run at the end, which finds everything there.
"""

from typing import Any

from tl_keras.config import AUTO, Config
from tl_keras.errors import ConfigError
from tl_keras.progress import Progress
from tl_keras.runtime import restoring_process, set_up
from tl_keras.transfer.cluster import uses_cluster
from tl_keras.transfer.engine import begun
from tl_keras.transfer.frozen import num_views, open_frozen, views_of
from tl_keras.transfer.prepare import compute_part, open_network
from tl_keras.transfer.store import open_store
from tl_keras.workflows.setting_up import open_images


@restoring_process()
def fill(config: Config, part: tuple[int, int], progress: Progress) -> dict[str, Any]:
    """Compute what the store lacks of one part of the images, as a training run of this configuration would.

    Engines are not compared: all parts must come from the same one, the first that there is, or that `runtime.engine` names.

    Args:
        config: of mode 'extract' or 'finetune'.
        part: k and n: part k of n, from 0 on.

    Returns:
        `images`, how many there are in all parts; `part`, how many are in this one; `computed`, how often one of them has gone through
        the network here; `missing`, how often one of any part still has to, None where the store is shared through object storage; and
        `folder`, where the store is.

    Raises:
        UserError: as training does before it begins; a backbone that a ranking would choose among them.
    """
    if config.model.backbone == AUTO:
        raise ConfigError("--shard: got model.backbone=auto, which each part would choose on its own. Name one; rank says which suits.")
    if uses_cluster(config):
        raise ConfigError(f"--shard: got runtime.cluster={config.runtime.cluster}, which computes all parts. Remove one of them.")
    set_up(config.runtime)
    opened = open_network(config, open_images(config.data, progress), progress)
    store = open_store(opened.config.features.max_gb)
    frozen = begun(opened.config, open_frozen(opened.config, opened.classifier, opened.pixels, store))
    everything = views_of(opened.split, num_views(opened.config))
    frozen, mine = compute_part(opened.config, opened.classifier, frozen, everything, part, progress)
    if not store.shared:  # else all that the others have sent would be fetched to count it
        store.refresh()
    return {
        "images": len(everything[0]),
        "part": len(mine[0]),
        "computed": store.num_computed,
        "missing": None if store.shared else frozen.count_missing(everything),
        "folder": str(store.root),
    }
