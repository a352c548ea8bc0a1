"""Pages from a report: what stands where, and the templates filled."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from ..types import Bundle
from ..version import __version__
from ..work import Work, in_parallel
from .cases import CasePicture
from .cite import citation_bibtex, citation_markdown, methods_of, plain_doi
from .figures import Point
from .naming import case_key, file_stem, page_name, participant_page_name, slug, spoken
from .niivue import bundled, script_hash
from .rendering import Rendered, by_image, render
from .slices import LEGEND as SLICES_LEGEND
from .slices import slices_name, slices_page
from .tables import Link, TableView, by_bundle, number, view
from .viewing import Viewer, side_files, viewer_of, volumes_name
from .views import FindingView, case_view, cases_table, finding_view, points_of, provenance_list, rows_of

if TYPE_CHECKING:
    import pandas as pd

    from .report import Report

LIMIT_BYTES = 15_000_000
"""What a page may take; reports with larger ones keep volumes and viewer in side files."""

_SAFE = "/:;,.=+ ()-!*"
_LEADING = ("decomposition", "recovery", "bundles")
_SIDE = "reports/volumes/"


class Pages:
    """All pages of one report.

    Parameters
    ----------
    report : Report
        What to render.
    sisters : bool
        Whether the other pages will lie beside the first, so that it may link to them.
    stem : str
        File name of the first page.
    linked : bool or None
        Whether volumes and viewer lie in side files; None decides by the size of the pages.
    work : Work
        Processes that work on images.
    """

    def __init__(
        self,
        report: "Report",
        *,
        sisters: bool,
        stem: str = "report.html",
        linked: bool | None = None,
        work: Work = Work(jobs=1),
    ) -> None:
        self.report = report
        self.sisters = sisters
        self.stem = stem
        self._asked = linked
        self._work = work

    def files(self) -> Iterator[tuple[str, str]]:
        """Every file's path relative to the report's folder, with its text."""
        yield self.stem, self.main()
        for bundle in self.bundles:
            yield f"reports/{page_name(bundle)}", self.bundle_page(bundle)
        for participant in self.participants:
            yield f"reports/{participant_page_name(participant)}", self.participant_page(participant)
        every = [*self.findings, *(one for bundle in self.bundles for one in self.bundle_findings[bundle])]
        for one in every:
            for width, drawing in (("page", one.wide), ("column", one.narrow)):
                if drawing is not None:
                    yield f"figures/{file_stem(one.key, width)}.svg", drawing.standalone
        if self._by_slices:
            for case in self.report.cases[: self.report.max_cases]:
                if self._rendered[case_key(case)][1].drawn[case_key(case)].svg:
                    yield slices_name(case_key(case)), slices_page(case, case_key(case), self.report.convention)
        yield "CITATION.md", citation_markdown(self.report)
        yield "CITATION.bib", citation_bibtex(self.report)
        niivue = bundled()
        if self.linked and niivue is not None and self._can_view:
            for name, text in side_files(self.images, niivue).items():
                yield f"{_SIDE}{name}", text

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
            overview=self._overview(report.cases, "Every case, worst first", "reports/", report.max_cases),
            viewer=self._viewer(report.cases, "reports/"),
            methods=methods_of(report.findings),
            citation=citation_markdown(report),
            bibliography=citation_bibtex(report),
            provenance=provenance_list(report.provenance),
            # A note that a finding already gives as a caveat need not be read twice.
            notes=[note for note in report.notes if all(note not in one.caveats for one in report.findings)],
        )

    def bundle_page(self, bundle: Bundle) -> str:
        """The page of one bundle in one hemisphere."""
        cases = [case for case in self.report.cases if case.bundle == bundle]
        shown = cases[: self.report.max_cases]
        return self._render(
            "bundle.html",
            title=f"{bundle.label}: {self.report.title}",
            bundle=bundle,
            findings=self.bundle_findings[bundle],
            cases=[self._case(case) for case in shown],
            n_cases=len(cases),
            tables=[t for t in (rows_of(table, bundle) for table in self.tables) if t is not None],
            overview=self._overview(cases, f"Every case of {spoken(bundle)}, worst first", "", len(shown)),
            viewer=self._viewer(cases, ""),
        )

    def participant_page(self, participant: str) -> str:
        """The page of one participant."""
        cases = [case for case in self.report.cases if case.participant_id == participant]
        return self._render(
            "participant.html",
            title=f"{participant}: {self.report.title}",
            participant=participant,
            cases=[self._case(case) for case in cases],
            overview=self._overview(cases, f"Every case of {participant}, worst first", "", len(cases)),
            viewer=self._viewer(cases, "", detail=True),
        )

    @cached_property
    def participants(self) -> tuple[str, ...]:
        """The participants that have a page."""
        return tuple(sorted({case.participant_id for case in self.report.cases}))

    @cached_property
    def bundles(self) -> tuple[Bundle, ...]:
        """The bundles that have a page."""
        found = {case.bundle for case in self.report.cases} | set(self.report.bundle_findings)
        table = self.report.table
        if table is not None and {"bundle", "hemisphere"} <= set(table):
            named = table[(table["bundle"] != "all") & table["hemisphere"].isin(["left", "right", "none"])]
            found |= {
                Bundle(name=str(b), hemisphere=h) for b, h in zip(named["bundle"], named["hemisphere"], strict=True)
            }
        return tuple(sorted(found))

    @cached_property
    def findings(self) -> tuple[FindingView, ...]:
        """Findings of the first page with drawings and tables."""
        points = self._points(self.report.cases)
        return tuple(
            finding_view(finding, f"f{place}", self.report.figures, points)
            for place, finding in enumerate(self.report.findings)
        )

    @cached_property
    def bundle_findings(self) -> dict[Bundle, tuple[FindingView, ...]]:
        """Findings of the bundles' pages, drawn in several processes: glass brains take long."""
        from joblib import delayed

        told = [
            (bundle, place, finding)
            for bundle in self.bundles
            for place, finding in enumerate(self.report.bundle_findings.get(bundle, ()))
        ]
        points = {
            bundle: self._points([case for case in self.report.cases if case.bundle == bundle])
            for bundle in self.bundles
        }
        tasks = (
            delayed(finding_view)(finding, f"f{place}", self.report.figures, points[bundle])
            for bundle, place, finding in told
        )
        drawn = list(in_parallel(tasks, self._work.jobs))
        return {
            bundle: tuple(view for (about, _, _), view in zip(told, drawn, strict=True) if about == bundle)
            for bundle in self.bundles
        }

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

    @cached_property
    def images(self) -> tuple[Rendered, ...]:
        """Pictures and volumes, one entry an image, made in several processes."""
        from joblib import delayed

        groups = by_image(self.report.cases).values()
        volumes = bundled() is not None
        tasks = (delayed(render)(cases, self.report.convention, volumes=volumes) for cases in groups)
        return tuple(in_parallel(tasks, self._work.jobs))

    @cached_property
    def linked(self) -> bool:
        """Whether volumes and viewer lie in side files, as asked or because a page would grow too large."""
        if self._asked is not None or not self.sisters:
            return bool(self._asked) and self.sisters
        niivue = bundled()
        packs = [one.overview for one in self.images if one.overview is not None]
        if niivue is None or not packs:
            return False
        pictures = sorted((len(one.svg or "") + len(one.after or "") for one in self._drawn), reverse=True)
        # Text and drawings of a page, besides volumes and pictures, stay under three megabytes.
        total = len(niivue.base64) + sum(pack.size for pack in packs) + 1.2 * sum(pictures[: self.report.max_cases])
        return total + 3e6 > LIMIT_BYTES

    @property
    def _drawn(self) -> list[Any]:
        return [drawn for one in self.images for drawn in one.drawn.values()]

    @cached_property
    def _rendered(self) -> dict[str, tuple[str, Rendered]]:
        return {key: (volumes_name(place), one) for place, one in enumerate(self.images) for key in one.drawn}

    @cached_property
    def _can_view(self) -> bool:
        return any(one.overview is not None for one in self.images)

    @property
    def _by_slices(self) -> bool:
        """Whether nilearn's viewer takes niivue's place: on pages beside the first one, for the worst cases."""
        return bundled() is None and self.sisters

    def _case(self, case: CasePicture) -> Any:
        return case_view(case, self._rendered[case_key(case)][1].drawn[case_key(case)], self.report.convention)

    def _viewer(self, cases: Sequence[CasePicture], folder: str, *, detail: bool = False) -> Viewer | None:
        niivue = bundled()
        if niivue is None or not cases:
            return None
        return viewer_of(
            cases,
            self._rendered,
            niivue,
            detail=detail,
            linked=self.linked,
            folder=f"{folder}volumes/" if self.linked else "",
            static=lambda case: self._static(case, folder),
        )

    def _static(self, case: CasePicture, folder: str) -> str:
        """Where the static picture of a case stands, seen from a page; on the page itself without other pages."""
        page = f"{folder}{participant_page_name(case.participant_id)}" if self.sisters else ""
        return f"{page}#{case_key(case)}"

    def _overview(self, cases: Sequence[CasePicture], caption: str, folder: str, n_here: int) -> TableView | None:
        if not cases:
            return None
        # Pictures that stand on this page are nearer than those on the participant's.
        links = [
            Link(case=case_key(case), href=f"#{case_key(case)}" if place < n_here else self._static(case, folder))
            for place, case in enumerate(cases)
        ]
        return cases_table(cases, caption, links)

    def _points(self, cases: Sequence[CasePicture]) -> list[Point]:
        return points_of(cases) if self._can_view or self.sisters else []

    def _render(self, template: str, *, viewer: Viewer | None, **values: Any) -> str:
        script = _resource("report.js") + (_resource("viewer.js") if viewer is not None else "")
        return (
            _environment()
            .get_template(template)
            .render(
                report=self.report,
                bundles=self.bundles,
                participants=self.participants,
                sisters=self.sisters,
                home=self.stem,
                version=__version__,
                styles=Markup(_resource("styles.css")),
                script=Markup(script),
                viewer=viewer,
                slices=SLICES_LEGEND if self._by_slices else "",
                policy=_policy(script, viewer),
                run_key=hashlib.sha256(f"{self.report.title}{self.report.verdict}".encode()).hexdigest()[:12],
                **values,
            )
        )


