"""Score tables as people have them: their columns, words and numbers in the terms of `shiftkit.catalogue.SCORES`."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from ...bundles import BUNDLE_NAMES, TRACTSEG_ORDER, bundle_named
from ...catalogue import SCORES
from ...errors import ConfigError, DataError, raise_all
from ...status import Status
from ...types import Bundle
from ...words import MISSING, named, nearest, understood
from ..distance.tumor import side_of
from .metrics import METRICS

WHY: Mapping[str, str] = {
    "participant_id": "whose row it is: participants, not rows, are counted and resampled",
    "group": "control, glioma or target_control: the drop is what patients lack compared with controls",
    "bundle": "each bundle has its own level; or give a column a bundle, such as AF_left, AF_right",
    "value": "the score, such as Dice",
    "tumor_distance_mm": (
        "mm from the tumor to the reference bundle, empty for controls: what grows towards the tumor is the tumor's "
        "part, and what is left far from it the systematic part; shiftkit score measures it from masks. In a table "
        "with a column a bundle it is a column a bundle too, such as distance_AF_left"
    ),
}
"""The columns that nothing can stand in for, and what each is needed for."""

_ALIASES: Mapping[str, str] = {
    # column: other names, without case, punctuation and unit; "tumour" and "lesion" count as "tumor"
    "participant_id": "participant participantid subject subjectid subj sub subid id patient patientid case caseid pid",
    "group": "groups grp diagnosis dx population condition",
    "bundle": "bundles bundlename tract tractname fascicle fasciculus",
    "hemisphere": "hemi laterality",
    "metric": "metrics metricname measure",
    "value": "values score scores",
    "tumor_distance_mm": "tumordistance distance dist tumordist distancetotumor distancetumor distancefromtumor",
    "tumor_side": "sidetumor tumorhemisphere tumorlaterality",
    "tumor_volume_ml": "tumorvolume",
    "age": "",
    "sex": "gender",
    "site": "center centre hospital",
    "scanner": "scannermodel",
    "session": "ses visit timepoint",
    "model": "network",
    "modality": "inputmodality",
    "cohort": "dataset",
    "seen": "seenbymodel",
}
_UNITS = {"mm": 1.0, "cm": 10.0, "ml": 1.0, "cc": 1.0, "cm3": 1.0, "%": 0.01, "percent": 0.01, "years": 1.0}
_UNITS_OF = {"tumor_distance_mm": ("mm", "cm", ""), "tumor_volume_ml": ("ml", "cc", "cm3"), "age": ("years", "")}
_NO_VALUE = {*MISSING, "null", "missing", ".", "#n/a", "<na>", "nat"}
_KNOWN_BUNDLES = {*BUNDLE_NAMES, *(re.sub("_(left|right)$", "", one).replace("_", "") for one in TRACTSEG_ORDER)}
_ALONE = {"cohort": "table", "model": "network", "modality": "n/a"}
"""What stands in a table of one cohort, model and modality that does not name them."""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A table in the columns of `shiftkit.catalogue.SCORES`, not yet held to its rules, and what was understood."""

    frame: pd.DataFrame
    told: tuple[str, ...]


@dataclass
class _Notes:
    """What is told of a table, by kind, in the order in which it was found."""

    lines: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def add(self, kind: str, text: str) -> None:
        if text not in self.lines.setdefault(kind, []):
            self.lines[kind].append(text)

    def told(self) -> tuple[str, ...]:
        return tuple(f"{kind}: {', '.join(texts)}." for kind, texts in self.lines.items())


