"""A methods paragraph with a run's own numbers, and the references to go with it."""

import re
from collections.abc import Sequence
from importlib.metadata import version

from ..results import Finding
from .contents import Contents

_JOURNAL = ("author", "title", "journal", "volume", "pages", "year")
_KNOWN: dict[str, tuple[str, ...]] = {
    "10.1016/j.media.2025.103766": (
        "Riccardi, C. and Coletta, L. and Ghezzi, S. and Amorosino, G. and Zigiotto, L. and Jovicich, J. and Sarubbo, "
        "S. and Avesani, P.",
        "Supervised white matter bundle segmentation in glioma patients with transfer learning",
        *("Medical Image Analysis", "107", "103766", "2025"),
    ),
    "10.1111/j.1468-0262.2004.00555.x": (
        "Imbens, G. W. and Manski, C. F.",
        "Confidence intervals for partially identified parameters",
        *("Econometrica", "72", "1845--1857", "2004"),
    ),
    "10.2202/1544-6115.1585": (
        "Phipson, B. and Smyth, G. K.",
        "Permutation p-values should never be zero: calculating exact p-values when permutations are randomly drawn",
        *("Statistical Applications in Genetics and Molecular Biology", "9", "39", "2010"),
    ),
    "10.1007/s10994-009-5152-4": (
        "Ben-David, S. and Blitzer, J. and Crammer, K. and Kulesza, A. and Pereira, F. and Vaughan, J. W.",
        "A theory of learning from different domains",
        *("Machine Learning", "79", "151--175", "2010"),
    ),
    "10.1016/S0047-259X(03)00096-4": (
        "Ledoit, O. and Wolf, M.",
        "A well-conditioned estimator for large-dimensional covariance matrices",
        *("Journal of Multivariate Analysis", "88", "365--411", "2004"),
    ),
    "10.1016/j.jspi.2013.03.018": (
        "Székely, G. J. and Rizzo, M. L.",
        "Energy statistics: a class of statistics based on distances",
        *("Journal of Statistical Planning and Inference", "143", "1249--1272", "2013"),
    ),
    "10.1016/j.media.2007.06.004": (
        "Avants, B. B. and Epstein, C. L. and Grossman, M. and Gee, J. C.",
        "Symmetric diffeomorphic image registration with cross-correlation: evaluating automated labeling of elderly "
        "and neurodegenerative brain",
        *("Medical Image Analysis", "12", "26--41", "2008"),
    ),
    "10.1007/s10851-014-0506-3": (
        "Bonneel, N. and Rabin, J. and Peyré, G. and Pfister, H.",
        "Sliced and Radon Wasserstein barycenters of measures",
        *("Journal of Mathematical Imaging and Vision", "51", "22--45", "2015"),
    ),
    "10.1214/ss/1009213286": (
        "Brown, L. D. and Cai, T. T. and DasGupta, A.",
        "Interval estimation for a binomial proportion",
        *("Statistical Science", "16", "101--133", "2001"),
    ),
    "10.1080/00031305.2015.1089789": (
        "Hesterberg, T. C.",
        "What teachers should know about the bootstrap: resampling in the undergraduate statistics curriculum",
        *("The American Statistician", "69", "371--386", "2015"),
    ),
    "10.1007/s00285-007-0139-x": (
        "Hogea, C. and Davatzikos, C. and Biros, G.",
        "An image-driven parameter estimation problem for a reaction-diffusion glioma growth model with mass effects",
        *("Journal of Mathematical Biology", "56", "793--825", "2008"),
    ),
    "10.1109/42.963816": (
        "Alexander, D. C. and Pierpaoli, C. and Basser, P. J. and Gee, J. C.",
        "Spatial transformations of diffusion tensor magnetic resonance images",
        *("IEEE Transactions on Medical Imaging", "20", "1131--1139", "2001"),
    ),
    "10.3389/fninf.2014.00008": (
        "Garyfallidis, E. and Brett, M. and Amirbekian, B. and Rokem, A. and van der Walt, S. and Descoteaux, M. and "
        "Nimmo-Smith, I.",
        "Dipy, a library for the analysis of diffusion MRI data",
        *("Frontiers in Neuroinformatics", "8", "8", "2014"),
    ),
    "10.48550/arXiv.1905.00414": (
        "Kornblith, S. and Norouzi, M. and Lee, H. and Hinton, G.",
        "Similarity of neural network representations revisited",
        *("arXiv", "1905.00414", "", "2019"),
    ),
    "10.48550/arXiv.2010.15327": (
        "Nguyen, T. and Raghu, M. and Kornblith, S.",
        "Do wide and deep networks learn the same things? Uncovering how neural network representations vary with "
        "width and depth",
        *("arXiv", "2010.15327", "", "2020"),
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
    opening = f"Bundle segmentation was analyzed with shiftkit {version('shiftkit')}."
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
    """One BibTeX entry for the software and one a reference; those not known by heart hold DOI and address alone."""
    entries = [_entry("shiftkit", "software", {"title": "{shiftkit}", "version": version("shiftkit")})]
    for doi in references_of(report):
        known = {name: text for name, text in zip(_JOURNAL, _KNOWN.get(doi, ()), strict=False) if text}
        fields = {**known, "doi": doi, "url": f"https://doi.org/{doi}"}
        entries.append(_entry(re.sub(r"[^A-Za-z0-9]+", "-", doi).strip("-"), "article" if known else "misc", fields))
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
