"""A methods paragraph with a run's own numbers, and the references to go with it."""

import re
from collections.abc import Sequence

from ..results import Finding
from ..version import __version__
from .contents import Contents

_KNOWN = {
    "10.1016/j.media.2025.103766": (
        "article",
        {
            "author": "Riccardi, C. and Coletta, L. and Ghezzi, S. and Amorosino, G. and Zigiotto, L. and Jovicich, J. "
            "and Sarubbo, S. and Avesani, P.",
            "title": "Supervised white matter bundle segmentation in glioma patients with transfer learning",
            "journal": "Medical Image Analysis",
            "volume": "107",
            "pages": "103766",
            "year": "2025",
        },
    ),
}


def citation_markdown(report: Contents) -> str:
    """The methods paragraph and the verdict, ready to paste, with DOIs.

    Examples
    --------
    >>> "shiftkit" in citation_markdown(Contents(title="t", verdict="Dice drops by 0.1.", findings=()))
    True
    """
    people = "; ".join(
        f"{cohort.n} {cohort.role} ({cohort.name}" + (f", {len(cohort.excluded)} left out)" if cohort.excluded else ")")
        for cohort in report.cohorts
    )
    methods = [method for _, method in methods_of(report.findings)]
    opening = f"Bundle segmentation was analyzed with shiftkit {__version__}."
    paragraph = " ".join([opening, f"Participants: {people}." if people else "", *methods, *report.notes])
    numbers = [f"- {estimate}" for finding in report.findings for estimate in finding.estimates]
    references = [f"- https://doi.org/{doi}" for doi in references_of(report)]
    parts = ["# Methods", re.sub(r"\s+", " ", paragraph).strip()]
    parts += ["# Result", report.verdict] if report.verdict else []
    parts += ["# Estimates", "\n".join(numbers)] if numbers else []
    parts += ["# References", "\n".join(references)] if references else []
    # Markdown lets tags through; what looks like one in a name stays text.
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", "\n\n".join(parts)) + "\n"


def methods_of(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """Title and method of each finding; a method that several share is told once."""
    told: dict[str, str] = {}
    for finding in findings:
        if finding.method.strip():
            told.setdefault(finding.method.strip(), finding.title)
    return [(title, method) for method, title in told.items()]


def citation_bibtex(report: Contents) -> str:
    """One BibTeX entry for the software and one a reference; those not known by heart hold the DOI alone."""
    entries = [_entry("shiftkit", "software", {"title": "{shiftkit}", "version": __version__})]
    for doi in references_of(report):
        kind, fields = _KNOWN.get(doi, ("misc", {}))
        entries.append(_entry(re.sub(r"[^A-Za-z0-9]+", "-", doi).strip("-"), kind, {**fields, "doi": doi}))
    return "\n".join(entries)


def references_of(report: Contents) -> list[str]:
    """The DOIs of all findings, each once, in order of first use."""
    found = (doi for finding in report.findings for doi in finding.references)
    return list(dict.fromkeys(plain_doi(doi) for doi in found))


def plain_doi(reference: str) -> str:
    """A DOI without resolver or prefix.

    Examples
    --------
    >>> plain_doi("https://doi.org/10.1000/182"), plain_doi("doi:10.1000/182")
    ('10.1000/182', '10.1000/182')
    """
    return reference.strip().removeprefix("https://doi.org/").removeprefix("doi:").strip()


def _entry(key: str, kind: str, fields: dict[str, str]) -> str:
    # A closing brace in a value would end the entry; braces are only ours.
    lines = [f"  {name} = {{{value if value == '{shiftkit}' else _plain(value)}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"]) + "\n"


def _plain(value: str) -> str:
    return re.sub(r"[{}\\\n]", "", value)
