"""Tumors implanted into healthy participants, drawn or real, with their truth beside the images."""

from .cohort import Implanted, implant

__all__ = ["Implanted", "implant"]
