"""Fixtures of the journeys: those of the segmentation room."""

from makers.segmentation import controls, make_model, one_thread, patients

__all__ = ["controls", "make_model", "one_thread", "patients"]
