"""What tests of a decomposition share: quick settings, and one pooled row."""

import pandas as pd

from shiftkit.analyses.decomposition.result import Decomposition
from shiftkit.analyses.statistics.inference import Inference

QUICK = Inference(n_bootstrap=200, n_permutations=199)
FAST = {"inference": QUICK, "sensitivity": False}


def pooled(result: Decomposition, component: str, method: str = "anchored") -> pd.Series:
    """The pooled row of one component."""
    table = result.table
    keep = (table["bundle"] == "all") & (table["component"] == component) & (table["method"] == method)
    return table[keep].iloc[0]
