"""Pages from a report: what stands where, and the templates filled."""

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup

from ..parallel import in_parallel
from ..status import Status
from ..types import Bundle, Finding
from ..version import __version__
from .build import slug
from .cases import CasePicture, Convention, picture
from .cite import citation_bibtex, citation_markdown, plain_doi
from .figures import Drawing, draw
from .tables import TableView, by_bundle, estimates_frame, number, view

if TYPE_CHECKING:
    from .build import Report

_SAFE = "/:;,.=+ ()-!*"
_LEADING = ("decomposition", "recovery", "bundles")


@dataclass(frozen=True, kw_only=True)
class FindingView:
    """A finding with its drawings and tables made."""

    key: str
    finding: Finding
    wide: Drawing | None
    narrow: Drawing | None
    estimates: TableView | None
    table: TableView | None


@dataclass(frozen=True, kw_only=True)
class CaseView:
    """A case with its picture made, or the reason why there is none."""

    key: str
    case: CasePicture
    svg: str | None
    problem: str
    alt: str
    status: str
    after: str | None = None
    alt_after: str = ""


class Pages:
    """All pages of one report.

    Parameters
    ----------
    report : Report
        What to render.
    linked : bool
        Whether the other pages will lie beside the first, so that it may link to them.
    stem : str
        File name of the first page.
    """

    def __init__(self, report: "Report", *, linked: bool, stem: str = "report.html") -> None:
        self.report = report
        self.linked = linked
        self.stem = stem
        self._pictures: dict[tuple[int, bool], str | Exception] = {}

    def files(self) -> Iterator[tuple[str, str]]:
        """Every file's path relative to the report's folder, with its text."""
        yield self.stem, self.main()
        for bundle in self.bundles:
            yield f"reports/{page_name(bundle)}", self.bundle_page(bundle)
        for participant in self.participants:
            yield f"reports/{participant_page_name(participant)}", self.participant_page(participant)
        for one in self.findings:
            if one.wide is not None and one.narrow is not None:
                yield f"figures/{one.key}.svg", one.wide.standalone
                yield f"figures/{one.key}-column.svg", one.narrow.standalone
        yield "CITATION.md", citation_markdown(self.report)
        yield "CITATION.bib", citation_bibtex(self.report)

    def draw_cases(self, jobs: int) -> None:
        """Draw all pictures beforehand, in several processes."""
        from joblib import delayed

        wanted = [(case, after) for case in self.report.cases for after in (False, True) if not after or case.after]
        tasks = (delayed(_picture_or_error)(case, self.report.convention, after) for case, after in wanted)
        made = in_parallel(tasks, jobs)
        self._pictures.update({(id(case), after): svg for (case, after), svg in zip(wanted, made, strict=True)})

    def main(self) -> str:
        """The first page."""
        report = self.report
        return self._render(
            "report.html",
            title=report.title,
            leading=[one for one in self.findings if one.finding.key in _LEADING],
            distance=[one for one in self.findings if one.finding.key == "distance"],
            further=[one for one in self.findings if one.finding.key not in (*_LEADING, "distance")],
            tables=self.tables,
            cases=[self._case(case) for case in report.cases[: report.max_cases]],
            citation=citation_markdown(report),
            bibliography=citation_bibtex(report),
            provenance=_provenance(report.provenance),
            # A note that a finding already gives as a caveat need not be read twice.
            notes=[note for note in report.notes if all(note not in one.caveats for one in report.findings)],
            folder="reports/",
        )

    def bundle_page(self, bundle: Bundle) -> str:
        """The page of one bundle in one hemisphere."""
        cases = [case for case in self.report.cases if case.bundle == bundle]
        return self._render(
            "bundle.html",
            title=f"{bundle.label}: {self.report.title}",
            bundle=bundle,
            cases=[self._case(case) for case in cases],
            tables=[t for t in (_rows_of(table, bundle) for table in self.tables) if t is not None],
            overview=view(_overview(cases), "cases-table", f"Every case of {spoken(bundle)}, worst first"),
            folder="",
        )

    def participant_page(self, participant: str) -> str:
        """The page of one participant."""
        cases = [case for case in self.report.cases if case.participant_id == participant]
        return self._render(
            "participant.html",
            title=f"{participant}: {self.report.title}",
            participant=participant,
            cases=[self._case(case) for case in cases],
            overview=view(_overview(cases), "cases-table", f"Every case of {participant}, worst first"),
            folder="",
        )

    @cached_property
    def participants(self) -> tuple[str, ...]:
        """The participants that have a page."""
        return tuple(sorted({case.participant_id for case in self.report.cases}))

    @cached_property
    def bundles(self) -> tuple[Bundle, ...]:
        """The bundles that have a page."""
        found = {case.bundle for case in self.report.cases}
        table = self.report.table
        if table is not None and {"bundle", "hemisphere"} <= set(table):
            named = table[(table["bundle"] != "all") & table["hemisphere"].isin(["left", "right", "none"])]
            found |= {
                Bundle(name=str(b), hemisphere=h) for b, h in zip(named["bundle"], named["hemisphere"], strict=True)
            }
        return tuple(sorted(found))

    @cached_property
    def findings(self) -> tuple[FindingView, ...]:
        """Findings with drawings and tables."""
        return tuple(_finding(finding, place) for place, finding in enumerate(self.report.findings))

    @cached_property
    def tables(self) -> tuple[TableView, ...]:
        """The bundle table of each estimator, the primary one first."""
        if self.report.table is None:
            return ()
        table = self.report.table
        return tuple(
            view(
                frame,
                slug(f"table-{method}") if method else "table",
                "Drop of each component with its interval"
                + (f", estimator: {method}" if method else "")
                + _counts(frame),
                table[table["method"] == method] if method else table,
            )
            for method, frame in by_bundle(self.report.table).items()
        )

    def _case(self, case: CasePicture) -> CaseView:
        made = self._picture(case, after=False)
        after = self._picture(case, after=True) if case.after is not None else None
        return CaseView(
            key=slug(f"case-{case.participant_id}-{case.bundle.label}" + (f"-{case.model}" if case.model else "")),
            case=case,
            svg=made if isinstance(made, str) else None,
            problem="" if isinstance(made, str) else str(made),
            alt=_describe(case, self.report.convention),
            status=_sentence(case.status),
            after=after if isinstance(after, str) else None,
            alt_after=_describe(replace(case, dice=case.dice_after), self.report.convention, "after fine-tuning "),
        )

    def _picture(self, case: CasePicture, *, after: bool) -> str | Exception:
        """The picture of a case, drawn once; the error where an image is damaged, which must not cost the report."""
        key = (id(case), after)
        if key not in self._pictures:
            self._pictures[key] = _picture_or_error(case, self.report.convention, after)
        return self._pictures[key]

    def _render(self, template: str, **values: Any) -> str:
        environment = _environment()
        script = _resource("report.js")
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        return environment.get_template(template).render(
            report=self.report,
            bundles=self.bundles,
            participants=self.participants,
            linked=self.linked,
            home=self.stem,
            version=__version__,
            styles=Markup(_resource("styles.css")),
            script=Markup(script),
            # Only the page's own script may run, whatever a name or a cell holds.
            policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
            run_key=hashlib.sha256(f"{self.report.title}{self.report.verdict}".encode()).hexdigest()[:12],
            **values,
        )