def understand(
    frame: pd.DataFrame, where: str = "The score table", form: str = "", columns: Mapping[str, str] | None = None
) -> Sheet:
    """Find out what the columns, words and numbers of a score table mean.

    A table is long, with a column ``bundle``, or wide, with a column a bundle and one for its distance to the tumor.
    Columns are known by their own name or a usual one, others by ``columns``; a side may stand in the bundle's name;
    percent, decimal commas and centimeters are recognized; empty cells and rows without a score are missing values.
    What can be known is filled in: metric and its unit, side of the tumor, status. Nothing is guessed in silence.

    Parameters
    ----------
    frame : DataFrame
        Cells as text, or numbers.
    where, form : str
        What messages call the table, and in which form it was, as from `shiftkit.tables.read_sheet`.
    columns : mapping of str to str, optional
        What columns are called in this table, by the name here: ``{"participant": "ID", "value": "Dice"}``.

    Raises
    ------
    ConfigError
        If ``columns`` names what the table does not have, or shiftkit does not know.
    DataError
        If a column is missing that nothing can stand in for, with what it is needed for; or one has two meanings.

    Examples
    --------
    >>> rows = {"ID": ["P1", "C1"], "Group": ["Patient", "HC"], "AF_left": [70.1, 81.2], "distance_AF_left": [12, None]}
    >>> sheet = understand(pd.DataFrame(rows), "my.csv")
    >>> sheet.frame[["participant_id", "bundle", "hemisphere", "metric", "value", "tumor_distance_mm"]].values.tolist()
    [['P1', 'AF', 'left', 'dice', 0.701, 12.0], ['C1', 'AF', 'left', 'dice', 0.812, nan]]
    >>> sheet.told[1]
    'Columns read: participant_id from ID, group from Group.'
    """
    notes = _Notes()
    table = frame.set_axis([str(name) for name in frame], axis=1).reset_index(drop=True)
    if "" in table:
        table = table.drop(columns="")
        notes.add("Left aside", "a column without a name")
    table_names = _columns(table)
    names, scored, scales = _named_columns(table, dict(columns or {}), notes)
    for ours in [one for one in names if one in table and names[one] != one]:
        table = table.drop(columns=ours)  # such as a column value, where `columns` says that another one is meant
        notes.add("Left aside", f"{ours}, as {names[ours]} stands for it")
    table = table.rename(columns={theirs: ours for ours, theirs in names.items()})
    wide = "bundle" not in names and "value" not in names and not scored
    found = _wide(table, notes) if wide else {}
    there = {*names, *(["value"] if scored else []), *_made_of(found)}
    if "group" in table and _all_healthy(table["group"]):
        there |= {"tumor_distance_mm"}  # which controls do not have
    elif len(found) > 1 and "tumor_distance_mm" not in _made_of(found):
        there -= {"tumor_distance_mm"}  # one number a participant cannot be the distance to each of several bundles
    _require(where, there, table_names)
    long = _by_metric(table, scored) if scored else table
    table = _stacked(table, found) if wide else _with_sides(long, notes)
    table, shares = _with_numbers(table, scales, notes)
    named = any(one.named and one.metric for several in found.values() for one in several)
    assumed = not named if wide else "metric" not in table
    table = _filled(table, notes)
    if wide and assumed:
        notes.add("Taken for granted", "metric dice")
    table = _as_shares(table, shares, assumed, notes)
    if "tumor_distance_mm" not in table:
        table["tumor_distance_mm"] = float("nan")
    if "session" in table:
        table["session"] = table["session"].astype(str).map(_session)
    for text in dict.fromkeys(table["group"].astype(str)):
        word = understood("group", text)
        if word not in (None, text, "n/a"):
            notes.add("Groups read", f"{word} from {text.strip()!r}")
    unknown = [name for name in table if name not in SCORES.columns]
    if unknown:
        notes.add("Columns kept as they are", ", ".join(map(str, unknown)))
    told = notes.told()
    if not told and form in ("", "separated by tabs"):
        return Sheet(frame=table, told=())
    return Sheet(frame=table, told=(_summary(table, where, form, wide), *told))


def _summary(table: pd.DataFrame, where: str, form: str, wide: bool) -> str:
    """How much was read, and of whom."""
    people = (
        table.drop_duplicates("participant_id")["group"]
        .astype(str)
        .map(lambda one: understood("group", str(one)) or one)
    )
    groups = ", ".join(f"{n} {group}" for group, n in people.value_counts().items())
    n_bundles = len(table[["bundle", "hemisphere"]].drop_duplicates())
    shape = ["a column a bundle"] if wide else []
    shaped = f" ({', '.join([*([form] if form else []), *shape])})" if form or wide else ""
    return (
        f"{where}{shaped} gives {len(table)} scores ({', '.join(dict.fromkeys(table['metric'].astype(str)))}) of "
        f"{groups} in {n_bundles} bundle{'s' * (n_bundles != 1)}."
    )


