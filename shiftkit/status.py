"""The published list of status words: the reason a number is there, or is not.

Tables never drop a row silently; a row without a value says why in its ``status`` column.
"""

from enum import StrEnum


class Status(StrEnum):
    """One word that goes into the ``status`` column of a table.

    Examples
    --------
    >>> Status.MISSED
    <Status.MISSED: 'missed'>
    >>> Status.MISSED.sentence
    'The bundle is in the reference and the prediction is empty.'
    """

    OK = "ok"
    MISSED = "missed"
    REFERENCE_ABSENT = "reference_absent"
    BOTH_ABSENT = "both_absent"
    EXPLORATORY = "exploratory"
    NO_TUMOR_EFFECT_SHOWN = "no_tumor_effect_shown"
    SPLIT_WITHHELD = "split_withheld"
    NOT_CONVERGED = "not_converged"
    TOO_FEW = "too_few"
    TOO_FEW_FOR_SPLIT = "too_few_for_split"
    NEAR_FIELD_UNMEASURED = "near_field_unmeasured"
    FAR_FIELD_UNMEASURED = "far_field_unmeasured"
    RANGE = "range"
    LEVEL_TOO_RARE = "level_too_rare"
    UNAVAILABLE = "unavailable"
    CONSTANT = "constant"
    NOT_FINITE = "not_finite"
    EMPTY = "empty"
    TOO_SMALL = "too_small"
    DISCONNECTED = "disconnected"

    @property
    def sentence(self) -> str:
        """What the word means, in one sentence."""
        return _SENTENCES[self]

    @property
    def phrase(self) -> str:
        """What the word means, inside a sentence.

        Examples
        --------
        >>> Status.REFERENCE_ABSENT.phrase
        'the reference lacks the bundle'
        """
        return _PHRASES.get(self, f"{self.sentence[0].lower()}{self.sentence[1:].rstrip('.')}")


def spoken(reason: str) -> str:
    """A reason as it stands in a sentence: a status word as what it means, anything else as it is.

    Examples
    --------
    >>> spoken("both_absent"), spoken("rated bad")
    ('neither reference nor prediction holds the bundle', 'rated bad')
    """
    return Status(reason).phrase if reason in set(Status) else reason


_SENTENCES = {
    Status.OK: "Computed as defined.",
    Status.MISSED: "The bundle is in the reference and the prediction is empty.",
    Status.REFERENCE_ABSENT: "The prediction holds a bundle that the reference does not; "
    "excluded, with the false-positive volume given.",
    Status.BOTH_ABSENT: "Neither reference nor prediction holds the bundle; excluded.",
    Status.EXPLORATORY: "Fewer than 20 patients: an indication, not a conclusion.",
    Status.NO_TUMOR_EFFECT_SHOWN: "The test did not show that performance depends on the distance "
    "to the tumor; the tumor part is given with its interval, a decay length is not.",
    Status.SPLIT_WITHHELD: "The far field is not observed, so systematic and tumor parts cannot be "
    "told apart; only the total is given.",
    Status.NOT_CONVERGED: "The estimation did not converge; no number is given.",
    Status.TOO_FEW: "Too few participants for an estimate or an interval.",
    Status.TOO_FEW_FOR_SPLIT: "Fewer than 10 patients: only the total is given.",
    Status.NEAR_FIELD_UNMEASURED: "No bundle lies near a tumor; only the total is given.",
    Status.FAR_FIELD_UNMEASURED: "Too few patients have a bundle far from the tumor, so systematic and tumor parts "
    "cannot be told apart; only the total is given.",
    Status.RANGE: "What the tumor does beyond the farthest bundles is not known well enough for a single number; the "
    "part is given as a range.",
    Status.LEVEL_TOO_RARE: "Fewer than 5 controls have the bundle; it is left out for everybody.",
    Status.UNAVAILABLE: "The input that this number needs is not there.",
    Status.CONSTANT: "The values do not vary between participants, so there is nothing to compare.",
    Status.NOT_FINITE: "Some values behind this number are infinite or not a number; none is given.",
    Status.EMPTY: "The mask holds nothing here.",
    Status.TOO_SMALL: "The mask holds too little of the bundle to be measured.",
    Status.DISCONNECTED: "The mask lies in parts of which none is most of it; it is not measured as one bundle.",
}
_PHRASES = {
    Status.REFERENCE_ABSENT: "the reference lacks the bundle",
    Status.BOTH_ABSENT: "neither reference nor prediction holds the bundle",
    Status.LEVEL_TOO_RARE: "fewer than 5 controls have the bundle",
    Status.UNAVAILABLE: "no prediction was written",
}
