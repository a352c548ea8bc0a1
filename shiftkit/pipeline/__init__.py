"""The main job: every stage that is missing, in order, each starting from what the one before left on disk."""

from .decompose import Outcome, decompose_cohort
from .demo import demo
from .finetune import finetune_cohort
from .inputs import Inputs, gather
from .story import report_again

__all__ = ["Inputs", "Outcome", "decompose_cohort", "demo", "finetune_cohort", "gather", "report_again"]