def _columns(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table]


def _plain(name: str) -> tuple[str, str]:
    """A column's name without case, punctuation and unit; and the unit."""
    parts = re.findall(r"[a-z0-9]+|%", name.casefold().replace("tumour", "tumor").replace("lesion", "tumor"))
    # CC is the corpus callosum too.
    unit = (
        parts.pop()
        if len(parts) > 1 and parts[-1] in _UNITS and ("volume" in name.casefold() or parts[-1] != "cc")
        else ""
    )
    return "".join(parts), unit


def _named_columns(
    table: pd.DataFrame, given: dict[str, str], notes: _Notes
) -> tuple[dict[str, str], dict[str, str], dict[str, float]]:
    """What columns are called here, by the name in `SCORES`; columns of one metric each; and factors of units."""
    names = _chosen(table, given)
    free = [name for name in _columns(table) if name not in names.values()]
    # What has the name itself is meant, whatever else may be.
    names |= {name: name for name in SCORES.columns if name in free and name not in names}
    if "side" in names and "hemisphere" not in names and _is_hemisphere(table[names["side"]]):
        names["hemisphere"] = names.pop("side")
    elif "hemisphere" not in names:
        sides = [
            one for one in free if one not in names.values() and _plain(one)[0] == "side" and _is_hemisphere(table[one])
        ]
        names |= {"hemisphere": sides[0]} if sides else {}
    known = {alias: ours for ours, others in _ALIASES.items() for alias in (_plain(ours)[0], *others.split())}
    problems: list[str] = []
    may: dict[str, list[str]] = {}
    for theirs in (one for one in _columns(table) if one not in names.values()):
        plain, unit = _plain(theirs)
        ours = known.get(plain)
        if ours is not None and ours not in names and unit in _UNITS_OF.get(ours, ("", "%", "percent")):
            may.setdefault(ours, []).append(theirs)
    for ours, several in may.items():
        if len(several) > 1:
            short = ours.removesuffix("_id").removesuffix("_mm")
            problems.append(
                f"columns {' and '.join(map(repr, several))} may both be {ours}; say which one is with `columns`, as "
                f"{short}={several[0]}"
            )
        names[ours] = several[0]
    raise_all(problems, "The score table")
    if "group" not in names and "cohort" in names:
        words = {understood("group", str(text)) for text in table[names["cohort"]].unique()}
        if None not in words:
            names["group"] = names.pop("cohort")
    free = [one for one in _columns(table) if one not in names.values()]
    scored = {metric: one for one in free if (metric := understood("metric", _plain(one)[0])) in METRICS}
    if "value" in names:
        scored = {}
        called = understood("metric", _plain(names["value"])[0])
        if called in METRICS and "metric" not in names:  # --columns value=Dice says the metric too
            table["metric"], names["metric"] = called, "metric"
            notes.add("Taken for granted", f"metric {called} from the column's name")
    elif len(scored) == 1:
        ((metric, theirs),) = scored.items()
        table["metric"], names["metric"], names["value"], scored = metric, "metric", theirs, {}
        notes.add("Taken for granted", f"metric {metric} from the column's name")
    scales = {
        ours: _UNITS[_plain(theirs)[1]] for ours, theirs in names.items() if _plain(theirs)[1] in ("cm", "%", "percent")
    }
    for ours, theirs in names.items():
        if ours != theirs:
            notes.add("Columns read", f"{ours} from {theirs}")
    for metric, theirs in scored.items():
        notes.add("Columns read", f"{metric} from {theirs}")
    if scales.get("tumor_distance_mm") == 10:
        notes.add("Numbers read", "tumor_distance_mm from cm")
    return names, scored, scales