def _policy(script: str, viewer: Viewer | None) -> str:
    """Only the page's own script and the viewer's may run, whatever a name or a cell holds."""
    scripts = [script_hash(script)]
    niivue = bundled()
    if viewer is not None and niivue is not None:
        scripts.append("file:" if viewer.folder else niivue.policy)
    # niivue reads the font and the pictures that it carries within itself through data: and blob: addresses.
    own = " connect-src data: blob:;" if viewer is not None else ""
    images = "data: blob:" if viewer is not None else "data:"
    return f"default-src 'none'; img-src {images};{own} style-src 'unsafe-inline'; script-src {' '.join(scripts)}"


def _counts(frame: "pd.DataFrame") -> str:
    counts = [f"{int(frame.attrs[name])} {name[2:]}" for name in ("n_patients", "n_controls") if name in frame.attrs]
    return f" ({' and '.join(counts)})" if counts else ""


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
        "spoken": spoken,
        "slices": slices_name,
        "breakable": _breakable,
    }
    environment.filters.update(filters)
    return environment


def _resource(name: str) -> str:
    return resources.files(__name__.rpartition(".")[0]).joinpath(name).read_text(encoding="utf-8")


def _breakable(text: str) -> Markup:
    """Long words of tables may break after an underscore."""
    return Markup("_<wbr>").join(text.split("_"))


def _data_uri(text: str, kind: str) -> str:
    # Percent encoding is shorter than base64 for text, and for pictures that are base64 inside already.
    return f"data:{kind};charset=utf-8,{quote(text, safe=_SAFE)}"
