"""A cohort on disk: layout, reading and writing, peaks, preparation of raw images."""

from .folder import (
    image_path,
    load_cohort,
    mask_path,
    participants_frame,
    probability_path,
    read_description,
    read_participants,
    tumor_path,
    write_description,
    write_image_sidecar,
    write_participants,
)
from .layout import Filters, read_filters
from .peaks import load_peaks, write_peaks_sidecar

__all__ = [
    "Filters",
    "image_path",
    "load_cohort",
    "load_peaks",
    "mask_path",
    "participants_frame",
    "probability_path",
    "read_description",
    "read_filters",
    "read_participants",
    "tumor_path",
    "write_description",
    "write_image_sidecar",
    "write_participants",
    "write_peaks_sidecar",
]