def _chosen(table: pd.DataFrame, given: Mapping[str, str]) -> dict[str, str]:
    """The columns that were named, by the name in `SCORES`."""
    aliases = {alias: ours for ours, others in _ALIASES.items() for alias in (ours, _plain(ours)[0], *others.split())}
    aliases |= {name: name for name in SCORES.columns}
    there = {name.casefold(): name for name in _columns(table)}
    names: dict[str, str] = {}
    problems: list[str] = []
    for key, theirs in given.items():
        ours = aliases.get(key) or aliases.get(_plain(key)[0])
        if ours is None:
            problems.append(
                f"{key!r} is no column of a score table{nearest(key, (*WHY, *_ALIASES))} ({', '.join(_ALIASES)})"
            )
        elif theirs not in table and theirs.casefold() not in there:
            problems.append(
                f"{theirs!r} is no column here{nearest(theirs, there.values())} ({', '.join(there.values())})"
            )
        else:
            names[ours] = theirs if theirs in table else there[theirs.casefold()]
    if problems:
        raise ConfigError(
            f"`columns` says what columns are called, as participant=ID,value=Dice; {'; '.join(problems)}."
        )
    return names


def _is_hemisphere(column: pd.Series) -> bool:
    words = {understood("hemisphere", str(text)) for text in column.fillna("").unique()}
    return None not in words and bool(words & {"left", "right"})


def _require(where: str, there: set[str], columns: Sequence[str]) -> None:
    missing = [name for name in WHY if name not in there]
    if missing:
        raise DataError(
            f"{where} cannot be used: {'; '.join(f'column {one!r} is missing ({WHY[one]})' for one in missing)}. Its "
            f"columns are {named(columns, 12)}. Where they have other names, say so with `columns`, as "
            "participant=ID,value=Dice; shiftkit template writes a table to fill in."
        )


def template(bundles: Sequence[str] = (), *, wide: bool = False) -> pd.DataFrame:
    """An example of a score table, two patients and two controls, to be filled in.

    Parameters
    ----------
    bundles : sequence of str
        Names, with a side or without; without one there is a row for each side.
    wide : bool
        A column a bundle, and one for its distance to the tumor, in place of a row a bundle.

    Examples
    --------
    >>> print(template(["CC"]).to_csv(index=False))
    participant_id,group,tumor_side,bundle,hemisphere,metric,value,tumor_distance_mm
    P01,glioma,left,CC,none,dice,0.66,6.0
    P02,glioma,right,CC,none,dice,0.69,12.0
    C01,control,,CC,none,dice,0.78,
    C02,control,,CC,none,dice,0.79,
    <BLANKLINE>
    """
    named = [bundle_named(name) for name in bundles or ("AF_left", "AF_right", "PYT_left", "PYT_right")]
    if None in named:
        raise ConfigError(
            f"`bundles` are names of letters and digits, with a side or without; got {' '.join(bundles)}."
        )
    people = (("P01", "glioma", "left"), ("P02", "glioma", "right"), ("C01", "control", ""), ("C02", "control", ""))
    rows: list[dict[str, object]] = []
    for number, (person, group, tumor) in enumerate(people):
        for bundle in (one for one in named if one is not None):
            near = 6.0 * (1 + number) + 36.0 * (bundle.hemisphere not in (tumor, "none")) if tumor else math.inf
            drop = 0.05 + 0.1 * math.exp(-near / 10) if tumor else 0.0
            rows.append(
                {
                    "participant_id": person,
                    "group": group,
                    "tumor_side": tumor,
                    "bundle": bundle.name,
                    "hemisphere": bundle.hemisphere,
                    "metric": "dice",
                    "value": round(0.76 + 0.01 * number - drop, 2),
                    "tumor_distance_mm": near if tumor else math.nan,
                }
            )
    long = pd.DataFrame(rows)
    if not wide:
        return long
    sided = long["hemisphere"].map(lambda side: "" if side == "none" else f"_{side}")
    keys = ["participant_id", "group", "tumor_side"]
    flat = long.assign(bundle=long["bundle"] + sided).pivot(index=keys, columns="bundle")[
        ["value", "tumor_distance_mm"]
    ]
    order = [(kind, name) for name in dict.fromkeys(flat["value"]) for kind in ("value", "tumor_distance_mm")]
    names = [name if kind == "value" else f"distance_{name}" for kind, name in order]
    return flat[order].set_axis(names, axis=1).loc[[one[:3] for one in people]].reset_index()


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A column of a wide table: scores of a bundle, or (without a metric) its distance to the tumor, in mm times scale.

    ``named`` tells whether the name says which of the two, and which metric.
    """

    name: str
    bundle: Bundle
    metric: str | None
    named: bool = False
    scale: float = 1.0


def _wide(table: pd.DataFrame, notes: _Notes) -> dict[Bundle, list[_Column]]:
    """The columns of each bundle in a table with a column a bundle, in the order in which they stand."""
    parsed = [
        one
        for one in map(_of_bundle, (name for name in _columns(table) if name not in SCORES.columns))
        if one is not None
    ]
    far = {one[0].bundle for one in parsed if one[0].metric is None}
    found: dict[Bundle, list[_Column]] = {}
    for one, certain in parsed:
        # education_years has the form of a bundle's name too: a side, a known name, a metric or a distance tells.
        if (certain or one.bundle in far) and _all_numbers(table[one.name]):
            found.setdefault(one.bundle, []).append(one)
    without = [bundle for bundle in list(found) if all(one.metric is None for one in found[bundle])]
    for bundle in without:
        notes.add("Left aside", f"{found.pop(bundle)[0].name}, a distance without scores")
    bare = [bundle.label for bundle, several in found.items() if all(one.metric is not None for one in several)]
    if bare and len(bare) < len(found):
        notes.add("Without distances to the tumor", " ".join(bare))
    return found


def _of_bundle(name: str) -> tuple[_Column, bool] | None:
    """What the name of a column says of a bundle, and whether that is certain; None where it is no bundle's name."""
    parts = [part for part in re.split(r"[_\-.\s()\[\]]+", name) if part]
    unit = parts.pop().casefold() if len(parts) > 1 and parts[-1].casefold() in ("mm", "cm", "%", "percent") else ""
    scale = _UNITS.get(unit, 1.0)
    metric: str | None = "dice"
    told = False
    for words in (3, 2, 1):
        for ends in (slice(0, words), slice(len(parts) - words, len(parts))):
            if len(parts) <= words or told:
                continue
            plain = _plain("".join(parts[ends]))[0]
            is_far = plain in _ALIASES["tumor_distance_mm"].split()
            called = understood("metric", plain)
            if is_far or called in METRICS:
                metric, told = None if is_far else called, True
                del parts[ends]
    bundle = bundle_named("_".join(parts))
    if bundle is None:
        return None
    certain = told or bundle.hemisphere != "none" or bundle.name.upper() in _KNOWN_BUNDLES
    return _Column(name=name, bundle=bundle, metric=metric, named=told, scale=scale), certain