def page_name(bundle: Bundle) -> str:
    """File name of a bundle's page."""
    return f"bundle-{slug(bundle.label)}.html"


def spoken(bundle: Bundle) -> str:
    """A bundle's name as one says it."""
    return bundle.name if bundle.hemisphere == "none" else f"{bundle.name} {bundle.hemisphere}"


def participant_page_name(participant: str) -> str:
    """File name of a participant's page."""
    return f"participant-{slug(participant)}.html"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _resource(f"templates/{name}")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    filters: dict[str, Any] = {
        "number": number,
        "svg": Markup,
        "data_uri": _data_uri,
        "page_name": page_name,
        "participant_page": participant_page_name,
        "finite": math.isfinite,
        "doi": plain_doi,
    }
    environment.filters.update(filters)
    return environment


def _resource(name: str) -> str:
    return resources.files(__name__.rpartition(".")[0]).joinpath(name).read_text(encoding="utf-8")


def _data_uri(text: str, kind: str) -> str:
    # Percent encoding is shorter than base64 for text, and for pictures that are base64 inside already.
    return f"data:{kind};charset=utf-8,{quote(text, safe=_SAFE)}"


def _finding(finding: Finding, place: int) -> FindingView:
    drawn = finding.figure is not None
    key = slug(finding.key)
    return FindingView(
        key=key,
        finding=finding,
        wide=draw(finding, "page", f"f{place}w") if drawn else None,
        narrow=draw(finding, "column", f"f{place}n") if drawn else None,
        estimates=view(estimates_frame(finding.estimates), f"{key}-estimates", f"Estimates: {finding.title}")
        if finding.estimates
        else None,
        table=view(finding.table, f"{key}-data", f"Data: {finding.title}") if finding.table is not None else None,
    )


