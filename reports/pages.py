"""Pages from what a report says: what stands where, and the templates filled."""

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import resources
from importlib.metadata import version
from typing import Any, get_args
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup

from ..results import Finding
from ..types import Bundle, Hemisphere
from ..words import ESTIMATORS
from ..work import Work
from .cite import citation_bibtex, citation_markdown, methods_of, references_of
from .contents import PLACES, CasePicture, Contents
from .figures import Point
from .glossary import Glossary
from .naming import file_stem, page_name, participant_page_name, slug, spoken, volumes_name
from .niivue import Niivue, bundled, script_hash
from .rendering import Rendered, by_image, render
from .tables import Link, TableView, by_bundle, number, view
from .viewing import Viewer, side_files, viewer_of
from .views import FindingView, case_view, cases_table, finding_view, points_of, provenance_list, rows_of

LIMIT_BYTES = 8_000_000
"""What a page may take; reports with larger ones keep volumes and viewer in side files."""

# What text and drawings of a page, besides volumes and pictures, stay under.
_TEXT_BYTES = 3e6

_ALONE = Work(jobs=1)
# Left as they are in addresses of data: all that a quoted attribute may hold and a browser does not cut at.
_SAFE = "/:;,.=+ ()-!*"
_ESCAPES = {sign: quote(sign, safe=_SAFE) for sign in ["%", *map(chr, range(128))] if quote(sign, safe=_SAFE) != sign}
_BEYOND = re.compile(r"[^\x00-\x7f]+")