def _all_numbers(column: pd.Series) -> bool:
    texts = column.fillna("").astype(str).str.strip()
    texts = texts[~texts.str.casefold().isin(_NO_VALUE)].str.removesuffix("%").str.replace(",", ".")
    return bool(pd.to_numeric(texts, errors="coerce").notna().all())


def _all_healthy(groups: pd.Series) -> bool:
    return {understood("group", str(text)) for text in groups.unique()} <= {"control", "target_control"}


def _made_of(found: Mapping[Bundle, Sequence[_Column]]) -> set[str]:
    """Which columns of a long table a wide one stands for."""
    kinds = {one.metric is None for several in found.values() for one in several}
    return {*(["bundle", "value"] if found else []), *(["tumor_distance_mm"] if True in kinds else [])}


def _stacked(table: pd.DataFrame, found: Mapping[Bundle, Sequence[_Column]]) -> pd.DataFrame:
    """The long table of a wide one."""
    used = [one.name for several in found.values() for one in several]
    people = table.drop(columns=[*used, *(name for name in ("tumor_distance_mm",) if name in table and len(found) > 1)])
    parts: list[pd.DataFrame] = []
    for bundle, several in found.items():
        far = next((one for one in several if one.metric is None), None)
        distance = table["tumor_distance_mm"] if "tumor_distance_mm" in people else ""
        if far is not None:
            distance = (
                table[far.name] if far.scale == 1 else pd.to_numeric(table[far.name], errors="coerce") * far.scale
            )
        for one in (one for one in several if one.metric is not None):
            of_bundle = {"bundle": bundle.name, "hemisphere": bundle.hemisphere, "metric": one.metric}
            parts.append(people.assign(**of_bundle, value=table[one.name], tumor_distance_mm=distance))
    return pd.concat(parts, ignore_index=True)


def _by_metric(table: pd.DataFrame, scored: Mapping[str, str]) -> pd.DataFrame:
    """A row a metric of a table with a column a metric."""
    rest = table.drop(columns=list(scored.values()))
    return pd.concat(
        [rest.assign(metric=metric, value=table[theirs]) for metric, theirs in scored.items()], ignore_index=True
    )


