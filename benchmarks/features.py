"""Feature shift: speed of the permutations, errors of the first kind, coverage, power, and the phantom.

Speed: 1,000 permutations of MMD² for 1,000 + 1,000 observations of 64 features, against re-indexing the kernel matrix
in a loop, and against alibi-detect's ``MMDDrift`` in an environment of its own (it needs an older numpy). Statistics:
simulated cohorts whose regions are correlated within participants. Phantom: the same patients rendered without shift,
with each shift alone and with both, through the reference model.

Run with ``OMP_NUM_THREADS=1 python benchmarks/features.py --work FOLDER --alibi PYTHON --out benchmarks/features.md``.
Parts that are done stay in FOLDER and are not run again, so that a run can be stopped and continued; ``--minutes``
ends it early, and ``--only speed,level`` runs some sections. Times are those of the processor.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

# Of the tests: the maker of embeddings that the tests use; the package first, for tests/shiftkit is none.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1]))
from makers.feature_cohorts import embeddings

import shiftkit as sk
from shiftkit import cohorts
from shiftkit.analyses.features.study import feature_shift
from shiftkit.analyses.statistics.inference import Inference, jackknife_interval
from shiftkit.analyses.statistics.kernels import pair_contrast, rbf_kernel, squared_distances
from shiftkit.analyses.statistics.two_sample import STATISTICS, evaluators
from shiftkit.images import write_image
from shiftkit.phantoms.people import Person
from shiftkit.phantoms.render import Rendering

CONTRASTS = ("total", "systematic", "tumor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--alibi", help="a Python in which alibi-detect with PyTorch is installed")
    parser.add_argument("--only", default="")
    parser.add_argument("--cohorts", type=int, default=5000)
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no further part after so long")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.end = time.monotonic() + 60 * options.minutes
    sections: dict[str, Callable[[argparse.Namespace], list[str]]] = {
        "speed": speed,
        "level": level,
        "others": level_of_other_statistics,
        "coverage": coverage,
        "power": power,
        "phantom": phantom,
    }
    lines = ["# Feature shift", "", f"`benchmarks/features.py`, seed {options.seed}, one thread.", ""]
    for name, run in sections.items():
        if options.only and name not in options.only.split(","):
            options.end = 0.0  # what is there already is printed
        lines += [*run(options), ""]
        options.end = time.monotonic() + 60 * options.minutes
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines).rstrip() + "\n")


Part = dict[str, float]


def parts(options: argparse.Namespace, name: str, keys: list[str], make: Callable[[str], Part]) -> dict[str, Part]:
    """The parts of a section that are done, after making those that are missing while there is time."""
    path = options.work / f"{name}.json"
    done: dict[str, Part] = json.loads(path.read_text()) if path.is_file() else {}
    for key in keys:
        if key not in done and time.monotonic() < options.end:
            done[key] = make(key)
            path.write_text(json.dumps(done))
    return {key: done[key] for key in keys if key in done}


def speed(options: argparse.Namespace) -> list[str]:
    n, permutations = 2000, 1000
    keys = ["ours", *(["alibi"] if options.alibi else [])]
    done = parts(options, "speed", keys, lambda key: alibi(options.alibi) if key == "alibi" else ours(n, permutations))
    if "ours" not in done:
        return []
    found = done["ours"]
    lines = [
        f"## {permutations:,} permutations of MMD² at N = {n:,}, 64 features",
        "",
        "| | processor s | × |",
        "|---|---|---|",
        f"| one matrix product | {found['product']:.3f} | 1 |",
        f"| re-indexing in a loop | {found['loop']:.1f} | {found['loop'] / found['product']:.0f} |",
    ]
    if "alibi" in done:
        both, theirs = found["product"] + found["kernel"], done["alibi"]["seconds"]
        lines += [
            f"| product and kernel matrix | {both:.3f} | 1 |",
            f"| alibi-detect 0.{done['alibi']['minor']:.0f}, the same | {theirs:.1f} | {theirs / both:.0f} |",
        ]
    return [
        *lines,
        "",
        f"Largest difference from the loop: {found['gap']:.0e}. Peak memory of the process {found['peak']:.0f} MiB, "
        f"of which {found['before']:.0f} MiB are libraries and inputs.",
    ]


def ours(n: int, permutations: int) -> Part:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((n, 64))
    features[n // 2 :] += 0.1
    target = np.repeat((np.arange(n) >= n // 2)[:, None].astype(float), permutations + 1, axis=1)
    target[:, 1:] = rng.permuted(target[:, 1:], axis=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    kernels, products = [], []
    for _ in range(3):
        started = time.process_time()
        kernel = rbf_kernel(squared_distances(features))
        kernels.append(time.process_time() - started)
        started = time.process_time()
        together = pair_contrast(kernel, 1 - target, target)
        products.append(time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    looped = np.array([reindexed(kernel, column) for column in target.T[1:]])
    loop = time.process_time() - started
    gap = float(np.abs(looped - together[1:]).max())
    memory = {"before": before / 1024, "peak": peak / 1024}
    return {"kernel": min(kernels), "product": min(products), "loop": loop, "gap": gap, **memory}


def reindexed(kernel: np.ndarray, label: np.ndarray) -> float:
    """MMD² of one labeling the usual way."""
    order = np.concatenate([np.flatnonzero(label == 0), np.flatnonzero(label == 1)])
    m = int((label == 0).sum())
    k = kernel[np.ix_(order, order)]
    a, b, ab = k[:m, :m], k[m:, m:], k[:m, m:]
    n = len(b)
    return float((a.sum() - np.trace(a)) / (m * (m - 1)) + (b.sum() - np.trace(b)) / (n * (n - 1)) - 2 * ab.mean())


_ALIBI = """
import time, warnings, numpy as np
warnings.simplefilter("ignore")
import torch, alibi_detect
from alibi_detect.cd import MMDDrift
torch.set_num_threads(1)
rng = np.random.default_rng(0)
x = rng.standard_normal((2000, 64)).astype(np.float32)
x[1000:] += 0.1
detector = MMDDrift(x[:1000], backend="pytorch", n_permutations=1000, device="cpu")
started = time.process_time()
detector.predict(x[1000:])
print(time.process_time() - started, alibi_detect.__version__)
"""


def alibi(python: str) -> Part:
    done = subprocess.run([python, "-c", _ALIBI], capture_output=True, text=True, check=True)
    seconds, version = done.stdout.split()[-2:]
    return {"seconds": float(seconds), "minor": float(version.split(".")[1])}


_CHUNK = 250  # cohorts a part
_APART = 10**9  # between the seeds of cohorts and of permutations: the same stream must not make both
_KINDS = ("one bundle", "pooled", "max-T")


def level(options: argparse.Namespace) -> list[str]:
    """Rejections at 0.05 in null cohorts; regions correlate within participants, hemispheres differ."""
    keys = [str(start) for start in range(0, options.cohorts, _CHUNK)]
    total = _sum(parts(options, "level", keys, lambda key: null_cohorts(options.seed + int(key))))
    n = int(total.get("cohorts", 0))
    if not n:
        return []
    lines = [
        f"## Errors of the first kind, {n:,} null cohorts of 20 + 20 participants",
        "",
        "MMD² at 0.05, 199 permutations; two bundles and two hemispheres, correlation of a participant's regions 0.67, "
        "hemispheres that differ by two standard deviations. max-T: the smallest adjusted p of all rows of a contrast.",
        "",
        f"| contrast | {' | '.join(_KINDS)} |",
        "|---|---|---|---|",
    ]
    for contrast in CONTRASTS:
        cells = [f"{total[f'{contrast} {kind}'] / total[f'{contrast} given']:.3f}" for kind in _KINDS]
        lines.append(f"| {contrast} | {' | '.join(cells)} |")
    return [*lines, "", f"Binomial standard error: {np.sqrt(0.05 * 0.95 / n):.3f}."]


def null_cohorts(first: int) -> Part:
    count: Part = {"cohorts": float(_CHUNK)}
    count |= {f"{contrast} {kind}": 0.0 for contrast in CONTRASTS for kind in (*_KINDS, "given")}
    for number in range(first, first + _CHUNK):
        made = embeddings(20, 20, channels=(8,), asymmetry=2.0, seed=number)
        table = feature_shift(
            made, statistics=("mmd2",), inference=Inference(n_permutations=199, seed=_APART + number)
        ).to_frame()
        for contrast in CONTRASTS:
            rows = table[table["contrast"] == contrast].dropna(subset=["value"])
            if len(rows):
                wide = rows[rows["hemisphere"] == "all"].set_index("bundle")["p_value"]
                for kind, p in zip(_KINDS, (wide["AF"], wide["all"], rows["p_adjusted"].min()), strict=True):
                    count[f"{contrast} {kind}"] += float(p <= 0.05)
                count[f"{contrast} given"] += 1
    return count


def _sum(found: dict[str, Part]) -> Part:
    return {name: sum(part[name] for part in found.values()) for name in next(iter(found.values()), {})}


def level_of_other_statistics(options: argparse.Namespace) -> list[str]:
    names = STATISTICS[1:]
    keys = [str(start) for start in range(0, options.cohorts, _CHUNK)]
    total = _sum(parts(options, "others", keys, lambda key: null_cohorts_of_others(10**6 + int(key))))
    n = int(total.get("cohorts", 0))
    if not n:
        return []
    return [
        f"The other statistics, one bundle, {n:,} null cohorts (standard error {np.sqrt(0.05 * 0.95 / n):.3f}):",
        "",
        f"| contrast | {' | '.join(names)} |",
        "|---" * (len(names) + 1) + "|",
        *(
            f"| {contrast} | " + " | ".join(f"{total[f'{contrast} {name}'] / n:.3f}" for name in names) + " |"
            for contrast in CONTRASTS
        ),
    ]


def null_cohorts_of_others(first: int) -> Part:
    names = STATISTICS[1:]
    count: Part = {"cohorts": float(_CHUNK)}
    count |= {f"{contrast} {name}": 0.0 for contrast in CONTRASTS for name in names}
    for number in range(first, first + _CHUNK):
        made = embeddings(20, 20, channels=(8,), bundles=("AF",), asymmetry=2.0, seed=number)
        table = feature_shift(
            made, statistics=names, inference=Inference(n_permutations=199, seed=_APART + number)
        ).to_frame()
        wide = table[(table["hemisphere"] == "all") & (table["bundle"] == "AF")]
        for row in wide.to_dict("records"):
            count[f"{row['contrast']} {row['statistic']}"] += float(row["p_value"] <= 0.05)
    return count


_REPLICATES = 1000


def coverage(options: argparse.Namespace) -> list[str]:
    """Jackknife intervals against a bootstrap of participants."""
    keys = [f"{sizes} | {shift:g}" for sizes in ("20 + 20", "40 + 20", "50 + 50") for shift in (0.0, 0.3, 0.7)]
    done = parts(options, "coverage", keys, covered)
    if not done:
        return []
    names = (*STATISTICS, "bootstrap")
    return [
        f"## Coverage of 95 % intervals, {_REPLICATES} replicates, 8 features",
        "",
        "MMD², energy: of the population's value (from 1,000 + 1,000 participants). The other statistics depend on the "
        "sample size; theirs is coverage of their mean over replicates. Bootstrap: percentile interval of MMD², 200 "
        "draws of participants.",
        "",
        f"| participants | shift | {' | '.join(names)} of mmd2 |",
        "|---" * (len(names) + 2) + "|",
        *(f"| {key} | {' | '.join(f'{part[name]:.3f}' for name in names)} |" for key, part in done.items()),
    ]


def covered(key: str) -> Part:
    sizes, shift = key.split(" | ")
    n_source, n_target = (int(one) for one in sizes.split(" + "))
    rng = np.random.default_rng(0)
    large = [sample(1000, 1000 * n_target // n_source, float(shift), rng) for _ in range(3)]
    population = {name: np.mean([at_once(one, name, rng)[0] for one in large]) for name in ("mmd2", "energy")}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in (*STATISTICS, "bootstrap")}
    for _ in range(_REPLICATES):
        for name, made in intervals(sample(n_source, n_target, float(shift), rng), rng).items():
            found[name].append(made)
    part: Part = {}
    for name, made in found.items():
        values = np.array(made)
        truth = population.get("mmd2" if name == "bootstrap" else name, values[:, 0].mean())
        part[name] = float(((values[:, 1] <= truth) & (values[:, 2] >= truth)).mean())
    return part


def sample(n_source: int, n_target: int, shift: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rng.standard_normal((n_source + n_target, 8))
    x[n_source:] += shift
    target = np.r_[np.zeros(n_source), np.ones(n_target)][:, None]
    return (x - x.mean(axis=0)) / x.std(axis=0), target


def at_once(drawn: tuple[np.ndarray, np.ndarray], name: str, rng: np.random.Generator) -> np.ndarray:
    x, target = drawn
    return evaluators(x, np.arange(len(x)), rng, (name,))[name](1 - target, target)


def intervals(drawn: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> dict[str, tuple[float, float, float]]:
    x, target = drawn
    prepared = evaluators(x, np.arange(len(x)), rng)
    keep = 1 - np.eye(len(x))
    made: dict[str, tuple[float, float, float]] = {}
    for name in STATISTICS:
        value = float(prepared[name](1 - target, target)[0])
        left_out = prepared[name]((1 - target) * keep, target * keep)
        made[name] = (value, *jackknife_interval(value, left_out, target[:, 0], 0.95))
    kernel = rbf_kernel(squared_distances(x))
    groups = [np.flatnonzero(target[:, 0] == one) for one in (0, 1)]
    draws = []
    for _ in range(200):
        chosen = np.concatenate([rng.choice(group, len(group)) for group in groups])
        draws.append(pair_contrast(kernel[np.ix_(chosen, chosen)], 1 - target, target)[0])
    low, high = np.quantile(draws, [0.025, 0.975])
    made["bootstrap"] = (made["mmd2"][0], float(low), float(high))
    return made


_SHIFTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
_POWER_COHORTS = 200


def power(options: argparse.Namespace) -> list[str]:
    keys = [f"{contrast} | {n} + {n}" for contrast in ("systematic", "tumor") for n in (20, 50)]
    done = parts(options, "power", keys, detected)
    if not done:
        return []
    return [
        f"## Power of MMD² at 0.05, pooled over two bundles, {_POWER_COHORTS} cohorts",
        "",
        "Shift in units of the spread between participants; 199 permutations.",
        "",
        f"| shift of | participants | {' | '.join(f'{shift:g}' for shift in _SHIFTS)} |",
        "|---" * (len(_SHIFTS) + 2) + "|",
        *(f"| {key} | {' | '.join(f'{rate:.2f}' for rate in part.values())} |" for key, part in done.items()),
    ]


def detected(key: str) -> Part:
    contrast, sizes = key.split(" | ")
    n = int(sizes.split(" + ")[0])
    part: Part = {}
    for shift in _SHIFTS:
        hits = 0
        for number in range(_POWER_COHORTS):
            made = embeddings(n, n, channels=(8,), seed=number, **{contrast: shift})
            result = feature_shift(
                made, statistics=("mmd2",), inference=Inference(n_permutations=199, seed=_APART + number)
            )
            hits += int(result.pooled(contrast)["p_value"].iloc[0] <= 0.05)
        part[f"{shift:g}"] = hits / _POWER_COHORTS
    return part


_PEOPLE, _SPACING_MM, _PHANTOM_SEED = 20, 2.5, 11
_CONDITIONS = {
    "clean": ("neither shift", "source", False),
    "systematic": ("systematic shift", "moderate", False),
    "tumor": ("tumors", "source", True),
    "both": ("both", "moderate", True),
}


def phantom(options: argparse.Namespace) -> list[str]:
    """Which contrast shows which shift, in embeddings of rendered participants by the reference model."""
    from shiftkit.embeddings import Embeddings

    numbers = range(1, _PEOPLE + 1)
    wanted = {"healthy": [f"sub-h{number:03d}" for number in numbers]}
    wanted |= {name: [f"sub-g{number:03d}" for number in numbers] for name in _CONDITIONS}
    for key in (*wanted["healthy"], *wanted["clean"]):
        if time.monotonic() < options.end:
            embed_participant(options.work / "phantom", key)
    files = {name: [vectors_of(options.work / "phantom", name, key) for key in keys] for name, keys in wanted.items()}
    if not all(path.is_file() for paths in files.values() for path in paths):
        return []
    found = {name: Embeddings.concat([Embeddings.load(path) for path in paths]) for name, paths in files.items()}
    lines = [
        f"## The phantom, {_PEOPLE} + {_PEOPLE} participants at {_SPACING_MM:g} mm, reference model",
        "",
        "Layers in which MMD² pooled over bundles is shown at 0.05 (max-T over layers and bundles, 999 permutations), "
        "the smallest adjusted p, and the largest MMD² with its interval and layer. The same patients in every row.",
        "",
        "| patients rendered with | total | systematic | tumor |",
        "|---|---|---|---|",
    ]
    for name, (what, *_) in _CONDITIONS.items():
        both = Embeddings.concat([found["healthy"], found[name]])
        result = feature_shift(both, statistics=("mmd2",), inference=Inference(n_permutations=999))
        cells = [shown(result.pooled(contrast)) for contrast in CONTRASTS]
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return lines


def vectors_of(root: Path, condition: str, key: str) -> Path:
    return root / "embeddings" / condition / f"{key}.npz"


def shown(rows: pd.DataFrame) -> str:
    top = rows.sort_values("value").iloc[-1]
    count = int((rows["p_adjusted"] <= 0.05).sum())
    return (
        f"{count} of {len(rows)}, p ≥ {rows['p_adjusted'].min():.3f}; "
        f"{top['value']:.3f} [{top['low']:.3f}, {top['high']:.3f}] {top['layer']}"
    )


def embed_participant(root: Path, key: str) -> None:
    """Render one participant in each condition and keep the vectors; images are deleted at once."""
    from shiftkit.phantoms.acquisition import load_profile
    from shiftkit.phantoms.people import draw_person, generator
    from shiftkit.phantoms.render import render
    from shiftkit.segmentation.prediction.embedding import embed

    patient = key.startswith("sub-g")
    conditions = _CONDITIONS if patient else {"healthy": ("", "source", False)}
    todo = {name: how for name, how in conditions.items() if not vectors_of(root, name, key).is_file()}
    person = draw_person(_PHANTOM_SEED, key, patient) if todo else None
    for name, (_, scanner, with_tumor) in todo.items():
        assert person is not None
        noise = generator(_PHANTOM_SEED, key, f"scan {scanner}")
        made = render(person, load_profile(scanner), noise, _SPACING_MM, with_tumor)
        with tempfile.TemporaryDirectory() as folder:
            cohort = on_disk(Path(folder), person, made)
            embed(sk.load_model("reference"), cohort, out=vectors_of(root, name, key).parent, device="cpu")


def on_disk(root: Path, person: Person, made: Rendering) -> sk.Cohort:
    """A cohort of one, with peaks and masks."""
    key = person.participant_id
    peaks = cohorts.image_path(root, key, "peaks")
    write_image(made.images["peaks"], peaks)
    sidecar = {"OrientationEncoding": {"EncodingAxis": 3, "Reference": "xyz", "Type": "3vector"}}
    peaks.with_suffix("").with_suffix(".json").write_text(json.dumps(sidecar))
    for bundle, mask in made.masks.items():
        write_image(mask, cohorts.mask_path(root, key, bundle))
    row = {"participant_id": key, "group": "control"}
    if person.tumor is not None and made.tumor is not None:
        write_image(made.tumor, cohorts.tumor_path(root, key))
        row |= {"group": "glioma", "tumor_side": person.tumor.side}
    cohorts.write_participants(root, pd.DataFrame([row]))
    return cohorts.load_cohort(root)


if __name__ == "__main__":
    sys.exit(main())
