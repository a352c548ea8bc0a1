"""Predicted masks against reference masks."""