def _with_sides(table: pd.DataFrame, notes: _Notes) -> pd.DataFrame:
    """Sides taken out of the bundles' names, where the table has no hemispheres of its own, or the same."""
    texts = table["bundle"].astype(str).str.strip()
    named = {text: bundle_named(text) for text in texts.unique()}
    own = table["hemisphere"].astype(str) if "hemisphere" in table else None
    sided = {text: one for text, one in named.items() if one is not None and one.hemisphere != "none"}
    if own is not None and not sided:
        return table
    strange = [text for text, one in named.items() if one is None]
    raise_all(
        [f"bundle {text!r} is no name: letters and digits, and a side" for text in strange[:5]], "The score table"
    )
    meant = texts.map(lambda text: named[text].hemisphere)  # pyright: ignore[reportOptionalMemberAccess]
    if own is None:
        notes.add("Taken for granted", "hemisphere from the bundle's name" if sided else "hemisphere none")
        hemisphere = meant
    else:
        words = own.map(lambda text: understood("hemisphere", str(text)) or text)
        wrong = (meant != "none") & ~words.isin(["n/a", "none"]) & (words != meant)
        if wrong.any():
            first = int(wrong.to_numpy().argmax())
            raise DataError(
                f"A bundle's name and its hemisphere must agree; "
                f"{texts.iloc[first]!r} stands beside {own.iloc[first]!r} "
                f"in line {first + 2}. Correct one of them."
            )
        hemisphere = meant.where(meant != "none", words)
    for text, one in named.items():
        bare = re.sub(r"[_\-. ]", "", text).casefold()
        if one is not None and one.name.casefold() not in bare:
            notes.add("Bundles read", f"{one.name} from {text}")
    return table.assign(bundle=texts.map(lambda text: named[text].name), hemisphere=hemisphere)  # pyright: ignore


def _with_numbers(table: pd.DataFrame, scales: Mapping[str, float], notes: _Notes) -> tuple[pd.DataFrame, bool]:
    """Numbers of text, in the units of `SCORES`; and whether the scores say that they are percent.

    What is no number stays, for whoever holds the table to its rules to name it.
    """
    columns = [name for name, column in SCORES.columns.items() if column.kind == "number" and name in table]
    text = {name: table[name] for name in columns if not pd.api.types.is_float_dtype(table[name].dtype)}
    cells = {name: one.astype(object).where(one.notna(), "").astype(str).str.strip() for name, one in text.items()}
    cells = {name: one.where(~one.str.casefold().isin(_NO_VALUE), "") for name, one in cells.items()}
    commas = (
        pd.concat([one[one.str.contains(",", regex=False)] for one in cells.values()])
        if cells
        else pd.Series(dtype=str)
    )
    points = any(one.str.contains(".", regex=False).any() for one in cells.values())
    if len(commas) and not points and commas.str.fullmatch(r"[+-]?\d*,\d+\s*%?").all():
        notes.add("Numbers read", "decimal commas")
        cells = {name: one.str.replace(",", ".", regex=False) for name, one in cells.items()}
    percent = scales.get("value") == 0.01
    if "unit" in table and set(table["unit"].astype(str).str.strip().str.casefold()) <= {"%", "percent"}:
        table, percent = table.drop(columns="unit"), True
    changed: dict[str, pd.Series] = {}
    for name, one in cells.items():
        if name == "value" and (signs := one.str.endswith("%")).any():
            if not (signs | (one == "")).all():
                raise DataError("Scores are percent or shares throughout; some end in % and some do not. Write one.")
            one, percent = one.str.removesuffix("%").str.strip(), True
        numbers = pd.to_numeric(one.where(one != ""), errors="coerce")
        fine = bool((numbers.notna() | (one == "")).all())
        changed[name] = numbers.astype(float) * (10.0 if scales.get(name) == 10 else 1.0) if fine else one
    return table.assign(**changed), percent


