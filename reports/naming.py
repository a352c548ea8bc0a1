"""Names of pages, files and anchors, in one place."""

import re

from ..types import Bundle


def file_stem(key: str, width: str) -> str:
    """Name of a figure's file in ``figures/``."""
    return key if width == "page" else f"{key}-column"


def spoken(bundle: Bundle) -> str:
    """A bundle's name as one says it."""
    return bundle.name if bundle.hemisphere == "none" else f"{bundle.name} {bundle.hemisphere}"


def page_name(bundle: Bundle) -> str:
    """File name of a bundle's page."""
    return f"bundle-{slug(bundle.label)}.html"


def participant_page_name(participant: str) -> str:
    """File name of a participant's page."""
    return f"participant-{slug(participant)}.html"


def volumes_name(place: int) -> str:
    """Name of an image's volumes: its place, which tells nothing about the participant."""
    return f"image-{place + 1:03d}"


def slug(text: str) -> str:
    """Letters, digits and hyphens only, for anchors and file names; different texts stay different.

    Examples
    --------
    >>> slug("AFleft"), slug("sub-01")
    ('AFleft', 'sub-01')
    >>> slug("../x") == slug("..-x"), "/" in slug("../x")
    (False, False)
    """
    from hashlib import sha256

    clean = re.sub(r"[^A-Za-z0-9-]+", "-", text).strip("-")
    # The digest tells apart what differs only in characters that were dropped.
    return clean if clean == text else f"{clean[:40]}-{sha256(text.encode()).hexdigest()[:8]}".strip("-")
