"""Synthetic findings, tiny volumes and a whole report that the tests of this room share."""

import base64
import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd

from shiftkit.images import write_image
from shiftkit.reports import CasePicture, CohortSummary, Opening, Report, report
from shiftkit.results import Estimate, Finding
from shiftkit.types import Bundle, Volume

HOSTILE = '<script>document.title="owned"</script>'


def head(orientation: str = "RAS", spacing: float = 4.0) -> Volume:
    """A bright ball in the head's place, with a brighter spot on the participant's right and front."""
    import nibabel as nib

    n = int(160 / spacing)
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = -80.0
    x, y, z = (np.indices((n, n, n)) * spacing - 80.0) + 0.0
    array = 0.6 * (np.sqrt(x**2 + (y * 0.85) ** 2 + z**2) < 62) + 0.4 * (np.hypot(np.hypot(x - 30, y - 35), z) < 14)
    image = nib.Nifti1Image(array.astype(np.float32), affine)
    ornt = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(orientation))
    )
    turned = image.as_reoriented(ornt)
    return Volume(array=np.asarray(turned.dataobj), affine=np.asarray(turned.affine))


def ball(like: Volume, center: tuple[float, float, float], radius: float) -> Volume:
    """A mask on another volume's grid: a ball given in world coordinates, mm."""
    index = np.indices(like.shape).reshape(3, -1).T
    world = index @ like.affine[:3, :3].T + like.affine[:3, 3]
    inside = np.linalg.norm(world - np.array(center), axis=1) < radius
    return like.with_array(inside.reshape(like.shape))


def case(folder: Path, participant: str, bundle: Bundle, dice: float, orientation: str = "RAS") -> CasePicture:
    """A case on disk; the lower the Dice, the farther prediction and reference lie apart."""
    name = f"{abs(hash((participant, bundle))):x}"
    image = head(orientation)
    side = -1.0 if bundle.hemisphere == "left" else 1.0
    parts = {
        "image": image,
        "reference": ball(image, (side * 28, 0, 10), 20),
        "prediction": ball(image, (side * 28, (1 - dice) * 30, 10), 18),
        "tumor": ball(image, (side * 32, -30, 20), 16),
    }
    # The bundles of a participant share an image.
    names = dict.fromkeys(parts, name) | {"image": f"{abs(hash(participant)):x}"}
    for part, volume in parts.items():
        write_image(volume, folder / f"{names[part]}-{part}.nii.gz")
    return CasePicture(
        participant_id=participant,
        bundle=bundle,
        score=dice,
        distance_mm=10 * dice,
        model="reference",
        **{part: folder / f"{names[part]}-{part}.nii.gz" for part in parts},
    )


def components(bundles: list[Bundle]) -> pd.DataFrame:
    """A table of components like the one of a run, three estimators long, of which the last estimates another thing."""
    rng = np.random.default_rng(1)
    rows: list[dict[str, Any]] = []
    for method in ("anchored", "hemispheric", "shell"):
        for bundle in bundles:
            for component in ("total", "systematic", "tumor"):
                value = rng.uniform(0.02, 0.2)
                rows.append(
                    {
                        "model": "reference",
                        "modality": "peaks",
                        "bundle": bundle.name,
                        "hemisphere": bundle.hemisphere,
                        "metric": "dice",
                        "method": method,
                        "estimand": "Dice implied by voxels' error rates" if method == "shell" else "same",
                        "component": component,
                        "estimate": value,
                        "low": value - 0.03,
                        "high": value + 0.03,
                        "p_value": 0.0005,
                        "n_patients": 24,
                        "n_controls": 20,
                        "status": "ok" if bundle.name != "FAT" else "range",
                    }
                )
    return pd.DataFrame(rows)


def decomposition() -> Finding:
    """A finding with estimates, a table and a figure."""
    parts = {"total": (0.21, 0.12), "systematic": (0.12, 0.02), "tumor": (0.09, 0.10)}

    def figure(ax: Any) -> Any:
        for place, when in enumerate(("before", "after")):
            values = [pair[place] for pair in parts.values()]
            where = np.arange(3) + 0.18 * (2 * place - 1)
            ax.errorbar(where, values, yerr=0.02, fmt="os"[place], linestyle="none", label=f"{when} fine-tuning")
        ax.axhline(0, linewidth=0.7, color="0.5")
        ax.set_xticks(range(3), list(parts))
        ax.set_ylabel("drop in Dice")
        ax.legend()
        return ax

    return Finding(
        key="decomposition",
        place="first",
        title="What the drop is made of",
        claim="Of a drop of 0.21 Dice, 0.12 [0.10, 0.14] is systematic and 0.09 [0.07, 0.11] depends on the tumor.",
        estimates=tuple(
            Estimate(name=name, value=v[0], low=v[0] - 0.02, high=v[0] + 0.02, unit="Dice", n=24, p_value=0.0005)
            for name, v in parts.items()
        ),
        table=pd.DataFrame({"component": list(parts), "before": [v[0] for v in parts.values()]}),
        caveats=("The systematic part mixes scanner, protocol and label style.",),
        method="Fractional logit with g-computation; participants were resampled 2,000 times.",
        references=("10.1016/j.media.2025.103766",),
        figure=figure,
        alt="Three components of the drop in Dice before and after fine-tuning; the systematic one nearly vanishes.",
    )


