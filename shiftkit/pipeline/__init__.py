"""The main job: every stage that is missing, in order, each starting from what the one before left on disk."""
