"""Shift in feature space."""
