"""What the demonstration does before its decomposition: the built-in glioma cohort, fine-tuned in folds."""

from pathlib import Path

from ..names import BUILT_IN_MODELS, built_in_cohort
from ..runs import Run
from ..work import Work


def tune(out: Path, *, device: str, seed: int, resume: bool, work: Work) -> Path:
    """Fine-tune the reference model to the built-in patients, into ``finetuned/`` of a run; returns that folder."""
    from ..segmentation.transfer.finetuning import Transfer
    from .finetune import finetune_cohort

    Run(root=out, verb="demo", resume=resume).open()
    tuned = out / "finetuned" / "decoder"
    patients, controls = (built_in_cohort(name, work) for name in ("glioma", "healthy"))
    transfer = Transfer(device=device, seed=seed)
    model = BUILT_IN_MODELS["reference"]
    finetune_cohort(model, patients, reference=controls, out=tuned, transfer=transfer, resume=True, work=work)
    return tuned
