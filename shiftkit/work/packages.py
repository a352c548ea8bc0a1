"""Packages that numbers depend on: a run tells their versions, and the workers of a cluster must have the same."""

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("torch", "monai", "nibabel", "numpy", "scipy", "pandas", "numba", "nilearn", "dipy")


def package_versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on; those not installed are left out."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
