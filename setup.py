"""What pyproject.toml cannot say: a checkout that lost its symbolic links must not become a package without rooms."""

from pathlib import Path

from setuptools import setup

for room in ("analyses", "reports", "segmentation"):
    if not (Path(__file__).parent / "shiftkit" / room / "__init__.py").is_file():
        raise SystemExit(
            f"shiftkit/{room} must lead to the folder {room}; in this checkout it does not. Where links are not kept "
            "(Windows: developer mode, and `git config core.symlinks true`), clone anew with them."
        )

setup()
