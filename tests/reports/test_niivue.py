import base64
import gzip
import io
import tarfile
from importlib import resources

import pytest

from shiftkit.errors import DataError
from shiftkit.reports.niivue import VERSION, bundled, unpack


def tarball(name: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = 4
        archive.addfile(member, io.BytesIO(b"code"))
    return stream.getvalue()


def test_a_changed_tarball_is_refused() -> None:
    """A tarball with another digest than the pinned one is not unpacked."""
    with pytest.raises(DataError, match="must have the digest sha512-"):
        unpack(tarball("package/dist/niivue.umd.js"))


def test_the_pinned_tarball_gives_its_script() -> None:
    """With the right digest the script comes out, and a tarball without it says so."""
    import hashlib

    for name, good in (("package/dist/niivue.umd.js", True), ("other", False)):
        content = tarball(name)
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
        if good:
            assert gzip.decompress(unpack(content, integrity)) == b"code"
        else:
            with pytest.raises(DataError, match="must hold"):
                unpack(content, integrity)


def test_the_viewer_is_in_the_package() -> None:
    """A plain install has niivue's script of the pinned version, and its licence beside it."""
    found = bundled()
    assert found is not None and VERSION in found.source
    vendor = resources.files("shiftkit.reports") / "vendor"
    assert "Redistribution and use in source and binary forms" in (vendor / "LICENSE-niivue.txt").read_text()
