"""A reader who has only ``decomposition.tsv``, ``run.json`` and the page of a run, and derives every word anew.

It shares no code with what writes them: intervals, p-values, words, statuses, sentences and differences between
estimators are compared as a reviewer would.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd

SAID = {
    ("total", "shown"): "Patients are worse than controls",
    ("total", "negative"): "Patients are better than controls",
    ("total", "not_shown"): "Patients are not shown to differ from controls",
    ("systematic", "shown"): "is systematic",
    ("systematic", "negative"): "far from the tumor they are better",
    ("systematic", "negligible"): "the systematic part is negligible",
    ("systematic", "not_shown"): "a systematic part is not shown",
    ("tumor", "worse_near"): "comes on top near the tumor",
    ("tumor", "better_near"): "near the tumor they are better",
    ("tumor", "not_shown"): "an effect of the tumor's proximity is not shown",
}
SIDE = {"shown": 1, "worse_near": 1, "negative": -1, "better_near": -1, "not_shown": 0, "negligible": 0}
NAMES = {"total": "the total drop", "systematic": "the systematic part", "tumor": "the tumor's part"}
REASONS = {
    "reference_absent": "the reference lacks the bundle",
    "both_absent": "neither reference nor prediction holds the bundle",
    "level_too_rare": "fewer than 5 controls have the bundle",
    "unavailable": "no prediction was written",
}
STATUSES = (
    *("reference_absent", "both_absent", "level_too_rare", "too_few", "too_few_for_split", "split_withheld"),
    *("near_field_unmeasured", "far_field_unmeasured", "no_tumor_effect_shown", "not_converged", "not_finite"),
)
_NUMBER = r"[−\d.]+"
_INTERVAL = rf"({_NUMBER})(?: %)? \[({_NUMBER}), ({_NUMBER})\]"
_RANGE = rf"between ({_NUMBER}) and ({_NUMBER}) \[({_NUMBER}), ({_NUMBER})\]"


class Page(HTMLParser):
    """What a browser shows of a report: the text of each section, the cells of each table, the files to download."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text: dict[str, str] = {}
        self.cells: dict[str, list[list[str]]] = {}
        self.files: dict[str, str] = {}
        self._sections: list[str] = []
        self._table, self._cell, self._mute = "", False, False
        self.feed(html)
        self.text = {key: re.sub(r"\s+", " ", text).strip() for key, text in self.text.items()}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Sections, tables and files begin here."""
        given = {name: value or "" for name, value in attrs}
        self._mute = self._mute or tag in ("script", "style", "svg")
        if tag == "section":
            self._sections.append(given.get("id", ""))
        if tag == "div" and "table" in given.get("class", "").split():
            self._table = given["id"]
            self.cells[self._table] = []
        if tag == "tr" and self._table:
            self.cells[self._table].append([])
        if tag in ("td", "th") and self._table:
            self._cell = True
            self.cells[self._table][-1].append("")
        if tag == "a" and "download" in given and given["href"].startswith("data:"):
            self.files[given["download"]] = unquote(given["href"].split(",", 1)[1])

    def handle_endtag(self, tag: str) -> None:
        """And end here."""
        self._mute = self._mute and tag not in ("script", "style", "svg")
        if tag == "section":
            self._sections.pop()
        if tag == "table":
            self._table = ""
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        """Text goes to each section and to the cell that it stands in."""
        if self._mute:
            return
        for section in self._sections:
            self.text[section] = self.text.get(section, "") + data
        if self._cell:
            self.cells[self._table][-1][-1] += data

    def frame(self, name: str) -> pd.DataFrame:
        """A table that the page offers; empty where it has none."""
        return _read(self.files[name]) if name in self.files else pd.DataFrame()


def _read(text: str) -> pd.DataFrame:
    return pd.read_csv(StringIO(text), sep="\t", na_values=["n/a"], keep_default_na=False)


def contradictions_of(folder: Path) -> list[str]:
    """Everything in a run's folder that does not go together."""
    table = _read((folder / "tables" / "decomposition.tsv").read_text(encoding="utf-8"))
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    pages = [folder / "report.html", *(folder / "reports" / f"{name}.html" for name in ("more", "data", "methods"))]
    shown = "".join(page.read_text(encoding="utf-8") for page in pages if page.is_file())
    counted = _read((folder / "tables" / "entered.tsv").read_text(encoding="utf-8")).to_dict("records")
    dictionary = json.loads((folder / "tables" / "decomposition.json").read_text(encoding="utf-8"))
    unlike = _when(dictionary["Entered"] != counted, "the table's dictionary counts otherwise")
    return contradictions(table, record, shown) + unlike


