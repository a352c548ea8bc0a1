"""One file per question asked of scores, features and anatomy (never imports torch)."""