def _counts(frame: pd.DataFrame) -> str:
    counts = [f"{int(frame.attrs[name])} {name[2:]}" for name in ("n_patients", "n_controls") if name in frame.attrs]
    return f" ({' and '.join(counts)})" if counts else ""


def _picture_or_error(case: CasePicture, convention: Convention, after: bool) -> str | Exception:
    try:
        return picture(case, convention, after=after)
    except (ValueError, OSError) as error:
        return error


def _describe(case: CasePicture, convention: str, when: str = "") -> str:
    dice = f"Dice {case.dice:.2f}" if math.isfinite(case.dice) else "no Dice"
    distance = f", {case.distance_mm:.0f} mm from the tumor" if math.isfinite(case.distance_mm) else ""
    tumor = ", tumor dotted in yellow" if case.tumor is not None else ""
    return (
        f"Axial, coronal and sagittal slices of {case.participant_id} through {spoken(case.bundle)} "
        f"({dice}{distance}), "
        f"{convention} convention: reference as a solid blue outline, prediction {when}dashed in orange{tumor}."
    )


def _sentence(word: str) -> str:
    known = {status.value: status.sentence for status in Status}
    return known.get(word, word) if word != Status.OK else ""


def _overview(cases: list[CasePicture]) -> pd.DataFrame:
    frame = pd.DataFrame(
        [
            {
                "participant_id": case.participant_id,
                "bundle": case.bundle.name,
                "hemisphere": case.bundle.hemisphere,
                "model": case.model,
                "dice": case.dice,
                "dice_after": case.dice_after,
                "distance_mm": case.distance_mm,
                "status": case.status,
            }
            for case in cases
        ]
    )
    return frame.dropna(axis=1, how="all").loc[:, lambda kept: (kept != "").any()]


def _rows_of(table: TableView, bundle: Bundle) -> TableView | None:
    """The rows of a bundle table that are about one bundle and hemisphere."""
    titles = [header.title for header in table.headers]
    if not {"bundle", "hemisphere"} <= set(titles):
        return None
    b, h = titles.index("bundle"), titles.index("hemisphere")
    rows = tuple(row for row in table.rows if row[b].text == bundle.name and row[h].text in (bundle.hemisphere, "all"))
    if not rows:
        return None
    return replace(table, rows=rows)


def _provenance(content: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Nested lists of (name, text) and (name, list), in the order given."""
    nested: list[tuple[str, Any]] = []
    for name, value in content.items():
        if isinstance(value, Mapping):
            nested.append((str(name), _provenance(value)))  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, list | tuple):
            nested.append((str(name), ", ".join(str(item) for item in value) or "none"))  # pyright: ignore
        else:
            nested.append((str(name), str(value)))
    return nested
