"""From a run to production: artifacts that provably agree with the run's model."""
