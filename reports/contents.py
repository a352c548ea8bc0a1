"""What a report says, as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from ..types import Cohort

LIMITATIONS = (
    "Not for clinical use. This report describes how a segmentation method behaves in a group of participants; "
    "no decision about a patient may rest on it.",
    "The systematic part holds everything that differs between controls and patients at any distance from the "
    "tumor: scanner, protocol, preprocessing, the style in which labels were drawn, age, and diffuse disease. They "
    "can be told apart only with controls scanned like the patients (a target control group).",
    "Distance to the tumor stands for its effect. It does not tell mass effect from infiltration or edema.",
    "The reference masks are taken as the truth. Where they are uncertain, part of the drop is theirs.",
)
"""What every report says about itself."""


@dataclass(frozen=True, kw_only=True)
class CohortSummary:
    """Who took part, in which role, and who was left out.

    Parameters
    ----------
    name : str
        The cohort's name.
    role : str
        What it is compared as, such as ``"patients"`` or ``"unseen controls"``.
    n : int
        Participants used.
    excluded : mapping of str to str
        Participants left out, each with the reason.
    facts : mapping of str to str
        Age, sex, tumor side and the like, summarized.
    """

    name: str
    role: str
    n: int
    excluded: Mapping[str, str] = field(default_factory=dict[str, str])
    facts: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, cohort: Cohort, role: str, excluded: Mapping[str, str] | None = None) -> "CohortSummary":
        """Summarize the participants that a cohort holds after exclusions."""
        frame = cohort.to_frame()
        facts: dict[str, str] = {}
        for column, unit in (("age", "years"), ("tumor_volume_ml", "ml")):
            values = pd.to_numeric(frame[column], errors="coerce").dropna() if column in frame else pd.Series()
            if len(values):
                title = column.removesuffix("_ml").replace("_", " ")
                facts[title] = f"median {values.median():.0f} {unit} ({values.min():.0f} to {values.max():.0f})"
        for column in ("sex", "tumor_side", "site", "scanner"):
            if column in frame and frame[column].notna().any():
                counts = frame[column].dropna().value_counts()
                facts[column.replace("_", " ")] = ", ".join(f"{count} {value}" for value, count in counts.items())
        return cls(name=cohort.name, role=role, n=len(cohort), excluded=excluded or {}, facts=facts)
