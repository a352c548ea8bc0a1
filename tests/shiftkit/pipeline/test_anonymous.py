"""Runs that name nobody: no id and no folder of the user's in any file."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from makers.segmentation import small_model, write_cohort
from makers.simulated import scores

from shiftkit import decompose
from shiftkit.errors import ConfigError
from shiftkit.pipeline.anonymous import Aliases, model_names, require_aliases, unnamed
from shiftkit.pipeline.inputs import Inputs

SECRETS = ("zebra", "okapi", "secret", "MRN-7")


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    """Patients and controls in folders that say too much."""
    patients = write_cohort(tmp_path / "secretcohort", 3, group="glioma", prefix="zebra")
    controls = write_cohort(tmp_path / "secrethealthy", 3, prefix="okapi")
    known = tuple(dataclasses.replace(case, attributes={**case.attributes, "mrn": "MRN-7"}) for case in patients)
    model = dataclasses.replace(small_model(), name="secretmodel")
    return Inputs(
        model=model,
        patients=dataclasses.replace(patients, cases=known),
        controls=controls,
        seen=("sub-okapi09",),
        left_out={"sub-zebra08": "no session secret-2021"},
    )


def test_nobody_is_named_and_everybody_is_there(inputs: Inputs) -> None:
    """Ids, names of folders and columns of the user's are gone; images, groups and numbers stay."""
    aliases = Aliases.of_inputs(inputs)
    hidden = aliases.inputs(inputs)
    told = [hidden.model.name, *hidden.seen, *hidden.left_out, *hidden.left_out.values()]
    for cohort in hidden.cohorts.values():
        told += [cohort.name, *(text for case in cohort for text in (case.key, *case.attributes.values()))]
    assert not [text for text in told if any(secret in text for secret in SECRETS)]
    keys = [case.key for cohort in hidden.cohorts.values() for case in cohort]
    assert sorted(keys) == [f"sub-P{number:03d}" for number in range(1, 7)]
    images = {case.images["fa"] for case in hidden.patients}
    assert images == {case.images["fa"] for case in inputs.patients}
    assert {case.group for case in hidden.patients} == {"glioma"}


def test_aliases_follow_from_images_alone(inputs: Inputs) -> None:
    """A participant under another id has the same alias: ids tell nothing of the order."""
    renamed = tuple(
        dataclasses.replace(case, participant_id=f"sub-{number}")
        for number, case in enumerate(reversed(inputs.patients.cases))
    )
    other = dataclasses.replace(inputs, patients=dataclasses.replace(inputs.patients, cases=renamed))
    one, two = (Aliases.of_inputs(each).people["patients"] for each in (inputs, other))
    assert [two[case.participant_id] for case in renamed] == [
        one[case.participant_id] for case in reversed(inputs.patients.cases)
    ]


def test_reasons_lose_ids_sessions_and_folders(inputs: Inputs) -> None:
    """A message about a file keeps what is wrong, under the alias."""
    aliases, cohort = Aliases.of_inputs(inputs), inputs.patients
    key = cohort.cases[0].key
    text = f"{cohort.root}/{key}/ses-2021/dwi/{key}_ses-2021_T1w.nii.gz is damaged."
    alias = aliases.people["patients"][key]
    assert aliases.text(text, cohort, "patients") == f"{alias}/dwi/{alias}_T1w.nii.gz is damaged."


def test_a_table_of_scores_names_nobody(tmp_path: Path) -> None:
    """Ids, cohort, sessions and unknown columns of a table go; values stay with their participants."""
    frame = scores(4, 4).assign(cohort="secretcohort", session="ses-secret", mrn="MRN-7")
    frame["participant_id"] = frame["participant_id"].str.replace("sub-", "sub-zebra")
    aliases = Aliases.of_table(frame)
    hidden = aliases.table(frame)
    text = hidden.to_csv(sep="\t")
    assert not [secret for secret in SECRETS if secret in text]
    assert (hidden["value"] == frame["value"]).all() and hidden["participant_id"].nunique() == 8
    aliases.save(tmp_path / "who.tsv")
    who = pd.read_csv(tmp_path / "who.tsv", sep="\t").set_index("participant_id")["alias"]
    assert (frame["participant_id"].map(who) == hidden["participant_id"]).all()


def test_who_is_who_is_kept_where_it_was_asked_for_and_never_in_the_run(tmp_path: Path) -> None:
    """Nothing is written unasked, and a place inside the run is refused."""
    assert require_aliases(True, None, tmp_path) is None
    assert require_aliases(True, tmp_path / "who.tsv", tmp_path / "run") == tmp_path / "who.tsv"
    for anonymous, place in ((True, tmp_path / "run" / "who.tsv"), (False, tmp_path / "who.tsv")):
        with pytest.raises(ConfigError, match="aliases"):
            require_aliases(anonymous, place, tmp_path / "run")


def test_models_go_by_what_was_done_to_them() -> None:
    """A strategy's name stays, that of a folder does not; nor does a session's label."""
    named = model_names(["secret", "secret+decoder", "other"], ["secret"])
    assert named == {"secret": "model", "secret+decoder": "model+decoder", "other": "fine-tuned 2"}
    assert list(unnamed({"sub-zebra": "no session secret"}).values()) == ["not that session"]


def test_no_file_of_a_run_from_a_table_names_anybody(tmp_path: Path) -> None:
    """Tables, pages, drawings, record and settings of ``decompose --anonymous``, and their names, are searched."""
    frame = scores(8, 8).assign(cohort="secretcohort", mrn="MRN-7", model="secretmodel")
    frame["participant_id"] = frame["participant_id"].str.replace("sub-", "sub-zebra")
    (tmp_path / "secret").mkdir()
    table = tmp_path / "secret" / "scores.tsv"
    frame[frame["bundle"] == "AF"].to_csv(table, sep="\t", index=False, na_rep="n/a")
    out = tmp_path / "run"
    decompose(table, out=out, anonymous=True, n_bootstrap=100, n_permutations=99, sensitivity=False, jobs=1)
    files = [path for path in out.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        text = f"{path.relative_to(out)} {path.read_bytes().decode(errors='replace')}"
        assert not [secret for secret in (*SECRETS, str(tmp_path)) if secret in text], path
    assert "sub-P001" in (out / "tables" / "scores.tsv").read_text()
