"""shiftkit: split the loss of a bundle-segmentation network in patients into its causes."""

from .version import __version__

__all__ = ["__version__"]