def recovery() -> Finding:
    """What fine-tuning repairs, with a figure."""

    def figure(ax: Any) -> Any:
        ax.errorbar([83, 2], [0, 1], xerr=8, fmt="o")
        ax.set_yticks([0, 1], ["systematic", "tumor"])
        ax.set_xlabel("Recovered by fine-tuning (%)")
        return ax

    return Finding(
        key="recovery",
        place="first",
        title="What fine-tuning repairs",
        claim="Fine-tuning removes 83 % [70, 94] of the systematic part.",
        table=pd.DataFrame({"component": ["systematic", "tumor"], "recovered": [0.83, 0.02]}),
        figure=figure,
        alt="Recovered share of the systematic and the tumor part, with intervals.",
    )


def distance(ids: list[str], far: list[float] | None = None, dice: list[float] | None = None) -> Finding:
    """A scatter of Dice against distance whose table holds participants."""
    far = far or [10.0 * place for place in range(len(ids))]
    dice = dice or [0.5 + 0.02 * place for place in range(len(ids))]

    def figure(ax: Any) -> Any:
        ax.scatter(far, dice, s=14)
        ax.set(xlabel="distance from the tumor (mm)", ylabel="Dice", title=ids[0])
        return ax

    return Finding(
        key="distance",
        place="distance",
        title="Dice against distance from the tumor",
        claim="Dice falls within about 15 mm of the tumor.",
        table=pd.DataFrame({"participant_id": ids, "tumor_distance_mm": far, "value": dice}),
        figure=figure,
        alt="Scatter plot: Dice rises with distance from the tumor and levels off at 0.75 beyond 30 mm.",
    )


def cohort() -> Finding:
    """A finding about the whole cohort, with a figure."""

    def figure(ax: Any) -> Any:
        ax.imshow(np.eye(4))
        return ax

    return Finding(
        key="cohort-tumors",
        place="cohort",
        title="Where the tumors are",
        claim="At most 2 of the 4 tumors overlap in one place.",
        figure=figure,
        alt="Slices through the place that most tumors share.",
    )


def sensitivity() -> Finding:
    """A finding without a figure."""
    return Finding(
        key="sensitivity",
        title="Other reasonable choices",
        claim="The systematic part stays between 0.11 and 0.13 whatever is chosen.",
        table=pd.DataFrame(
            {"analysis": ["mean distance", "no controls under 30", "log link"], "estimate": [0.118, 0.131, 0.112]}
        ),
        method="The decomposition was repeated with one choice changed at a time.",
    )


def example(folder: Path, n: int = 4, ids: list[str] | None = None) -> Report:
    """A whole report with ``n`` patients and two bundles."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ids or [f"sub-{i + 1:02d}" for i in range(n)]
    bundles = [Bundle(name="AF", hemisphere="left"), Bundle(name="PYT", hemisphere="right")]
    every = [Bundle(name=b, hemisphere=h) for b in ("AF", "FAT", "IFOF", "ILF", "PYT") for h in ("left", "right")]
    pictures = [
        case(folder, name, bundle, 0.2 + 0.6 * (i + 0.5 * j) / len(names), "LAS" if i % 2 else "RAS")
        for i, name in enumerate(names)
        for j, bundle in enumerate(bundles)
    ]
    return report(
        [
            sensitivity(),
            cohort(),
            distance(
                [one.participant_id for one in pictures], [p.distance_mm for p in pictures], [p.score for p in pictures]
            ),
            decomposition(),
            recovery(),
        ],
        title="Domain shift of bundle segmentation in 24 glioma patients",
        verdict="In glioma patients the model loses 0.21 Dice [0.18, 0.24]; a bit more than half of it, 0.12 "
        "[0.10, 0.14], is systematic, and 0.09 [0.07, 0.11] depends on the distance to the tumor. Fine-tuning removes "
        "83 % [70, 94] of the systematic part and none that can be shown of the tumor's.",
        cases=pictures,
        cohorts=(
            CohortSummary(name="glioma", role="patients", n=24, facts={"age": "median 52 years (31 to 74)"}),
            CohortSummary(
                name="healthy", role="unseen controls", n=20, excluded={"sub-77": "the model was trained on it"}
            ),
        ),
        provenance={"shiftkit": "0.1", "seeds": {"decompose": 0}, "inputs": {"model": "ab" * 32}, "none": []},
        table=components(every),
        notes=("None of the 20 controls was seen by the model.",),
        opening=Opening(
            question="How much of the loss is systematic, and how much is the tumor's?",
            facts={"patients": "24", "controls": "20", "bundles": "5", "model": "reference", "metric": "Dice"},
            origin=("The data are a digital phantom.", "Left out: 1 control (the model was trained on it)."),
        ),
    )


def unpacked(text: str) -> np.ndarray:
    """The voxels of a packed volume."""
    image = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))
    return np.asarray(image.dataobj)
