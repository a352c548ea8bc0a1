"""Source models: losses, the loop, its states on disk, recipes and folds."""