def contradictions(table: pd.DataFrame, record: dict[str, Any], html: str) -> list[str]:
    """Everything in a table of components, a record and a page that does not go together; reads nothing else."""
    return list(_Reader(table=table, record=record, page=Page(html)).problems())


@dataclass
class _Reader:
    table: pd.DataFrame
    record: dict[str, Any]
    page: Page
    primary: pd.DataFrame = field(init=False)
    pooled: dict[str, dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.primary = self.table[self.table["method"] == "anchored"]
        source = self.primary[self.primary["model"] == self.primary["model"].iloc[0]]
        rows = source[source["bundle"] == "all"].to_dict("records")
        self.pooled = {row["component"]: row for row in rows}
        self.margin = float(self.record["split"]["margin"])
        self.alpha = 1 - float(source["level"].iloc[0])
        self.sentence = str(self.record["verdict"])
        self.bounded = source["metric"].iloc[0] in ("dice", "nsd", "iou", "sensitivity", "precision")

    def problems(self) -> Iterator[str]:
        for row in self.primary.to_dict("records"):
            yield from (f"{row['model']} {row['bundle']} {row['component']}: {one}" for one in self._row(row))
        for _, rows in self.primary.groupby(["model", "bundle", "hemisphere"]):
            yield from self._sums({row["component"]: row for row in rows.to_dict("records")})
        for part in (
            self._record,
            self._verdict,
            self._lengths,
            self._bundles,
            self._agreement,
            self._sensitivity,
            self._recovery,
            self._shells,
            self._targets,
            self._cells,
            self._entered,
        ):
            yield from (f"{part.__name__[1:]}: {one}" for one in part())

    def _row(self, row: dict[str, Any]) -> Iterator[str]:
        """Word, interval, p, status, bounds and point of one primary row."""
        if not np.isfinite(row["low"]):
            yield from _when(row["word"] == row["word"], "a word without an interval")
            yield from _when(row["status"] == "ok", "ok without a number")
            return
        side = 1 if row["low"] > 0 else -1 if row["high"] < 0 else 0
        yield from _when(SIDE.get(row["word"], 9) != side, f"word {row['word']}")
        p = row["p_value"] if row["bundle"] == "all" else row["p_adjusted"]
        yield from _when((p <= self.alpha) != (side != 0), f"p {p}")
        wide = row["bound_high"] - row["bound_low"] > self.margin
        yield from _when((row["status"] == "range") != wide, f"status {row['status']}")
        yield from _when(wide == np.isfinite(row["estimate"]), "a point of a range")
        ends = (row["bound_low"], row["estimate"], row["bound_high"])
        inside = all(row["low"] - 1e-9 <= one <= row["high"] + 1e-9 for one in ends if np.isfinite(one))
        yield from _when(not inside, "an interval without its range or point")
        small = max(-row["low"], row["high"]) < self.margin and self._drop > 2 * self.margin
        own = row["model"] == self.pooled["total"]["model"] and row["bundle"] == "all"
        if own and row["component"] == "systematic":
            yield from _when(small and side == 0 and row["word"] != "negligible", "negligible is not said")
        if row["word"] == "negligible":
            yield from _when(row["high"] - row["low"] > 4 * self.margin, "negligible, and wide")
        few = row["n_patients"] < 20
        yield from _when((row["exploratory"] == "yes") != few, f"exploratory {row['exploratory']}")

    @property
    def _notes(self) -> str:
        """What is said of the run, wherever on its pages: notes, what stays unknown, cohorts, the main finding."""
        places = ("notes", "unknown", "origin", "cohorts", "decomposition")
        return "".join(self.page.text.get(place, "") for place in places)

    @property
    def _drop(self) -> float:
        return float(self.pooled["total"]["estimate"])

    def _sums(self, rows: dict[str, dict[str, Any]]) -> Iterator[str]:
        if not {"total", "systematic", "tumor"} <= set(rows):
            return
        total, far, near = rows["total"], rows["systematic"], rows["tumor"]
        gap = total["estimate"] - far["estimate"] - near["estimate"]
        yield from _when(abs(gap) > 1e-8, f"parts of {total['bundle']} do not add up")
        gap = total["estimate"] - far["bound_low"] - near["bound_high"]
        yield from _when(abs(gap) > 1e-8, f"bounds of {total['bundle']} do not add up")
        ranges = {far["status"], near["status"]}
        yield from _when(ranges == {"range", "ok"}, f"one part of {total['bundle']} alone is a range")

    def _record(self) -> Iterator[str]:
        told = self.record["split"]
        yield from _when(self.page.text["verdict"] != self.sentence, "other verdict on the page")
        for name, row in self.pooled.items():
            part = told["components"].get(name)
            if part is None:
                yield f"{name} lacks in the record"
                continue
            for key, column in {"value": "estimate", "low": "low", "high": "high", "p_value": "p_value"}.items():
                one, other = (np.nan if part[key] is None else part[key]), row[column]
                yield from _when(not np.isclose(one, other, rtol=1e-8, atol=1e-12, equal_nan=True), f"{name} {key}")
            yield from _when(part["word"] != ("n/a" if row["word"] != row["word"] else row["word"]), f"{name} word")
            yield from _when(part["status"] != row["status"], f"{name} status")
        for one in self.record["estimates"]:
            row = self.pooled.get(one["name"])
            value = np.nan if one["value"] is None else one["value"]
            if row is not None and not np.isclose(value, row["estimate"], equal_nan=True):
                yield f"{one['name']} is another number among the estimates"
        status = self.pooled["systematic"]["status"]
        yield from _when(told["status"] != status, f"status {told['status']}")

    def _verdict(self) -> Iterator[str]:
        """The sentence says of each part what its interval says, with its numbers, and nothing of a withheld one."""
        first = self.sentence.split("; fine-tuning")[0]
        for (component, word), phrase in SAID.items():
            row = self.pooled[component]
            derived = np.isfinite(row["low"]) and row["word"] == word
            yield from _when(derived != (phrase in first), f"{component}: {phrase}")
        few = self.pooled["total"]["n_patients"] < 20 and np.isfinite(self.pooled["total"]["low"])
        yield from _when(few != ("this is exploratory" in self.sentence), "exploratory")
        if self.pooled["systematic"]["status"] == "far_field_unmeasured":
            yield from _when(" would give one" not in self.sentence, "nothing is said to help")
        told = re.findall(rf"{_RANGE}|{_INTERVAL}", first)
        given = [name for name in ("total", "systematic", "tumor") if np.isfinite(self.pooled[name]["low"])]
        if len(told) != len(given):
            yield f"{len(told)} numbers for {len(given)} parts"
            return
        for name, groups in zip(given, told, strict=True):
            row = self.pooled[name]
            numbers = [one for one in groups if one]
            columns = ["low", "high"]
            columns = (["bound_low", "bound_high"] if row["status"] == "range" else ["estimate"]) + columns
            yield from self._numbers(name, row, columns, numbers)

    def _numbers(self, name: str, row: dict[str, Any], columns: list[str], told: list[str]) -> Iterator[str]:
        """Printed numbers are those of the table, and rounding hides no word; what is better is told turned round."""
        if len(told) != len(columns):
            yield f"{name}: {told} for {columns}"
            return
        values = [row[one] for one in columns]
        if not self.bounded:
            values = [100 * np.expm1(one) for one in values]
        if row["word"] in ("negative", "better_near"):
            point = values[: len(values) - 2]
            values = [-one for one in (*point[::-1], values[-1], values[-2])]
        for value, text in zip(values, told, strict=True):
            digits = len(text.partition(".")[2])
            printed = float(text.replace("−", "-"))
            yield from _when(abs(printed - value) > 0.5000001 * 10.0**-digits, f"{name}: {text} is {value:.4g}")
        if SIDE[row["word"]]:
            yield from _when(float(told[-2].replace("−", "-")) <= 0, f"{name}: rounding hides {row['word']}")

    def _lengths(self) -> Iterator[str]:
        """A decay length only where harm near the tumor is shown, and by an exponential that fades from harm."""
        found = {one["name"]: one for one in self.record["estimates"]}
        given = found["decay_length"]["value"] is not None
        shown = self.pooled["tumor"]["word"] == "worse_near"
        yield from _when(given and not shown, "a decay length without harm near the tumor")
        # Runs without drawings have no first screen, and no section of numbers below it.
        text = self.page.text.get("distance-numbers", self.page.text["distance"])
        yield from _when(given != ("its decay length is" in text), "the page and the record differ on the decay length")
        rows = self.table[(self.table["method"] == "exponential") & (self.table["component"] == "tumor")]
        rows = rows[rows["model"] == self.pooled["total"]["model"]]
        yield from _when(given and not (rows["estimate"] > 0).all(), "the decay length of a gain")

    def _bundles(self) -> Iterator[str]:
        text = self.page.text["bundles"]
        rows = self.primary[self.primary["model"] == self.pooled["total"]["model"]]
        rows = rows[(rows["bundle"] != "all") & (rows["component"] == "total") & np.isfinite(rows["low"])]
        if not len(rows):
            yield from _when("No bundle has enough participants" not in text, "a bundle without a number")
            return
        top = rows.sort_values("estimate", ascending=False).iloc[0]
        shown = "The largest drop is in" in text
        yield from _when(shown != (top["low"] > 0), f"the largest drop, {top['word']}")
        yield from _when(f"{top['bundle']} {top['hemisphere']}: " not in text, f"{top['bundle']} is not named")

    def _agreement(self) -> Iterator[str]:
        """Differences are those of the table's estimates, p goes with the interval, and the words with both."""
        frame = self.page.frame("agreement-data.tsv")
        if not len(frame):
            return
        model = self.pooled["total"]["model"]
        for row in frame[frame["status"] == "ok"].to_dict("records"):
            name = f"{row['method']} {row['component']}"
            side = row["low"] > 0 or row["high"] < 0
            yield from _when((row["p_value"] <= self.alpha) != side, f"{name}: p {row['p_value']}")
            yield from _when(row["p_adjusted"] < row["p_value"] - 1e-12, f"{name}: adjusted below its p")
            mine = self.pooled[row["component"]]
            if row["rows"] != "all" or self.pooled["tumor"]["word"] == "better_near":
                continue  # of other rows, or beside another pair
            other = self.table[(self.table["method"] == row["method"]) & (self.table["component"] == row["component"])]
            theirs = float(other.loc[other["model"] == model, "estimate"].iloc[0])
            if mine["status"] == "range":
                low, high = mine["bound_low"], mine["bound_high"]
                expected = theirs - np.clip(theirs, low, high)
            else:
                expected = theirs - mine["estimate"]
            yield from _when(
                abs(row["difference"] - expected) > 1e-7, f"{name}: {row['difference']:.4g} for {expected:.4g}"
            )
        apart = frame[frame["p_adjusted"] <= self.alpha]
        text, notes = self.page.text["agreement"], self._notes
        yield from _when(bool(len(apart)) != ("These differ from the primary estimate" in text), "the claim")
        for row in frame.to_dict("records"):
            said = f"The estimators disagree on the {row['component']} part: {row['method']} says" in notes
            yield from _when(said != bool(row["p_adjusted"] <= self.alpha), f"the note on {row['method']}")

    def _sensitivity(self) -> Iterator[str]:
        """Other choices of the same estimand give the claim's ends; p goes with the interval."""
        frame = self.page.frame("sensitivity-data.tsv")
        if not len(frame):
            return
        for row in frame[(frame["method"] == "anchored") & np.isfinite(frame["p_value"])].to_dict("records"):
            side = row["low"] > 0 or row["high"] < 0
            yield from _when((row["p_value"] <= self.alpha) != side, f"{row['analysis']}: p {row['p_value']}")
        text = self.page.text["sensitivity"]
        told = re.search(rf"lies between ({_NUMBER}) and ({_NUMBER})", text)
        # What rounds to one number is no range.
        yield from _when(told is not None and told[1] == told[2], "a range between a number and itself")
        told = told or re.search(rf"stays at ({_NUMBER})()", text)
        same = frame[(frame["component"] == "systematic") & (frame["estimand"] == "same")]["estimate"].dropna()
        yield from _when((told is None) != same.empty, "a claim without a number")
        if told is not None and self.bounded and len(same):
            ends = [float(one.replace("−", "-")) for one in (told[1], told[2] or told[1])]
            digits = len(told[1].partition(".")[2])
            near = np.abs(np.array(ends) - [same.min(), same.max()]) <= 0.5000001 * 10.0**-digits
            yield from _when(not near.all(), "ends of the claim")

    def _recovery(self) -> Iterator[str]:
        """What is said to be removed, added or not shown is what the intervals of the recovery table say."""
        frame = self.page.frame("recovery-data.tsv")
        if not len(frame):
            return
        for model, rows in frame.groupby("model", sort=False):
            clause = f"Fine-tuning ({str(model).rsplit('+', 1)[-1]})"
            said = self.page.text["recovery"].partition(clause)[2].partition(" Fine-tuning (")[0]
            verdict = self.sentence.partition(clause.replace("F", "f", 1))[2].partition("; fine-tuning (")[0]
            for row in rows[rows["component"].isin(list(NAMES))].to_dict("records"):
                finite = np.isfinite(row["recovered"])
                low, high = (row["low"], row["high"]) if finite else (row["difference_low"], row["difference_high"])
                word = "repaired" if low > 0 else "worsened" if high < 0 else "hidden" if np.isfinite(low) else "n/a"
                for text in [said] if row["component"] == "total" else [said, verdict]:
                    found = _repairs(text).get(NAMES[row["component"]], "n/a")
                    yield from _when(found != word, f"{model} {row['component']}: {found} for {word}")
                    if not finite and word in ("repaired", "worsened"):
                        told = self._change(row, word)
                        yield from _when(told not in text, f"{model} {row['component']}: {told} is not told")

    def _change(self, row: dict[str, Any], word: str) -> str:
        """What fine-tuning changes where it is no share: as many decimals as the drop itself, unless they hide 0."""
        value, low, high = (row[name] for name in ("difference", "difference_low", "difference_high"))
        if word == "worsened":
            value, low, high = -value, -high, -low
        ends = [one if self.bounded else 100 * np.expm1(one) for one in (value, low, high)]
        digits = 1 if not self.bounded else 2 if abs(self._drop) >= 0.1 else 3
        while digits < 6 and round(min(abs(one) for one in ends[1:]), digits) == 0:
            digits += 1
        return "{} [{}, {}]".format(*(f"{one:z.{digits}f}".replace("-", "−") for one in ends))

    def _shells(self) -> Iterator[str]:
        rows = self.table[(self.table["method"] == "shell") & (self.table["bundle"] == "all")].set_index("component")
        if not len(rows) or "shells" not in self.page.text:
            return
        text = self.page.text["shells"]
        for name, phrase in (("systematic", "is there far from the tumor too"), ("tumor", "comes on top near it")):
            low = float(rows.loc[name, "low"])
            yield from _when((phrase in text) != (low > 0), f"{phrase}: low {low}")

    def _targets(self) -> Iterator[str]:
        if "acquisition" not in self.pooled or not np.isfinite(self.pooled["acquisition"]["low"]):
            return
        notes = self._notes
        for name, after in (("acquisition", r"makes up "), ("disease", r"; ")):
            row = self.pooled[name]
            told = re.search(rf"{after}(?:{_RANGE}|{_INTERVAL})(, which is not shown)?", notes)
            if np.isfinite(row["low"]):
                if told is None:
                    yield f"nothing is said of {name}"
                    continue
                yield from _when((told[8] is not None) != (SIDE[row["word"]] == 0), f"{name}: {row['word']}")

    def _cells(self) -> Iterator[str]:
        """Intervals in the page's tables are those of the table, and show 0 where, and only where, it is inside."""
        for row in self.page.cells.get("decomposition-estimates", [])[1:]:
            mine = self.pooled.get(row[0])
            told = re.search(rf"\[({_NUMBER}), ({_NUMBER})\]", " ".join(row))
            if mine is None:
                continue
            yield from _when((told is None) == bool(np.isfinite(mine["low"])), f"{row[0]}: an interval")
            if told is not None:
                low, high = (float(one.replace("−", "-")) for one in told.groups())
                side = 1 if low > 0 else -1 if high < 0 else 0
                # Only what rounds to 0 in five decimals may be printed as 0 beside a word.
                near = SIDE[mine["word"]] == 0 or min(abs(mine["low"]), abs(mine["high"])) < 1e-5
                yield from _when(side != SIDE[mine["word"]] and not (side == 0 and near), f"{row[0]}: {told[0]}")

    def _entered(self) -> Iterator[str]:
        """Who is counted as left out in the record stands, with the count, in the page's table and text."""
        frame = self.page.frame("entered-data.tsv")
        inside = frame[(frame["reason"] == "entered") & (frame["group"] == "glioma")]["n_participants"].sum()
        yield from _when(inside != self.pooled["total"]["n_patients"], "patients")
        counted = {(row["group"], row["reason"]): row for row in frame.to_dict("records")}
        for one in self.record["left_out"]:
            row = counted.get((one["group"], one["reason"]))
            if one["n_rows"] is not None and (row is None or row["n_rows"] != one["n_rows"]):
                yield f"{one['reason']} is counted otherwise"
            told = REASONS.get(one["reason"], one["reason"])
            yield from _when(told not in self._notes, f"{told} is not on the page")
        # Where there are sentences, nobody should have to know the words of the tables.
        sentences = [self.sentence, *(self.page.text.get(place, "") for place in ("notes", "unknown", "origin"))]
        for one in sentences:
            yield from (f"{name} stands in a sentence" for name in STATUSES if re.search(rf"\b{name}\b", one))


def _when(found: Any, what: str) -> list[str]:
    return [what] if found else []


def _repairs(text: str) -> dict[str, str]:
    """What a clause says of each part: repaired, worsened, or hidden where a change is not shown."""
    found: dict[str, str] = {}
    for verb, word in (("removes ", "repaired"), ("adds ", "worsened"), ("is not shown to change ", "hidden")):
        part = text.partition(verb)[2]
        for other in ("removes ", "adds ", "is not shown to change "):
            part = part.partition(other)[0]
        found |= {name: word for name in NAMES.values() if name in part}
    return found