def _filled(table: pd.DataFrame, notes: _Notes) -> pd.DataFrame:
    """What a table can do without, from what it has."""
    filled = table.copy()
    value = filled["value"]
    empty = value.isna() if pd.api.types.is_float_dtype(value.dtype) else value == ""
    if "metric" not in filled:
        filled["metric"] = "dice"
        notes.add("Taken for granted", "metric dice")
    else:
        texts = filled["metric"].fillna("").astype(str).str.strip()
        meant = {text: word if (word := understood("metric", text)) in METRICS else text for text in texts.unique()}
        for text, word in meant.items():
            if text != word:
                notes.add("Metrics read", f"{word} from {text}")
        filled["metric"] = texts.map(meant)
    by_value = empty.map({True: str(Status.UNAVAILABLE), False: str(Status.OK)})
    if "status" in filled:
        silent = filled["status"].fillna("").astype(str).str.strip().str.casefold().isin(_NO_VALUE)
        filled["status"] = by_value.where(silent, filled["status"])
    else:
        filled["status"] = by_value
        counted = f"{int(empty.sum())} without a value are {Status.UNAVAILABLE}, the others {Status.OK}"
        notes.add("Taken for granted", f"status ({counted})" if empty.any() else f"status {Status.OK}")
    if "unit" not in filled:
        filled["unit"] = filled["metric"].map(lambda name: METRICS[str(name)].unit if name in METRICS else "n/a")
    if "side" not in filled:
        sides, hemispheres = (
            filled[name].fillna("").astype(str).map(lambda text, of=name: understood(of, str(text)) or "n/a")
            if name in filled
            else pd.Series("n/a", index=filled.index)
            for name in ("tumor_side", "hemisphere")
        )
        filled["side"] = [side_of(one, tumor) for one, tumor in zip(hemispheres, sides, strict=True)]
        if "tumor_side" in filled:
            notes.add("Taken for granted", "side from tumor_side and hemisphere")
    nowhere = {name: word for name, word in _ALONE.items() if name not in filled}
    if nowhere:
        notes.add("Taken for granted", f"one {', '.join(nowhere)}")
    return filled.assign(**nowhere)


_LEAST_PERCENT = 40.0
"""Median from which numbers of a metric that nobody named are taken for Dice in percent, and not for millimeters."""


def _as_shares(table: pd.DataFrame, percent: bool, assumed: bool, notes: _Notes) -> pd.DataFrame:
    """Percent of bounded metrics as shares: where the table says so, or numbers can be nothing else.

    ``assumed`` tells that the metric was not named.
    """
    if not pd.api.types.is_float_dtype(table["value"].dtype):
        return table
    for name, rows in table.groupby("metric", sort=False):
        if (metric := METRICS.get(str(name))) is None or not metric.bounded:
            continue
        values = rows["value"].dropna()
        if percent or (len(values) and 1 < values.max() <= 100 and all(_looks_percent(rows))):
            if assumed and not percent and values.median() < _LEAST_PERCENT:
                raise DataError(
                    f"The score table does not say which metric it holds; scores of {values.min():g} to "
                    f"{values.max():g} are no Dice, also not in percent. Add a column metric, or name "
                    "the column of scores after it."
                )
            unclear = rows.loc[rows["value"].between(0, 1, inclusive="right")]
            if len(unclear) and not percent:
                raise DataError(
                    f"Scores of {name} reach {values.max():g}, as percent do, but {len(unclear)} lie between 0 and 1 "
                    f"and may be shares: {unclear['value'].iloc[0]:g} of {unclear['participant_id'].iloc[0]}, for one. "
                    "Write one unit; if all are percent, say so in a column unit (%)."
                )
            table.loc[rows.index, "value"] = rows["value"] / 100
            notes.add("Numbers read", f"{name} from percent ({values.min():g} to {values.max():g})")
    return table


def _looks_percent(rows: pd.DataFrame) -> Iterator[bool]:
    """Of each group, whether nearly all scores are above 1: one group in percent and one in shares is no such table."""
    for _, part in rows.groupby("group"):
        values = part["value"][part["value"] > 0]
        yield bool((values > 1).mean() > 0.9) if len(values) else True


def _session(label: str) -> str:
    bare = re.sub("[^A-Za-z0-9]", "", label.strip().removeprefix("ses-"))
    return "n/a" if label.strip().casefold() in _NO_VALUE or not bare else f"ses-{bare}"
