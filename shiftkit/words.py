"""Words of tables: those that shiftkit knows, and the spellings whose meaning is certain."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from .errors import DataError

_SPELLINGS: Mapping[str, Mapping[str, str]] = {
    # column: its words, each with other spellings, without case, blanks, hyphens and underscores
    "group": {
        "control": "controls healthy healthycontrol healthycontrols healthyvolunteer healthyvolunteers hc ctrl normal",
        "glioma": "gliomas patient patients gliomapatient gliomapatients glioblastoma gbm hgg lgg",
        "target_control": "targetcontrol targetcontrols",
    },
    "hemisphere": {"left": "l lh", "right": "r rh", "none": "midline"},
    "side": {"ipsi": "ipsilateral", "contra": "contralateral", "bilateral": "both"},
    "tumor_side": {"left": "l lh", "right": "r rh", "bilateral": "both"},
    "seen": {"yes": "true 1 1.0 y", "no": "false 0 0.0 n"},
    "metric": {
        "dice": "dsc dicescore dicecoefficient dicesimilaritycoefficient",
        "sensitivity": "recall truepositiverate",
        "precision": "positivepredictivevalue ppv",
        "volume_overlap": "",
        "volume_overreach": "",
        "volume_similarity": "volumetricsimilarity",
        "hd95": "95hd hausdorff95 hausdorffdistance95 95hausdorffdistance",
        "assd": "averagesymmetricsurfacedistance",
        "nsd": "normalizedsurfacedice normalisedsurfacedice surfacedice",
        "cldice": "centerlinedice centrelinedice",
        "adjacency": "bundleadjacency",
        "brier": "brierscore",
        "calibration_error": "ece expectedcalibrationerror",
    },
    "split": {"train": "training", "val": "validation", "test": "testing"},
}
_KNOWN = {
    column: {spelling: word for word, others in words.items() for spelling in (word.replace("_", ""), *others.split())}
    for column, words in _SPELLINGS.items()
}
MISSING = ("", "n/a", "na", "nan", "none", "-")
"""What stands for a missing word, whatever its case; ``none`` where it is no word of the column."""


_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
"""What moves a cursor, ends a line, turns the way of reading, cannot be seen, or is half a letter."""
_FORMULA = ("=", "+", "-", "@")
_LONGEST_NAME = 200


def readable(text: str) -> str:
    r"""A text for a terminal: what would move its cursor or hide a part of it stands as ``�``.

    Ends of lines and tabs stay.

    Examples
    --------
    >>> readable("sub-\x1b[2J01")
    'sub-�[2J01'
    """
    return _CONTROLS.sub(lambda found: found[0] if found[0] in "\n\t" else "�", text)


def has_controls(text: str) -> bool:
    r"""Whether a text holds what would move a terminal's cursor, or ends a line.

    Examples
    --------
    >>> has_controls("two words"), has_controls("two\nlines")
    (False, True)
    """
    return _CONTROLS.search(text) is not None


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would compute a cell instead of showing it; numbers and a single sign are none.

    Examples
    --------
    >>> [is_formula(text) for text in ("=1+1", "@SUM(A1)", "-2+3", "-0.5", "-", "sub-01")]
    [True, True, True, False, False, False]
    """
    if len(text) < 2 or not text.startswith(_FORMULA):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False


_TAG = re.compile(r"<[A-Za-z/!?]")
"""What a browser takes for markup; a sign of comparison alone is none."""


def name_problem(text: str) -> str | None:
    """What is wrong with a text as the name of a person, bundle, model or cohort; None if nothing is.

    Names go into tables, pages, messages and names of files.

    Examples
    --------
    >>> [name_problem(text) for text in ("sub-01", "=1+1", "../x", "<b>", "over 60: >60")]
    [None, 'begins as a formula does', 'leaves its folder', 'holds markup', None]
    """
    if not text:
        return "is empty"
    if len(text) > _LONGEST_NAME:
        return f"has {len(text)} characters, more than {_LONGEST_NAME}"
    if has_controls(text):
        return "holds control characters"
    if is_formula(text):
        return "begins as a formula does"
    if ".." in text or text.startswith(("/", "\\", "~")):
        return "leaves its folder"
    return "holds markup" if _TAG.search(text) else None


def words_of(column: str) -> tuple[str, ...]:
    """The words of a column that has a list of them; none for another column."""
    return tuple(_SPELLINGS.get(column, ()))


def understood(column: str, text: str) -> str | None:
    """The word of a column that a text certainly means, ``n/a`` for a missing one; None where that is not certain.

    Examples
    --------
    >>> understood("group", "Glioma "), understood("group", "HC"), understood("seen", "True"), understood("side", "")
    ('glioma', 'control', 'yes', 'n/a')
    >>> understood("group", "meningioma") is None
    True
    """
    bare = text.strip().casefold()
    found = _KNOWN[column].get("".join(sign for sign in bare if sign not in " _-"))
    return found or ("n/a" if bare in MISSING else None)


