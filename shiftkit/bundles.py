"""What others call the bundles, and what shiftkit calls them: one table, and the one way to read a name."""

import re
from collections.abc import Iterable, Sequence

from .errors import DataError
from .types import Bundle, Hemisphere
from .words import nearest, understood

_ALIASES = {
    # name here: other names, without hemisphere and punctuation
    "AF": "ARC ARCUATE ARCUATEFASCICULUS",
    "FAT": "FRONTALASLANT FRONTALASLANTTRACT",
    "IFOF": "IFO IOFF INFERIORFRONTOOCCIPITAL INFERIORFRONTOOCCIPITALFASCICULUS",
    "ILF": "INFERIORLONGITUDINAL INFERIORLONGITUDINALFASCICULUS",
    "PYT": "PT CST PYRAMIDALTRACT CORTICOSPINAL CORTICOSPINALTRACT",
    "OR": "OPTICRADIATION",
    "UF": "UNC UNCINATE UNCINATEFASCICULUS",
    "CG": "CGC CINGULUM CINGULUMCINGULATE",
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


def choose_bundles(
    there: Iterable[Bundle], names: Sequence[str] = (), hemispheres: Sequence[str] = (), *, what: str = "there is"
) -> tuple[Bundle, ...]:
    """Of the bundles that there are, those that options ask for; all without any.

    ``AF`` is that bundle on both sides, ``AF_left`` or ``AFleft`` that on one; sides may be words that tables may have,
    such as ``L``.

    Raises
    ------
    DataError
        If a name is none of them, with the nearest, or nothing is left; ``what`` says in it where they are.

    Examples
    --------
    >>> there = [Bundle.parse(label) for label in ("AFleft", "AFright", "FATleft", "CC")]
    >>> [str(one) for one in choose_bundles(there, ["AF_left", "CC"])], len(choose_bundles(there, ["AF"]))
    (['AFleft', 'CC'], 2)
    >>> choose_bundles(there, ["AFT"])
    Traceback (most recent call last):
    ...
    shiftkit.errors.DataError: `bundles` must name what there is: AF, CC, FAT; got AFT; did you mean AF or FAT?
    """
    known = sorted(set(there))
    chosen = {name: _meant(name, known) for name in names}
    own = sorted({one.name for one in known})
    if unknown := sorted(name for name, found in chosen.items() if not found):
        read = bundle_named(unknown[0])
        same = [one.label for one in known if read is not None and one.name == read.name]
        near = f"; did you mean {' or '.join(same)}?" if same else nearest(unknown[0], own)
        raise DataError(f"`bundles` must name what {what}: {', '.join(own)}; got {', '.join(unknown)}{near or '.'}")
    sides = sorted({str(one.hemisphere) for one in known})
    asked_sides = {understood("hemisphere", one) or one for one in hemispheres}
    if strange := sorted(asked_sides - set(sides)):
        near = nearest(strange[0], sides)
        raise DataError(
            f"`hemispheres` must name what {what}: {', '.join(sides)}; got {', '.join(strange)}{near or '.'}"
        )
    asked = {one for found in chosen.values() for one in found} if names else set(known)
    kept = tuple(one for one in known if one in asked and (not hemispheres or one.hemisphere in asked_sides))
    if not kept and known:
        raise DataError(
            f"`bundles` and `hemispheres` must leave something; none of {', '.join(names)} lies in "
            f"{', '.join(hemispheres)}. Leave out one of them."
        )
    return kept


def _meant(name: str, known: Sequence[Bundle]) -> list[Bundle]:
    if found := [one for one in known if one.name == name]:
        return found
    # A table may call a bundle what no file could: its own name goes before what can be read into it.
    joined = re.sub(r"[_\- .]", "", name).casefold()
    if found := [one for one in known if joined in (one.label.casefold(), one.name.casefold())]:
        return found
    read = bundle_named(name)
    same = [one for one in known if read is not None and one.name.casefold() == read.name.casefold()]
    return [one for one in same if read is not None and read.hemisphere in ("none", one.hemisphere)]
