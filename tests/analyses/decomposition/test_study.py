"""The decomposition as a whole: published columns, seeds, units and controls."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from makers import simulated
from makers.decompositions import FAST, QUICK, pooled

from shiftkit.analyses.decomposition.study import decompose
from shiftkit.analyses.scoring.metrics import METRICS
from shiftkit.catalogue import DECOMPOSITION, RECOVERY, SENSITIVITY
from shiftkit.tables import parse_table


def test_tables_have_their_published_columns() -> None:
    """What is written under tables/ passes its own schema."""
    before = simulated.scores()
    after = simulated.scores(systematic=0.2, model="m+full")
    result = decompose(before, finetuned={"m+full": after}, inference=QUICK)
    for frame, schema in (
        (result.table, DECOMPOSITION),
        (result.recovery, RECOVERY),
        (result.sensitivity, SENSITIVITY),
    ):
        parse_table(frame, schema, schema.name)
        assert len(frame)


def test_the_same_seed_gives_the_same_numbers() -> None:
    """Seed and data determine every number; another seed moves no primary interval but those of bundles, a little."""
    frame = simulated.scores()
    first, again, other = (
        decompose(frame, inference=replace(QUICK, seed=seed), sensitivity=False).table for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(first, again)
    np.testing.assert_array_equal(first["estimate"], other["estimate"])
    primary = (first["method"] == "anchored") & (first["bundle"] == "all")
    np.testing.assert_array_equal(first.loc[primary, "low"], other.loc[primary, "low"])
    assert not first["low"].equals(other["low"])
    np.testing.assert_allclose(first.loc[~primary, "low"], other.loc[~primary, "low"], atol=0.03)


@pytest.mark.parametrize("metric", [name for name, one in METRICS.items() if not one.bounded])
def test_unbounded_metrics_count_as_worse_when_larger(metric: str) -> None:
    """A positive component means worse in patients for distances too; they may exceed 1, for they enter as logs."""
    frame = simulated.scores()
    frame["metric"], frame["value"] = metric, 20 * (1 - frame["value"])
    result = decompose(frame, metric=metric, **FAST)
    assert pooled(result, "total")["estimate"] > 0
    assert f"% larger ({METRICS[metric].title} + 1" in result.verdict
    assert result.margin == pytest.approx(np.log(1.1))


def test_seen_controls_are_left_out() -> None:
    """Controls marked as seen by the model do not enter, however good their scores."""
    frame = simulated.scores().assign(seen="no")
    extra = simulated.scores(0, 5, seed=9).assign(seen="yes", value=0.99)
    extra["participant_id"] = "seen-" + extra["participant_id"]
    both = pd.concat([frame, extra], ignore_index=True)
    assert pooled(decompose(both, **FAST), "total")["n_controls"] == 20
