"""What others call the bundles, and what shiftkit calls them: one table."""

import re

from .types import Bundle

BUNDLE_NAMES: dict[str, str] = {
    # name in a data set, hemisphere taken off, case ignored: name here
    "AF": "AF",
    "ARCUATE": "AF",
    "FAT": "FAT",
    "IFO": "IFOF",
    "IOFF": "IFOF",
    "IFOF": "IFOF",
    "ILF": "ILF",
    "CST": "PYT",
    "PT": "PYT",
    "PYT": "PYT",
    "OR": "OR",
    "OPTICRADIATION": "OR",
    "UF": "UF",
    "CG": "CG",
    "CINGULUM": "CG",
    "CGH": "CGH",
    "MDLF": "MLF",
    "MLF": "MLF",
}
"""Names that differ between data sets, and those they share. Any other name is kept, without punctuation."""

TRACTSEG_ORDER: tuple[str, ...] = (
    "AF_left",
    "AF_right",
    "ATR_left",
    "ATR_right",
    "CA",
    "CC_1",
    "CC_2",
    "CC_3",
    "CC_4",
    "CC_5",
    "CC_6",
    "CC_7",
    "CG_left",
    "CG_right",
    "CST_left",
    "CST_right",
    "MLF_left",
    "MLF_right",
    "FPT_left",
    "FPT_right",
    "FX_left",
    "FX_right",
    "ICP_left",
    "ICP_right",
    "IFO_left",
    "IFO_right",
    "ILF_left",
    "ILF_right",
    "MCP",
    "OR_left",
    "OR_right",
    "POPT_left",
    "POPT_right",
    "SCP_left",
    "SCP_right",
    "SLF_I_left",
    "SLF_I_right",
    "SLF_II_left",
    "SLF_II_right",
    "SLF_III_left",
    "SLF_III_right",
    "STR_left",
    "STR_right",
    "UF_left",
    "UF_right",
    "CC",
    "T_PREF_left",
    "T_PREF_right",
    "T_PREM_left",
    "T_PREM_right",
    "T_PREC_left",
    "T_PREC_right",
    "T_POSTC_left",
    "T_POSTC_right",
    "T_PAR_left",
    "T_PAR_right",
    "T_OCC_left",
    "T_OCC_right",
    "ST_FO_left",
    "ST_FO_right",
    "ST_PREF_left",
    "ST_PREF_right",
    "ST_PREM_left",
    "ST_PREM_right",
    "ST_PREC_left",
    "ST_PREC_right",
    "ST_POSTC_left",
    "ST_POSTC_right",
    "ST_PAR_left",
    "ST_PAR_right",
    "ST_OCC_left",
    "ST_OCC_right",
)
"""Order of the channels in TractSeg's one-file output (doi 10.1016/j.neuroimage.2018.07.070)."""

_SIDES = {"left": "left", "l": "left", "lh": "left", "right": "right", "r": "right", "rh": "right"}


def bundle_from_name(name: str) -> Bundle | None:
    """The bundle that a data set's own name stands for; None if the name holds no letters.

    Examples
    --------
    >>> [bundle_from_name(name).label for name in ("CST_left", "IFO_R", "SLF_III_right", "CC_1", "left_AF")]
    ['PYTleft', 'IFOFright', 'SLFIIIright', 'CC1', 'AFleft']
    """
    words = [word for word in re.split(r"[^A-Za-z0-9]+", name) if word]
    hemisphere = "none"
    for place in (-1, 0):
        if len(words) > 1 and words[place].lower() in _SIDES:
            hemisphere = _SIDES[words.pop(place).lower()]
            break
    joined = "".join(words)
    if not re.search("[A-Za-z]", joined):
        return None
    known = BUNDLE_NAMES.get(joined.upper(), joined)
    return Bundle(name=known, hemisphere=hemisphere)  # type: ignore[arg-type]


_SYNONYMS = {"CST": "PYT", "IFO": "IFOF"}
"""TractSeg's names of bundles that are called otherwise here."""


def parse_bundle(name: str) -> Bundle | None:
    """Read a bundle's name as tools write it; None for what is not one.

    Examples
    --------
    >>> [str(parse_bundle(name)) for name in ("AF_left", "CST-right", "IFOFleft", "CC")]
    ['AFleft', 'PYTright', 'IFOFleft', 'CC']
    """
    label = re.sub(r"[_\- ]", "", name)
    label = re.sub(r"(?i)(left|right)$", lambda side: side[0].lower(), label)
    if not re.fullmatch(r"[A-Za-z0-9]+", label) or label in ("left", "right"):
        return None
    bundle = Bundle.parse(label)
    return Bundle(name=_SYNONYMS.get(bundle.name, bundle.name), hemisphere=bundle.hemisphere)
