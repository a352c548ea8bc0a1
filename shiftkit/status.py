"""The published list of status words: the reason a number is there, or is not.

Tables never drop a row silently; a row without a value says why in its ``status`` column.
"""

from enum import StrEnum
from typing import Self


class Status(StrEnum):
    """One word that goes into the ``status`` column of a table.

    Examples
    --------
    >>> Status.MISSED
    <Status.MISSED: 'missed'>
    >>> Status.MISSED.sentence
    'The bundle is in the reference and the prediction is empty.'
    """

    sentence: str
    """What the word means, in one sentence."""

    def __new__(cls, word: str, sentence: str) -> Self:
        """A word that carries its sentence."""
        # Members are words: tables write and compare them like any other text.
        member = str.__new__(cls, word)
        member._value_, member.sentence = word, sentence
        return member

    OK = "ok", "Computed as defined."
    MISSED = "missed", "The bundle is in the reference and the prediction is empty."
    REFERENCE_ABSENT = (
        "reference_absent",
        "The prediction holds a bundle that the reference does not; excluded, with the false-positive volume given.",
    )
    BOTH_ABSENT = "both_absent", "Neither reference nor prediction holds the bundle; excluded."
    EXPLORATORY = "exploratory", "Fewer than 20 patients: an indication, not a conclusion."
    NO_TUMOR_EFFECT_SHOWN = (
        "no_tumor_effect_shown",
        "The test did not show that performance depends on the distance to the tumor; the tumor part is given with "
        "its interval, a decay length is not.",
    )
    SPLIT_WITHHELD = (
        "split_withheld",
        "The far field is not observed, so systematic and tumor parts cannot be told apart; only the total is given.",
    )
    NOT_CONVERGED = "not_converged", "The estimation did not converge; no number is given."
    TOO_FEW = "too_few", "Too few participants for an estimate or an interval."
    UNAVAILABLE = "unavailable", "The input that this number needs is not there."
    CONSTANT = "constant", "The values do not vary between participants, so there is nothing to compare."
    NOT_FINITE = "not_finite", "Some values behind this number are infinite or not a number; none is given."
    EMPTY = "empty", "The mask holds nothing here."
    TOO_SMALL = "too_small", "The mask holds too little of the bundle to be measured."
    DISCONNECTED = (
        "disconnected",
        "The mask lies in parts of which none is most of it; it is not measured as one bundle.",
    )