def nearest(word: str, known: Iterable[str]) -> str:
    """Which of the known words was likely meant, as the end of a sentence; empty where none is near.

    Examples
    --------
    >>> nearest("AFT", ["AF", "FAT", "PYT"]), nearest("dicee", ["dice", "hd95"]), nearest("x", ["dice"])
    ('; did you mean AF or FAT?', '; did you mean dice?', '')
    """
    bare = {one.casefold(): one for one in known}
    found = [bare[one] for one in get_close_matches(word.casefold(), bare, n=2, cutoff=0.6)]
    return f"; did you mean {' or '.join(found)}?" if found else ""


def named(names: Iterable[str], most: int = 5, by: str = ", ") -> str:
    """Names in a sentence: all of them, or the first few and how many more there are.

    Examples
    --------
    >>> named(["a", "b"]), named(["a", "b", "c"], most=1)
    ('a, b', 'a and 2 more')
    """
    there = list(names)
    return by.join(there[:most]) + (f" and {len(there) - most} more" if len(there) > most else "")


def not_understood(column: str, texts: Iterable[str]) -> tuple[str, ...]:
    """The texts whose meaning is not certain, sorted."""
    return tuple(sorted({text for text in texts if understood(column, text) is None}))


def spoken_model(model: str, source: str = "") -> str:
    """What a model is called beside others: before fine-tuning is the ``source``, after it the others by strategy.

    Examples
    --------
    >>> spoken_model("reference", "reference"), spoken_model("reference+decoder", "reference"), spoken_model("mine")
    ('before fine-tuning', 'after fine-tuning (decoder)', 'mine')
    """
    _, sign, strategy = model.partition("+")
    if sign:
        return f"after fine-tuning ({strategy})"
    return "before fine-tuning" if model == source else f"after fine-tuning ({model})" if source else model


ESTIMATORS = {
    "anchored": "primary",
    "exponential": "exponential decay",
    "spline": "decay of any shape",
    "hemispheric": "tumor's side against the other",
    "shell": "voxels by distance",
    "gee": "GEE",
    "mixed": "mixed model",
}
"""What the methods of a decomposition's table are called where people read."""


def same_person(participant_id: str) -> str:
    """What two spellings of one participant's id share: without prefix, case, blanks and leading zeros of numbers.

    Examples
    --------
    >>> {same_person(one) for one in ("sub-004", "sub-4", "4", "SUB-04 ")}
    {'4'}
    """
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", participant_id.strip().casefold().removeprefix("sub-").strip())


def chosen_session(people: Mapping[str, Sequence[str | None]], session: str | None) -> dict[str, str | None]:
    """One session of each participant, from their labels; None is that of a participant without sessions.

    Parameters
    ----------
    people : mapping of str to sequence of str or None
        The sessions of each participant.
    session : str, optional
        A label, with or without ``ses-``; or ``first`` or ``last``, where labels are numbers or dates. Participants
        without that label are left out; those without sessions stay.

    Raises
    ------
    DataError
        Where participants have several sessions and ``session`` is not given, nobody has it, or labels have no order.

    Examples
    --------
    >>> chosen_session({"sub-1": ["ses-2", "ses-10"], "sub-2": [None]}, "last")
    {'sub-1': 'ses-10', 'sub-2': None}
    """
    several = [name for name, labels in people.items() if len(labels) > 1]
    labels = sorted({label for labels in people.values() for label in labels if label is not None})
    shown = f"{', '.join(labels[:6])}{' …' if len(labels) > 6 else ''}"
    if session is None:
        if several:
            raise DataError(
                f"An analysis takes one session of each participant; {named(several, 1)} have several ({shown}). "
                "Choose with `session`: a label, first or last."
            )
        return {name: one[0] for name, one in people.items()}
    if session in ("first", "last"):
        parts = {label: _ORDERED.fullmatch(label) for label in labels}
        kinds = {found[1] for found in parts.values() if found is not None}
        # Also pre1 and post2 have no order that a program could know.
        strange = [label for label, found in parts.items() if found is None or len(kinds) > 1]
        if several and strange:
            raise DataError(
                f"First and last need labels with an order, numbers or dates; {strange[0]} has none. Give `session` "
                f"one of the labels: {shown}."
            )
        place = 0 if session == "first" else -1
        return {name: sorted(one, key=_order)[place] for name, one in people.items()}
    wanted = f"ses-{session.removeprefix('ses-')}"
    if wanted not in labels:
        raise DataError(f"`session` must be a label that somebody has; got {session!r}, there are {shown or 'none'}.")
    return {name: wanted if wanted in one else None for name, one in people.items() if wanted in one or None in one}


_ORDERED = re.compile(r"ses-([A-Za-z]*)[0-9]+")


def _order(label: str | None) -> int:
    return int(re.sub(r"[^0-9]", "", label or "") or 0)
