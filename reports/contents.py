"""What a report says, as data: nothing here draws, reads an image or knows of pages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from ..results import Finding, Place
from ..types import Bundle, Cohort
from .naming import slug

Convention = Literal["radiological", "neurological"]
PLACES: tuple[Place, ...] = get_args(Place)
"""Where findings stand, in order."""

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
    """Who took part, in which role (``"patients"``, ``"unseen controls"``), and who was left out, each with the reason.

    ``n`` counts the participants used; ``facts`` are age, sex, tumor side and the like, summarized.
    """

    name: str
    role: str
    n: int
    excluded: Mapping[str, str] = field(default_factory=dict[str, str])
    facts: Mapping[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def of(cls, cohort: Cohort, role: str, excluded: Mapping[str, str] | None = None) -> "CohortSummary":
        """Summarize the participants that a cohort holds after exclusions: keys of cases, each with the reason."""
        out = excluded or {}
        cohort = cohort.where(lambda case: case.key not in out)
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
        return cls(name=cohort.name, role=role, n=len(cohort), excluded=out, facts=facts)


@dataclass(frozen=True, kw_only=True)
class CasePicture:
    """One participant and bundle to show: an image in any orientation, masks, and how well they agree.

    Parameters
    ----------
    score, score_after : float
        Before and after fine-tuning; NaN where ``status``, one of `shiftkit.status.Status`, says why.
    distance_mm : float
        Edge-to-edge distance from the tumor to the reference mask; NaN without a tumor.
    reference, prediction, tumor, after : Path
        Masks; ``after`` is the prediction after fine-tuning.
    facts : mapping of str to str
        More about the case, such as the tumor's volume, shown beside the picture.
    measure, unit : str
        What the score is called, and its unit; empty for a share.
    higher_is_better : bool
        Whether the worst case has the lowest score.

    Examples
    --------
    >>> from pathlib import Path
    >>> files = {name: Path(f"{name}.nii.gz") for name in ("image", "reference", "prediction")}
    >>> who = {"participant_id": "sub-01", "bundle": Bundle(name="AF", hemisphere="left"), "distance_mm": 4.0}
    >>> CasePicture(**who, **files, score=0.714).spoken, CasePicture(**who, **files, score=float("nan")).spoken
    ('Dice 0.71', 'no Dice')
    >>> CasePicture(**who, **files, score=3.14, measure="HD95", unit="mm", higher_is_better=False).spoken
    'HD95 3.1 mm'
    """

    participant_id: str
    bundle: Bundle
    score: float
    distance_mm: float
    image: Path
    reference: Path
    prediction: Path
    tumor: Path | None = None
    model: str = ""
    status: str = "ok"
    after: Path | None = None
    score_after: float = float("nan")
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    measure: str = "Dice"
    unit: str = ""
    higher_is_better: bool = True

    @property
    def key(self) -> str:
        """Its anchor: letters, digits and hyphens."""
        return slug(f"case-{self.participant_id}-{self.bundle.label}" + (f"-{self.model}" if self.model else ""))

    @property
    def files(self) -> dict[str, Path]:
        """The image and the masks that there are, by field."""
        every = {name: getattr(self, name) for name in ("image", "reference", "prediction", "tumor", "after")}
        return {name: path for name, path in every.items() if path is not None}

    @property
    def spoken(self) -> str:
        """The score with its name."""
        return f"{self.measure} {self.number(self.score)}" if np.isfinite(self.score) else f"no {self.measure}"

    def number(self, score: float) -> str:
        """A score with its unit."""
        return f"{score:.1f} {self.unit}" if self.unit else f"{score:.2f}"

    @property
    def title(self) -> str:
        """What a column of scores is called."""
        return f"{self.measure} ({self.unit})" if self.unit else self.measure

    @property
    def rank(self) -> tuple[bool, float, str]:
        """Sorts the worst first, and cases without a score last."""
        return np.isnan(self.score), self.score if self.higher_is_better else -self.score, self.participant_id


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What stands around the answer on the first screen.

    Parameters
    ----------
    question : str
        What the report answers; without it the title stands alone.
    facts : mapping of str to str
        Who and what the answer rests on: patients, controls, bundles, model, metric.
    origin : tuple of str
        Sentences on where the data and the model come from, who was left out and which checks warned.
    decimals : int
        Of components in tables, as in the sentences; a number gets more where rounding would hide that its interval
        excludes 0.
    """

    question: str = ""
    facts: Mapping[str, str] = field(default_factory=dict[str, str])
    origin: tuple[str, ...] = ()
    decimals: int = 3


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All that a report says.

    Parameters
    ----------
    title, verdict : str
        What the report is about, and its answer in one sentence with numbers.
    opening : Opening
        The question, and what the answer rests on.
    findings : tuple of Finding
        In the order of the story; `Finding.place` says where on the page.
    cases : tuple of CasePicture
        Worst first.
    provenance : mapping
        Version, settings, seeds, digests: nested mappings of plain values.
    table : DataFrame or None
        The long table of components (`shiftkit.catalogue.DECOMPOSITION`), or any other to print by bundle.
    notes, limitations : tuple of str
        Sentences about this run, such as how many controls the model had seen, and about every run.
    convention : {"radiological", "neurological"}
        Which side of the participant stands on the viewer's left.
    max_cases : int
        Pictures on the first page and on a bundle's page; all of them stand on the participants' pages.
    bundle_findings : mapping of Bundle to tuple of Finding
        What the bundles' pages tell besides their cases. Keys of findings are unique in the whole report.
    figures : Path or None
        Folder with drawings of an earlier report, for findings that have no figure of their own.
    """

    title: str
    verdict: str
    findings: tuple[Finding, ...]
    opening: Opening = Opening()
    cases: tuple[CasePicture, ...] = ()
    cohorts: tuple[CohortSummary, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict[str, Any])
    table: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()
    limitations: tuple[str, ...] = LIMITATIONS
    convention: Convention = "radiological"
    max_cases: int = 8
    bundle_findings: Mapping[Bundle, tuple[Finding, ...]] = field(default_factory=dict[Bundle, tuple[Finding, ...]])
    figures: Path | None = None

    def __str__(self) -> str:
        return f"{self.title}\n{self.verdict}\n{len(self.findings)} findings, {len(self.cases)} cases"
