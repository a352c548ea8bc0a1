"""The digital phantom: participants whose anatomy, tumor and scanner are known."""

from .cohort import phantom

__all__ = ["phantom"]
