"""The whole story on the phantom."""

from pathlib import Path

from ..config import Decompose, Finetune
from ..names import BUILT_IN_MODELS, built_in_cohort
from ..work import Progress, Work
from .decompose import Outcome, decompose_cohort
from .finetune import finetune_cohort


def demo(out: Path, *, options: Decompose, resume: bool = False, progress: Progress | None = None) -> Outcome:
    """Segment, fine-tune, decompose and report the built-in glioma cohort.

    Parameters
    ----------
    out : Path
        Folder of the run; the fold models are kept in ``finetuned/`` in it.
    options : Decompose
        Settings of the decomposition.
    resume : bool
        Continue an interrupted demo.
    progress : callable, optional
        Called as ``progress(done, total, text)``.
    """
    from ..runs import Run

    Run.open(out, resume)
    tuned = out / "finetuned" / "decoder"
    settings = Finetune(device=options.device, seed=options.seed)
    model = BUILT_IN_MODELS["reference"]
    patients, controls = (built_in_cohort(name, work=Work(progress=progress)) for name in ("glioma", "healthy"))
    finetune_cohort(model, patients, out=tuned, reference=controls, progress=progress, resume=True, **vars(settings))
    return decompose_cohort(
        out=out,
        model=model,
        cohort=patients,
        reference=controls,
        finetuned=(tuned,),
        options=options,
        resume=True,
        progress=progress,
    )
