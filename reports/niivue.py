"""The viewer's code: niivue, which lies in ``vendor/`` beside its licence and comes with the package.

``python -m shiftkit.reports.niivue`` (``make viewer``) fetches it again with npm where it is not there, such as after a
change of version, and checks it against its digest. Reports never fetch anything; without niivue they show static
pictures.
"""

import base64
import gzip
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from ..errors import DataError
from ..files import atomic

VERSION = "0.69.0"
INTEGRITY = "sha512-YMjQvJgD1W2b7DuoxkwlC4VxbrgIePRJ5qyQzXKxi2v2MBVg285P/CIQyg46oDDGDIcaNlbd+MhtO/edMbXJkA=="
"""Digest of the tarball, as npm states it."""

_NAME = "niivue.umd.js.gz"
_MEMBER = "package/dist/niivue.umd.js"
_TIMEOUT_S = 180


@dataclass(frozen=True, kw_only=True)
class Niivue:
    """The viewer's script, gzipped."""

    packed: bytes

    @property
    def base64(self) -> str:
        """What a page embeds."""
        return base64.b64encode(self.packed).decode()

    @property
    def source(self) -> str:
        """The script's text."""
        return gzip.decompress(self.packed).decode()


def script_hash(text: str) -> str:
    """The source expression of a content security policy that lets this inline script run, and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def bundled() -> Niivue | None:
    """The script that came with the package; None where it was built without."""
    path = resources.files(__name__.rpartition(".")[0]) / "vendor" / _NAME
    return Niivue(packed=path.read_bytes()) if path.is_file() else None


def unpack(tarball: bytes, integrity: str = INTEGRITY) -> bytes:
    """Take the script out of npm's tarball, gzipped the same way each time; `DataError` if it is not the pinned one."""
    kind, _, wanted = integrity.partition("-")
    found = base64.b64encode(hashlib.new(kind, tarball).digest()).decode()
    if found != wanted:
        raise DataError(
            f"niivue {VERSION} must have the digest {integrity}; what was fetched has {kind}-{found}. It was changed "
            "or damaged on its way: do not use it, and look at the registry npm is set up for."
        )
    with tarfile.open(fileobj=io.BytesIO(tarball)) as archive:
        member = archive.extractfile(_MEMBER) if _MEMBER in archive.getnames() else None
        if member is None:
            raise DataError(f"niivue {VERSION} must hold {_MEMBER}; its tarball does not.")
        # Without a time stamp the same script gives the same bytes.
        return gzip.compress(member.read(), mtime=0)


def fetch(folder: Path) -> Path:
    """Fetch the pinned tarball with ``npm pack`` and keep its script; what is there already is kept.

    `DataError` if npm is missing, the registry cannot be reached, or the digest is another.
    """
    path = folder / _NAME
    if path.is_file():
        return path
    packed = unpack(_tarball())
    with atomic(path) as part:
        part.write_bytes(packed)
    return path


def _tarball() -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        raise DataError("Fetching the 3D viewer needs npm; it is not installed. Install it, or go on without.")
    with tempfile.TemporaryDirectory() as folder:
        # Only its file is wanted: none of the package's scripts may run.
        command = [npm, "pack", f"@niivue/niivue@{VERSION}", "--silent", "--fetch-retries=1", "--ignore-scripts"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=_TIMEOUT_S)
        except (subprocess.SubprocessError, OSError) as error:
            raise DataError(
                f"npm must be able to fetch niivue {VERSION}; it could not ({type(error).__name__}). Look at its "
                "registry with npm ping, or go on without."
            ) from error
        return next(Path(folder).glob("*.tgz")).read_bytes()


def main(arguments: list[str]) -> int:
    """Fetch into the package's folder; with ``--optional`` a failure is told and forgiven."""
    try:
        path = fetch(Path(__file__).parent / "vendor")
    except DataError as error:
        optional = "--optional" in arguments
        print(f"{error} {'Reports will show static pictures instead of the 3D viewer.' if optional else ''}")
        return 0 if optional else 1
    print(f"niivue {VERSION}: {path.name}, {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
