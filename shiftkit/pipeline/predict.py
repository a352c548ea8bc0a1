"""Segmentation as the command line does it: what does not fit is told before the network is loaded."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cohorts.folder import require_new, require_own_files
from ..names import find_cohort
from ..types import Cohort, Predictions
from ..work import Work
from .inputs import described, place_of_model, said_of_input

if TYPE_CHECKING:
    from ..cohorts.layout import Filters
    from ..segmentation.network.checkpoints import Model


def predict_cohort(
    model: "str | Path | Model | Sequence[str | Path | Model]",
    cohort: str | Path | Cohort,
    *,
    out: Path | None = None,
    labels: Sequence[str] = (),
    filters: "Filters | str | Path | None" = None,
    resume: bool = False,
    work: Work = Work(),
    **how: Any,
) -> Predictions:
    """Segment a cohort; see `shiftkit.segmentation.prediction.cohort.predict` for ``how``, and for what can go wrong.

    Without ``out`` predictions go into a temporary folder of this process. ``labels`` are those of the participants to
    segment, all without any.
    """
    if out is not None:
        require_new(out, resume)
    named = [model] if not isinstance(model, Sequence) or isinstance(model, str) else model
    places = [place_of_model(one) for one in named]
    known = [described(place) for place in places]
    found = require_own_files(find_cohort(cohort, filters=filters, work=work).labeled(labels))
    for names in known:
        found.require_input(names.name, names.modality)
    # Only now, for the network's libraries take longer to load than all of the above.
    from ..segmentation.network.checkpoints import Model
    from ..segmentation.network.devices import pick_device
    from ..segmentation.network.networks import require_fit
    from ..segmentation.prediction.cohort import cost_of, predict
    from ..segmentation.prediction.routing import open_models

    pick_device(how.get("device", "auto"))
    models = open_models(places)
    averaged = len(models) if isinstance(models, Sequence) else 1
    first = models if isinstance(models, Model) else models[0] if isinstance(models, Sequence) else models.head
    if (window := how.get("window")) is not None and first.architecture is not None:
        require_fit("window", window, first.architecture, first.shape)
    by = f"the mean of {averaged} models" if averaged > 1 else str(models)
    passes = averaged * (2 if how.get("mirrored") else 1)
    work.begin(f"Would segment {len(found)} cases of {found.name} with {by}.", cost_of(first, found, passes), out)
    said_of_input(first, found, work=work)
    place = Path(tempfile.mkdtemp(prefix="shiftkit-")) if out is None else out
    return predict(models, found, out=place, resume=resume, work=work, **how)
