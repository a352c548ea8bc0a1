"""What others call the bundles, and what shiftkit calls them: one table, and the one way to read a name."""

import re

from .types import Bundle, Hemisphere

_ALIASES = {
    # name here: other names, without hemisphere and punctuation
    "AF": "ARCUATE ARCUATEFASCICULUS",
    "FAT": "FRONTALASLANT FRONTALASLANTTRACT",
    "IFOF": "IFO IOFF INFERIORFRONTOOCCIPITALFASCICULUS",
    "ILF": "INFERIORLONGITUDINALFASCICULUS",
    "PYT": "PT CST PYRAMIDALTRACT CORTICOSPINALTRACT",
    "OR": "OPTICRADIATION",
    "UF": "UNCINATE UNCINATEFASCICULUS",
    "CG": "CINGULUM",
    "CGH": "",
    "MLF": "MDLF MIDDLELONGITUDINALFASCICULUS",
}

BUNDLE_NAMES: dict[str, str] = {name: own for own, others in _ALIASES.items() for name in (own, *others.split())}
"""Names that differ between data sets, and those they share. Any other name is kept, without punctuation."""

_TRACTSEG = """AF± ATR± CA CC_1 CC_2 CC_3 CC_4 CC_5 CC_6 CC_7 CG± CST± MLF± FPT± FX± ICP± IFO± ILF± MCP OR± POPT± SCP±
SLF_I± SLF_II± SLF_III± STR± UF± CC T_PREF± T_PREM± T_PREC± T_POSTC± T_PAR± T_OCC±
ST_FO± ST_PREF± ST_PREM± ST_PREC± ST_POSTC± ST_PAR± ST_OCC±"""

TRACTSEG_ORDER: tuple[str, ...] = tuple(
    f"{name.removesuffix('±')}{side}"
    for name in _TRACTSEG.split()
    for side in (("_left", "_right") if name.endswith("±") else ("",))
)
"""Order of the channels in TractSeg's one-file output (doi 10.1016/j.neuroimage.2018.07.070)."""

_SIDES: dict[str, Hemisphere] = {
    "left": "left", "l": "left", "lh": "left", "right": "right", "r": "right", "rh": "right",
}  # fmt: skip
_SIDE = "left|right|lh|rh|l|r"
# A dot is read only between name and side: a name with other dots is a hidden file or of another tool.
_BEFORE = re.compile(rf"(?i:({_SIDE})[_\-. ]+|(left|right))(?=[A-Z0-9])")
_AFTER = re.compile(rf"(?i:[_\-. ]+({_SIDE})|(left|right))$")


def bundle_named(name: str) -> Bundle | None:
    """The bundle that a tool's or data set's own name stands for; None for what is no name.

    The side may stand before or after the name, as a word or a letter, or be glued to it as ``left`` or ``right``;
    underscores, hyphens and blanks are dropped, and names of ``BUNDLE_NAMES`` are replaced, whatever their case.

    Examples
    --------
    >>> names = ("CST_left", "lh.IFO", "AF_R", "left_AF", "IFOFleft", "SLF_III_right", "CC_1")
    >>> [str(bundle_named(name)) for name in names]
    ['PYTleft', 'IFOFleft', 'AFright', 'AFleft', 'IFOFleft', 'SLFIIIright', 'CC1']
    """
    hemisphere: Hemisphere = "none"
    if side := _AFTER.search(name):
        name = name[: side.start()]
    elif side := _BEFORE.match(name):
        name = name[side.end() :]
    if side:
        hemisphere = _SIDES[(side[1] or side[2]).lower()]
    joined = re.sub(r"[_\- ]", "", name)
    if not re.fullmatch(r"[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*", joined) or joined.lower() in _SIDES:
        return None
    return Bundle(name=BUNDLE_NAMES.get(joined.upper(), joined), hemisphere=hemisphere)
