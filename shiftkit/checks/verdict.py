"""What a check found: problems, verdicts, and their renderings."""

import json
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, Literal

import pandas as pd

from ..results import Estimate, Finding

Severity = Literal["error", "warning"]

CHECKS: dict[str, str] = {
    "unreadable": "a file is damaged or of another kind",
    "participants": "participants.tsv and the folders disagree, or a value cannot be used",
    "name": "a file carries the name of another participant or session",
    "undeclared": "an image does not declare its orientation",
    "header": "sform and qform of a file disagree",
    "units": "voxel sizes are not in millimeters, or a map is scaled",
    "grid": "images of one participant differ in shape or affine",
    "values": "an image is all zero, constant, or not finite",
    "flip": "an image's voxels are mirrored against the others",
    "orientation": "the whole participant is turned over",
    "side": "a bundle lies in the other hemisphere",
    "tumor-side": "the tumor lies opposite to the declared side",
    "tumor-volume": "the tumor's volume is not the declared one",
    "sidecar": "peaks do not say which axes they refer to",
    "peaks": "peaks are flipped, permuted or in another frame",
    "reference": "nobody has a reference mask",
    "mask-values": "a mask is not binary",
    "mask-empty": "a mask is empty",
    "mask-place": "a mask lies outside the brain",
    "mask-pieces": "a mask is scattered",
    "tumor-overlap": "the tumor covers a whole bundle, or most of the brain",
    "duplicate": "the same image under two names",
}
"""Every check by its name, with what its problems mean; the names are those that ``allow`` takes."""


@dataclass(frozen=True, kw_only=True, order=True)
class Problem:
    """One thing that is wrong.

    Parameters
    ----------
    participant : str
        Participant and session, or ``"all"`` for the cohort.
    check : str
        A key of ``CHECKS``.
    severity : {"error", "warning"}
        Errors end in exit code 3.
    file : str
        Path below the cohort's folder; empty where no single file is meant.
    sentence, cure : str
        What must hold and what was found; what to do.
    """

    participant: str
    check: str
    severity: Severity
    file: str
    sentence: str
    cure: str

    def __str__(self) -> str:
        place = f" {self.file}:" if self.file else ""
        return f"{self.severity} [{self.check}] {self.participant}:{place} {self.sentence} → {self.cure}"


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """The verdicts of a check.

    Parameters
    ----------
    cohort, participants : str, tuple of str
        The cohort's name, and the participants (and sessions) that were looked at.
    problems : tuple of Problem
        Sorted by participant.
    allowed : tuple of str
        Checks whose errors do not count.

    Examples
    --------
    >>> report = CheckReport(cohort="here", participants=("sub-01",), problems=())
    >>> print(report)
    Cohort here: 1 participant looks sound.
    """

    cohort: str
    participants: tuple[str, ...]
    problems: tuple[Problem, ...]
    allowed: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Errors that count: those of checks that are not allowed."""
        return tuple(one for one in self.problems if one.severity == "error" and one.check not in self.allowed)

    @property
    def exit_code(self) -> int:
        """3 with any error, 0 without."""
        return 3 if self.errors else 0

    @property
    def verdicts(self) -> dict[str, str]:
        """``error``, ``warning`` or ``ok`` for each participant; problems of the whole cohort count as ``all``."""
        wrong = {one.participant for one in self.errors}
        # An error that is allowed stays visible, as a warning.
        unsure = {one.participant for one in self.problems}
        keys = [*self.participants, *sorted((wrong | unsure) - set(self.participants))]
        return {key: "error" if key in wrong else "warning" if key in unsure else "ok" for key in keys}

    @property
    def summary(self) -> str:
        """One paragraph: how many participants have what, and the first errors with their cures."""
        if not self.errors:
            return self._counts()
        shown = " ".join(f"{one.participant} [{one.check}] {one.sentence} {one.cure}" for one in self.errors[:3])
        more = f" And {len(self.errors) - 3} more errors; shiftkit check lists all." if len(self.errors) > 3 else ""
        return f"{self._counts()} {shown}{more}"

    def _counts(self) -> str:
        verdicts = [self.verdicts[key] for key in self.participants]
        n, sound = len(verdicts), verdicts.count("ok")
        found = {"errors": verdicts.count("error"), "warnings": verdicts.count("warning")}
        told = " and ".join(f"{many} {'has' if many == 1 else 'have'} {what}" for what, many in found.items() if many)
        # Of the whole cohort there may be problems that are nobody's.
        if not told:
            looks = f"all {n} participants look sound" if n > 1 else f"{n} participant looks sound"
        else:
            looks = f"{sound} of {n} participants {'looks' if sound == 1 else 'look'} sound; {told}"
        if any(one.check == "reference" for one in self.problems):
            looks = f"not sound for a study, for nobody has a reference mask; otherwise {looks}"
        allowed = f" Errors allowed: {', '.join(self.allowed)}." if self.allowed else ""
        return f"Cohort {self.cohort}: {looks}.{allowed}"

    def to_frame(self) -> pd.DataFrame:
        """One row a problem."""
        columns = ["participant", "check", "severity", "file", "sentence", "cure"]
        return pd.DataFrame([asdict(one) for one in self.problems], columns=columns)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for `to_json`."""
        return {
            "cohort": self.cohort,
            "exit_code": self.exit_code,
            "verdicts": self.verdicts,
            "allowed": list(self.allowed),
            "problems": [asdict(one) for one in self.problems],
        }

    def to_json(self) -> str:
        """The report for machines."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def findings(self, role: str = "") -> tuple[Finding, ...]:
        """The report as a section; ``role``, such as ``patients``, tells several checks of one report apart."""
        counts = list(self.verdicts.values())
        n = len(self.participants)
        names = ("error", "warning", "ok")
        return (
            Finding(
                key=f"check-{role}" if role else "check",
                place="data",
                title=f"Checks of the images: {role.replace('_', ' ') or self.cohort}",
                claim=self._counts(),
                estimates=tuple(
                    Estimate(name=f"participants: {name}", value=float(counts.count(name)), n=n) for name in names
                ),
                table=self.to_frame(),
                caveats=("A fault that all images of a participant share shows only where anatomy is lopsided.",),
                method="Checked: " + "; ".join(f"{name} ({meaning})" for name, meaning in CHECKS.items()) + ".",
                references=("10.1016/j.mri.2019.01.018",),
            ),
        )

    def __str__(self) -> str:
        return "\n".join([self._counts(), *map(str, self.problems)])

    def _repr_html_(self) -> str:
        return f"<p>{escape(self._counts())}</p>" + self.to_frame().to_html(index=False, max_rows=50)
