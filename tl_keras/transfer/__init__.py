"""From a source task to a target task: features, heads, phases of training."""
