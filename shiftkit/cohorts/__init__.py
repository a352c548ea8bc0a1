"""A cohort on disk: layout, reading and writing, peaks, preparation of raw images."""
