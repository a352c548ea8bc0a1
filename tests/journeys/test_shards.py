"""A verb in parts, as on a cluster, against the same verb in one call."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from makers.segmentation import files_in, small_model, with_tumors

import shiftkit as sk
from shiftkit.cli import main
from shiftkit.errors import ConfigError, DataError
from shiftkit.images import read_image, write_image
from shiftkit.types import Cohort


def test_predictions_in_parts_are_those_of_one_call(patients: Cohort, tmp_path: Path) -> None:
    """Four parts of six patients, in any order, one run again: merged, every file has the bytes of a single call."""
    model, whole, out = small_model(), tmp_path / "whole" / "masks", tmp_path / "parts" / "masks"
    sk.predict(model, patients, out=whole)
    for part in (4, 2, 1):
        sk.predict(model, patients, out=out, shard=f"{part}/4")
    with pytest.raises(DataError, match="3-of-4 is missing"):
        sk.predict(model, patients, out=out, shard="merge/4")
    sk.predict(model, patients, out=out, shard="3/4")
    sk.predict(model, patients, out=out, shard="3/4", resume=True)
    made = sk.predict(model, patients, out=out, shard="merge/4")
    assert [case.key for case in made] == [case.key for case in patients]
    assert files_in(out) == files_in(whole)
    assert [path.name for path in out.parent.iterdir()] == ["masks"]


def test_scores_in_parts_are_those_of_one_call(patients: Cohort, tmp_path: Path) -> None:
    """Scores and sections, with a bundle that only the last patient has, and one whose image cannot be read."""
    glioma = with_tumors(patients, tmp_path / "glioma")
    for case in glioma:
        for path in case.masks.values():
            one = read_image(path)
            moved = one.with_array(np.roll(one.array, 1, axis=2))
            write_image(moved, tmp_path / "masks" / case.key / f"{path.name.split('label-')[1].split('_')[0]}.nii.gz")
    extra = next(iter(glioma.cases[-1].masks.values()))
    write_image(read_image(extra), extra.with_name(f"{glioma.cases[-1].key}_label-CC_mask.nii.gz"))
    next(iter(glioma.cases[2].masks.values())).write_bytes(b"no image")
    files = []
    for place, shards in (("whole", (None,)), ("parts", ("2/3", "1/3", "3/3", "merge/3"))):
        (tmp_path / place).mkdir()
        for shard in shards:
            out, sections = tmp_path / place / "scores.tsv", tmp_path / place / "sections.tsv"
            more = {"metrics": ("dice",), "sections": sections, "jobs": 1}
            scores = sk.score(tmp_path / "masks", glioma.root, out=out, shard=shard, **more)
        assert list(scores.failed) == [glioma.cases[2].key]
        files.append(files_in(tmp_path / place))
    assert files[0] == files[1] and b"\tCC\t" in files[0][Path("scores.tsv")]


@pytest.mark.parametrize("word", ["0/4", "5/4", "all/4", "2", "1/0", "2/4/8"])
def test_what_is_no_part_is_refused(word: str, patients: Cohort, tmp_path: Path) -> None:
    """Parts count from 1; there are never more than cases."""
    with pytest.raises(ConfigError, match="1/8 to 8/8"):
        sk.score(tmp_path, patients, out=tmp_path / "scores.tsv", shard=word)
    with pytest.raises(ConfigError, match="asks for 7 parts"):
        sk.score(tmp_path, patients, out=tmp_path / "scores.tsv", shard="1/7")


@pytest.mark.parametrize("within", [False, True], ids=["login", "job"])
def test_the_slurm_job_hands_in_every_part_and_the_merge(
    within: bool, patients: Cohort, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shell runs the script: `sbatch` gets an array and a merge after it; blanks and dollars in paths stay.

    Also where it is handed in from inside of a job, a task of an array, whose variables are there already.
    """
    masks, out = tmp_path / "my $HOME masks", tmp_path / "it's scores.tsv"
    for case in patients:
        for bundle, path in case.masks.items():
            write_image(read_image(path), masks / case.key / f"{bundle.label}.nii.gz")
    words = ["score", "--predictions", str(masks), "--cohort", str(patients.root), "--out", str(out)]
    assert main(["slurm", "--parts", "3", "--cpus", "2", *words]) == 0
    job = tmp_path / "job.sh"
    job.write_text(capsys.readouterr().out)
    tools = tmp_path / "bin"
    tools.mkdir()
    # An array runs at once, a task after another; a merge runs when it is handed in.
    sbatch = """#!/bin/bash
echo "$@" >> "$LOG/sbatch"
export SLURM_JOB_ID=7
unset SLURM_ARRAY_TASK_ID
if [[ "$*" == *--array=1-3* ]]; then
  for i in 1 2 3; do SLURM_ARRAY_TASK_ID=$i bash "${@: -2}" >&2; done
else bash "${@: -2}" >&2; fi
echo "7;cluster"
"""
    fake = '#!/bin/bash\nprintf "%q " "$@" >> "$LOG/calls"; echo >> "$LOG/calls"\n'
    for name, text in (("sbatch", sbatch), ("shiftkit", fake)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    there = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "LOG": str(tmp_path)}
    outer = {"SLURM_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "9"} if within else {}
    there = {name: value for name, value in there.items() if not name.startswith("SLURM_")} | outer
    subprocess.run(["bash", str(job)], check=True, env=there, capture_output=True)
    calls = [shlex.split(line) for line in (tmp_path / "calls").read_text().splitlines()]
    assert calls == [[*words, "--jobs", "2", "--shard", f"{part}/3"] for part in (1, 2, 3, "merge")]
    array, merge = (tmp_path / "sbatch").read_text().splitlines()
    assert "--array=1-3 --time=15 --mem=" in array and "--cpus-per-task=2" in array
    assert "--dependency=afterany:7 " in merge and "--array" not in merge
    assert main(["slurm", "--parts", "3", "decompose", "--cohort", "x"]) == 2
    assert main(["slurm", "score", "--shard", "1/2"]) == 2
    capsys.readouterr()
    assert main(["slurm", "predict", "--parts=4", "--cohort", "x"]) == 2
    assert "--parts stands after predict. Write shiftkit slurm --parts N predict …" in capsys.readouterr().err


def test_parts_that_were_made_otherwise_are_not_put_together(patients: Cohort, tmp_path: Path) -> None:
    """Another metric, another cohort, a model that is not that of the merge: refused, and every part stays whole.

    Other divisions of the same work beside the parts stay too.
    """
    out, table = tmp_path / "masks", tmp_path / "scores.tsv"
    for part in (1, 2):
        sk.predict(small_model(), patients, out=out, shard=f"{part}/2", probabilities=part == 1)
    with pytest.raises(DataError, match=r"2-of-2 in .* made otherwise"):
        sk.predict(small_model(), patients, out=out, shard="merge/2")
    shutil.rmtree(tmp_path / "masks.shards" / "2-of-2")
    sk.predict(small_model(), patients, out=out, shard="2/2")
    before = files_in(tmp_path / "masks.shards")
    with pytest.raises(ConfigError):
        sk.predict(small_model(seed=1), patients, out=out, shard="merge/2")
    assert files_in(tmp_path / "masks.shards") == before and not out.exists()
    sk.predict(small_model(), patients, out=tmp_path / "masks", shard="1/3")
    sk.predict(small_model(), patients, out=out, shard="merge/2")
    assert [one.name for one in (tmp_path / "masks.shards").iterdir()] == ["1-of-3"]
    sk.score(out, patients, out=table, shard="1/2", metrics=["dice"], jobs=1)
    sk.score(out, patients, out=table, shard="2/2", metrics=["nsd"], jobs=1)
    for metrics in (["dice"], ["nsd"]):
        with pytest.raises(DataError, match=r"made otherwise \(metrics\)"):
            sk.score(out, patients, out=table, shard="merge/2", metrics=metrics, jobs=1)
    sk.score(out, patients, out=table, shard="2/2", metrics=["dice"], jobs=1)
    assert len(sk.score(out, patients, out=table, shard="merge/2", metrics=["dice"], jobs=1)) == 2 * len(patients)
