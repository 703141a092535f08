"""Cross-validation: how folds are cut and heads solved on stored features."""
