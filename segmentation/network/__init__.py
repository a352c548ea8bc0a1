"""Networks, and their checkpoints on disk."""

from .networks import build_network

__all__ = ["build_network"]