@dataclass(frozen=True)
class Pages:
    """All pages of one report.

    ``sisters`` says whether the other pages will lie beside the first, named ``stem``, so that it may link to them;
    ``asked`` whether volumes and viewer shall lie in side files, where None decides by the size of the pages.
    """

    report: Contents
    sisters: bool
    stem: str = "report.html"
    asked: bool | None = None
    work: Work = _ALONE

    @cached_property
    def _niivue(self) -> Niivue | None:
        return bundled()

    def files(self) -> Iterator[tuple[str, str | bytes]]:
        """Every file's path relative to the report's folder, with its content."""
        yield self.stem, self.main()
        for name in self.parts:
            yield f"reports/{name}.html", self.part_page(name)
        for bundle in self.bundles:
            yield f"reports/{page_name(bundle)}", self.bundle_page(bundle)
        for participant in self.participants:
            yield f"reports/{participant_page_name(participant)}", self.participant_page(participant)
        for one in (*self.findings, *(one for found in self.bundle_findings.values() for one in found)):
            for width, drawing in (("page", one.wide), ("column", one.narrow)):
                if drawing is not None:
                    yield f"figures/{file_stem(one.key, width)}.svg", drawing.standalone
                if drawing is not None and drawing.pdf:
                    yield f"figures/{file_stem(one.key, width)}.pdf", drawing.pdf
            if one.wide is not None and one.table is not None:
                yield f"figures/{one.key}.tsv", one.table.tsv
        yield "CITATION.md", citation_markdown(self.report)
        yield "CITATION.bib", citation_bibtex(self.report)
        if self.linked and self._niivue is not None and self._can_view:
            for name, text in side_files(self.images, self._niivue).items():
                yield f"reports/volumes/{name}", text

    def main(self) -> str:
        """The first page."""
        report = self.report
        return self._render(
            "report.html",
            **self._told,
            title=report.title,
            here=() if self.sisters else tuple(self.parts),
            tables=[self._leading(one) for one in self.tables],
            **self._shown(report.cases, "Every case, worst first", report.max_cases, "reports/"),
            scene=self._scene(report.cases[:1], folder="reports/"),
            bundled=self._niivue is not None,
        )

    @cached_property
    def parts(self) -> dict[str, str]:
        """Parts of the report that have a page of their own, or end the first page where there are no others."""
        cohort = {"cohort": "The cohort"} if self._placed["cohort"] else {}
        # A report of one study alone has nothing to put before what it found.
        more = {"more": "Further analyses"} if self._placed["further"] and self._placed["first"] else {}
        return {**cohort, **more, "data": "Data and checks", "methods": "Methods and provenance"}

    def part_page(self, name: str) -> str:
        """The page of one of the `parts`."""
        title = self.parts[name]
        return self._render(
            "part.html", viewer=None, **self._told, title=f"{title}: {self.report.title}", name=name, heading=title
        )

    @cached_property
    def _placed(self) -> dict[str, list[FindingView]]:
        return {place: [one for one in self.findings if one.finding.place == place] for place in PLACES}

    @cached_property
    def _told(self) -> dict[str, Any]:
        """What the first page and those of its parts are made from."""
        report, placed = self.report, self._placed
        return {
            **{name: found for name, found in placed.items() if name not in ("cohort", "data")},
            "placed_cohort": placed["cohort"],
            "placed_data": placed["data"],
            "parts_of_report": self.parts,
            "methods": methods_of(report.findings),
            "references": references_of(report),
            "citation": citation_markdown(report),
            "bibliography": citation_bibtex(report),
            "provenance": provenance_list(report.provenance),
            # A note that a finding already gives as a caveat need not be read twice.
            "notes": [note for note in report.notes if all(note not in one.caveats for one in report.findings)],
        }

    def bundle_page(self, bundle: Bundle) -> str:
        """The page of one bundle in one hemisphere."""
        cases = self._about(bundle)
        return self._render(
            "bundle.html",
            title=f"{bundle.label}: {self.report.title}",
            bundle=bundle,
            findings=self.bundle_findings[bundle],
            n_cases=len(cases),
            tables=[rows for table in self.tables if (rows := rows_of(table, bundle)) is not None],
            **self._shown(cases, f"Every case of {spoken(bundle)}, worst first", self.report.max_cases),
            scene=self._scene(cases[:1], spoken(bundle)),
        )

    def participant_page(self, participant: str) -> str:
        """The page of one participant."""
        cases = [case for case in self.report.cases if case.participant_id == participant]
        return self._render(
            "participant.html",
            title=f"{participant}: {self.report.title}",
            participant=participant,
            **self._shown(cases, f"Every case of {participant}, worst first", len(cases), detail=True),
            scene=self._scene(cases),
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
            pairs = zip(table["bundle"], table["hemisphere"], strict=True)
            found |= {Bundle(name=str(b), hemisphere=h) for b, h in pairs if b != "all" and h in get_args(Hemisphere)}
        return tuple(sorted(found))

    @cached_property
    def findings(self) -> tuple[FindingView, ...]:
        """Findings of the first page with drawings and tables."""
        return self._views[None]

    @cached_property
    def bundle_findings(self) -> dict[Bundle, tuple[FindingView, ...]]:
        """Findings of the bundles' pages."""
        return {bundle: self._views[bundle] for bundle in self.bundles}

    @cached_property
    def _views(self) -> dict[Bundle | None, tuple[FindingView, ...]]:
        """Findings of all pages, those of the first under None, drawn in several processes."""
        from joblib import delayed

        told: dict[Bundle | None, Sequence[Finding]] = {None: self.report.findings}
        if self.sisters:
            told |= {bundle: self.report.bundle_findings.get(bundle, ()) for bundle in self.bundles}
        # Figures are functions that need not travel to other processes with every task.
        bare = replace(self.report, findings=(), bundle_findings={}, cases=(), table=None)
        points = {page: self._points(self.report.cases if page is None else self._about(page)) for page in told}
        tasks = (
            delayed(finding_view)(finding, f"f{place}", bare, points[page])
            for page, findings in told.items()
            for place, finding in enumerate(findings)
        )
        drawn = iter(list(self.work.spread(tasks)))
        return {page: tuple(next(drawn) for _ in findings) for page, findings in told.items()}

    @cached_property
    def tables(self) -> tuple[TableView, ...]:
        """The bundle table of each estimator, the primary one first."""
        table = self.report.table
        if table is None:
            return ()
        return tuple(
            view(
                frame,
                slug(f"table-{method}") if method else "table",
                f"Drop of each component with its interval{_estimator(method, frame)}{_counts(frame)}",
                table[table["method"] == method] if method else table,
            )
            for method, frame in by_bundle(table, self.report.opening.decimals).items()
        )

    @cached_property
    def images(self) -> tuple[Rendered, ...]:
        """Pictures and volumes, one entry an image, made in several processes."""
        from joblib import delayed

        settings: dict[str, Any] = {"convention": self.report.convention, "volumes": self._niivue is not None}
        tasks = (delayed(render)(cases, **settings) for cases in by_image(self.report.cases).values())
        return tuple(self.work.spread(tasks))

    @cached_property
    def linked(self) -> bool:
        """Whether volumes and viewer lie in side files, as asked or because a page would grow too large."""
        if self.asked is not None or not self.sisters:
            return bool(self.asked) and self.sisters
        packs = [one.overview for one in self.images if one.overview is not None]
        if self._niivue is None or not packs:
            return False
        drawn = (one for image in self.images for one in image.drawn.values())
        pictures = sorted((len(one.svg or "") + len(one.after or "") for one in drawn), reverse=True)
        # Percent encoding makes pictures about a fifth longer.
        shown = 1.2 * sum(pictures[: self.report.max_cases])
        scene = max((image.scene.size for image in self.images if image.scene is not None), default=0)
        return len(self._niivue.base64) + sum(pack.size for pack in packs) + shown + scene + _TEXT_BYTES > LIMIT_BYTES

    @cached_property
    def _rendered(self) -> dict[str, tuple[str, Rendered]]:
        return {key: (volumes_name(place), one) for place, one in enumerate(self.images) for key in one.drawn}

    @cached_property
    def _can_view(self) -> bool:
        return any(one.overview is not None for one in self.images)

    def _about(self, bundle: Bundle) -> list[CasePicture]:
        return [case for case in self.report.cases if case.bundle == bundle]

    def _shown(
        self, cases: Sequence[CasePicture], caption: str, n_here: int, folder: str = "", *, detail: bool = False
    ) -> dict[str, Any]:
        """The first cases with their pictures, all of them in a table, and the viewer, for a page beside a folder."""
        here = cases[:n_here]
        # Pictures that stand on this page are nearer than those on the participant's.
        links = [Link(case=c.key, href=f"#{c.key}" if c in here else self._static(c, folder)) for c in cases]
        viewer = None
        if self._niivue is not None and cases:
            viewer = viewer_of(
                cases,
                self._rendered,
                self._niivue,
                detail=detail,
                folder=f"{folder}volumes/" if self.linked else "",
                static=lambda case: self._static(case, folder),
            )
        return {
            "cases": [case_view(c, self._rendered[c.key][1].drawn[c.key], self.report.convention) for c in here],
            "overview": cases_table(cases, caption, links) if cases else None,
            "viewer": viewer,
        }

    def _leading(self, table: TableView) -> TableView:
        """The table with each bundle leading to its page, where there are pages."""
        titles = [header.title for header in table.headers]
        if not self.sisters or not {"bundle", "hemisphere"} <= set(titles):
            return table
        place, side = titles.index("bundle"), titles.index("hemisphere")
        pages = {(one.name, one.hemisphere): Link(href=f"reports/{page_name(one)}") for one in self.bundles}
        links = tuple(pages.get((row[place].text, row[side].text)) for row in table.rows)
        return replace(table, links=links, linked=place)

    def _scene(self, cases: Sequence[CasePicture], bundle: str = "", folder: str = "") -> dict[str, Any] | None:
        """The surfaces of a participant, of whom the first case is; ``bundle`` alone is shown at first, if named."""
        found = self._rendered[cases[0].key][1].scene if cases else None
        if found is None:
            return None
        pages = {spoken(one): f"{folder}{page_name(one)}" for one in self.bundles} if self.sisters else {}
        who = cases[0].participant_id
        return {"scene": found, "content": Markup(found.content), "who": who, "bundle": bundle, "pages": pages}

    def _static(self, case: CasePicture, folder: str) -> str:
        """Where the static picture of a case stands, seen from a page; on the page itself without other pages."""
        page = f"{folder}{participant_page_name(case.participant_id)}" if self.sisters else ""
        return f"{page}#{case.key}"

    def _points(self, cases: Sequence[CasePicture]) -> list[Point]:
        # A point leads to the viewer or to the participant's page; with neither, it would lead nowhere.
        return points_of(cases) if self._can_view or self.sisters else []

    def _render(self, template: str, *, viewer: Viewer | None, scene: Any = None, **values: Any) -> str:
        script = _resource("report.js") + (_resource("viewer.js") if viewer is not None else "")
        script += _resource("surfaces.js") if scene is not None else ""
        # Ratings are kept in the browser under this key: pages of one run share them, pages of others do not.
        told = f"{self.report.title}{self.report.verdict}"
        glossary = Glossary()
        return (
            _environment()
            .get_template(template)
            .render(
                explained=glossary.explained,
                glossary=glossary,
                report=self.report,
                bundles=self.bundles,
                participants=self.participants,
                sisters=self.sisters,
                home=self.stem,
                version=version("shiftkit"),
                styles=Markup(_resource("styles.css")),
                script=Markup(script),
                viewer=viewer,
                scene=scene,
                policy=_policy(script, viewer, self._niivue),
                run_key=hashlib.sha256(told.encode()).hexdigest()[:12],
                **values,
            )
        )


def _policy(script: str, viewer: Viewer | None, niivue: Niivue | None) -> str:
    """Only the page's own script and the viewer's may run, whatever a name or a cell holds."""
    scripts = [script_hash(script)]
    if viewer is not None and niivue is not None:
        scripts.append("file:" if viewer.folder else script_hash(niivue.source))
    # niivue reads the font and the pictures that it carries within itself through data: and blob: addresses.
    own = " connect-src data: blob:;" if viewer is not None else ""
    images = "data: blob:" if viewer is not None else "data:"
    return f"default-src 'none'; img-src {images};{own} style-src 'unsafe-inline'; script-src {' '.join(scripts)}"


def _estimator(method: str, frame: pd.DataFrame) -> str:
    what = frame.attrs.get("estimand", "")
    return f", estimator: {ESTIMATORS.get(method, method)}{f' ({what})' if what else ''}" if method else ""


def _counts(frame: pd.DataFrame) -> str:
    counts = [f"{int(frame.attrs[name])} {name[2:]}" for name in ("n_patients", "n_controls") if name in frame.attrs]
    return f" ({' and '.join(counts)})" if counts else ""


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _resource(f"templates/{name}")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    told: dict[str, Any] = {"number": number, "finite": math.isfinite, "spoken": spoken, "breakable": _breakable}
    places: dict[str, Any] = {"page_name": page_name, "participant_page": participant_page_name, "data_uri": _data_uri}
    environment.filters.update({"svg": Markup, **told, **places})
    return environment


@cache
def _resource(name: str) -> str:
    return resources.files(__name__.rpartition(".")[0]).joinpath(name).read_text(encoding="utf-8")


def _breakable(text: str) -> Markup:
    """Long words of tables may break after an underscore."""
    return Markup("_<wbr>").join(text.split("_"))


def _data_uri(text: str, kind: str) -> str:
    # Percent encoding is shorter than base64 for text, and for pictures that are base64 inside already. Sign by sign:
    # `quote` looks at every letter, which took most of a page's time.
    for sign, escape in _ESCAPES.items():  # the percent sign first
        text = text.replace(sign, escape)
    return f"data:{kind};charset=utf-8,{_BEYOND.sub(lambda found: quote(found[0]), text)}"
