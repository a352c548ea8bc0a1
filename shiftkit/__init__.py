"""shiftkit: split the loss of a bundle-segmentation network in patients into its causes.

Every verb of the command line is one function here, with the same name and defaults. Names load on first
use, so that ``import shiftkit`` stays light.

Examples
--------
>>> import shiftkit as sk
>>> sk.Bundle.parse("AFleft").hemisphere
'left'
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .api import (
        check,
        cite,
        compare,
        decompose,
        deform,
        demo,
        export_model,
        features,
        finetune,
        implant,
        import_cohort,
        load_cohort,
        load_model,
        load_scores,
        model_card,
        phantom,
        plan,
        predict,
        prepare,
        report,
        score,
        study,
        template,
        train,
        validate,
        verify_model,
    )
    from .results import Estimate, Finding
    from .segmentation.network.checkpoints import Model
    from .types import Bundle, Case, Cohort, Predictions, Volume

__all__ = [
    "Bundle",
    "Case",
    "Cohort",
    "Estimate",
    "Finding",
    "Model",
    "Predictions",
    "Volume",
    "__version__",
    "check",
    "cite",
    "compare",
    "decompose",
    "deform",
    "demo",
    "export_model",
    "features",
    "finetune",
    "implant",
    "import_cohort",
    "load_cohort",
    "load_model",
    "load_scores",
    "model_card",
    "phantom",
    "plan",
    "predict",
    "prepare",
    "report",
    "score",
    "study",
    "template",
    "train",
    "validate",
    "verify_model",
]

_HOMES = {"Estimate": ".results", "Finding": ".results", "Model": ".segmentation.network.checkpoints"} | dict.fromkeys(
    ("Bundle", "Case", "Cohort", "Predictions", "Volume"), ".types"
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'shiftkit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, ".api"), __name__), name)


def __dir__() -> list[str]:
    return __all__
