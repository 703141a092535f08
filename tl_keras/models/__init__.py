"""From pixels to logits: pretrained backbones with their preprocessing inside, pooling and a head.

`backbones` is the table, `backbone_weights` finds and checks weights files, `backbone_loading` builds the graph, and
`classifier` puts a head on it. Nothing here reads images or trains; `transfer` does.
"""
