"""participants.tsv against the folders and against itself."""

from collections.abc import Iterator

from ..cohorts.folder import participants_by_folder, read_participants
from ..errors import DataError
from ..types import Case, Cohort
from ..words import same_person, words_of
from .verdict import Problem, Severity

_WORDS = ("group", "tumor_side", "split")
_RANGES = {"age": (0, 130), "tumor_volume_ml": (0, 10_000_000)}
"""What a number can be: years, also as 89+; a volume also in mm³, which is told where the mask says so."""


def find(cohort: Cohort) -> Iterator[Problem]:
    """Problems with ``participants.tsv``."""
    try:
        written, records = read_participants(cohort.root), participants_by_folder(cohort.root)
    except DataError as error:
        yield _problem("all", "error", str(error).replace(str(cohort.root / ""), ""), "Write the table again.")
        return
    for participant in dict.fromkeys(case.participant_id for case in cohort):
        if participant not in records:
            cure = f"Add a row for {participant}, or remove its folder."
            yield _problem(participant, "error", f"Every folder has a row; {participant} has none.", cure)
            continue
        if participant not in written:
            other = next(name for name in written if same_person(name) == same_person(participant))
            sentence = f"A row has the name of its folder; {other!r} is read as {participant}."
            yield _problem(participant, "warning", sentence, f"Write {participant} in participants.tsv.")
        yield from _values(participant, records[participant])
    for participant in records:
        if not (cohort.root / participant).is_dir():
            sentence = f"Every row has a folder; {participant} has none."
            yield _problem(participant, "warning", sentence, "Copy the participant's folder, or remove the row.")
    if not cohort.bundles:
        sentence = "Predictions are compared with reference masks; nobody has one."
        cure = "Add one a bundle, dwi/sub-01_label-AFleft_mask.nii.gz, or use the cohort for prediction alone."
        yield Problem(participant="all", check="reference", severity="warning", file="", sentence=sentence, cure=cure)
    for case in cohort:
        yield from _contents(case, records.get(case.participant_id, {}).get("group"))


def _values(participant: str, record: dict[str, str]) -> Iterator[Problem]:
    for column in _WORDS:
        value, words = record.get(column), words_of(column)
        if value is not None and value not in words:
            sentence = f"{column} is one of {', '.join(words)} or n/a; {participant} has {value!r}."
            yield _problem(participant, "error", sentence, "Correct the cell.")
    for column, (low, high) in _RANGES.items():
        value = record.get(column)
        if value is not None and not _is_number(value, column):
            sentence = f"{column} is a number from {low} to {high}, or n/a; {participant} has {value!r}."
            yield _problem(participant, "error", sentence, "Correct the cell.")
    if "group" not in record:
        sentence = f"group says who is a patient; {participant} has none."
        yield _problem(participant, "warning", sentence, "Fill in control, glioma or target_control.")


def _contents(case: Case, group: str | None) -> Iterator[Problem]:
    participant, tumor = case.participant_id, case.tumor is not None
    if not case.images:
        sentence = f"A participant has images; the folder of {participant} holds none that shiftkit reads."
        yield _problem(participant, "warning", sentence, "Compare the file names with the layout in the documentation.")
    if tumor and group in ("control", "target_control"):
        sentence = f"A control has no tumor; {participant} has a tumor mask."
        yield _problem(participant, "error", sentence, "Correct the group, or remove the mask.")
    if not tumor and group == "glioma":
        sentence = f"A patient has a tumor mask; {participant} has none, so distances cannot be measured."
        yield _problem(participant, "warning", sentence, f"Add anat/{participant}_label-tumor_mask.nii.gz.")


def _is_number(text: str, column: str) -> bool:
    low, high = _RANGES[column]
    try:
        # BIDS writes 89+ for ages that would tell who it is
        return low <= float(text.removesuffix("+") if column == "age" else text) <= high
    except ValueError:
        return False


def _problem(participant: str, severity: Severity, sentence: str, cure: str) -> Problem:
    where: dict[str, str] = {"participant": participant, "check": "participants", "file": "participants.tsv"}
    return Problem(severity=severity, sentence=sentence, cure=cure, **where)
