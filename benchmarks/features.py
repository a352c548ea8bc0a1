"""Feature shift: speed of the permutations, errors of the first kind, coverage, power, and the phantom.

Speed: 1,000 permutations of MMD² for 1,000 + 1,000 observations of 64 features, against re-indexing the kernel matrix
in a loop, and against alibi-detect's ``MMDDrift`` in an environment of its own (it needs an older numpy). Statistics:
simulated cohorts whose regions are correlated within participants. Phantom: the same patients rendered without shift,
with each shift alone and with both, through the reference model.

Run with ``OMP_NUM_THREADS=1 python benchmarks/features.py --work FOLDER --alibi PYTHON --out benchmarks/features.md``.
Each section leaves its lines in FOLDER and is not run again; ``--only speed,level`` runs some.
"""

import argparse
import importlib.util
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

import shiftkit as sk
from shiftkit.analyses.features import feature_shift, jackknife_interval
from shiftkit.analyses.kernels import pair_contrast, rbf_kernel, squared_distances
from shiftkit.analyses.two_sample import STATISTICS, evaluators

CONTRASTS = ("total", "systematic", "tumor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--alibi", help="a Python in which alibi-detect with PyTorch is installed")
    parser.add_argument("--only", default="")
    parser.add_argument("--cohorts", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
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
        stored = options.work / f"{name}.txt"
        if not stored.is_file() and (not options.only or name in options.only.split(",")):
            stored.write_text("\n".join(run(options)) + "\n")
        if stored.is_file():
            lines += [*stored.read_text().splitlines(), ""]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines).rstrip() + "\n")


def simulated() -> ModuleType:
    """The maker of embeddings that the tests use; it shares no code with the analyses."""
    path = Path(__file__).parents[1] / "tests" / "analyses" / "feature_cohorts.py"
    spec = importlib.util.spec_from_file_location("feature_cohorts", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def speed(options: argparse.Namespace) -> list[str]:
    rng = np.random.default_rng(options.seed)
    n, permutations = 2000, 1000
    features = rng.standard_normal((n, 64)).astype(np.float64)
    features[n // 2 :] += 0.1
    target = np.repeat((np.arange(n) >= n // 2)[:, None].astype(float), permutations + 1, axis=1)
    target[:, 1:] = rng.permuted(target[:, 1:], axis=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    kernel = rbf_kernel(squared_distances(features))
    made = time.perf_counter() - started
    tries: list[float] = []
    for _ in range(3):
        started = time.perf_counter()
        together = pair_contrast(kernel, 1 - target, target)
        tries.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    looped = np.array([reindexed(kernel, column) for column in target.T[1:]])
    loop = time.perf_counter() - started
    ours = min(tries)
    lines = [
        f"## {permutations:,} permutations of MMD² at N = {n:,}, 64 features",
        "",
        "| | s | × |",
        "|---|---|---|",
        f"| one matrix product | {ours:.3f} | 1 |",
        f"| re-indexing in a loop | {loop:.1f} | {loop / ours:.0f} |",
    ]
    if options.alibi:
        theirs, version = alibi(options.alibi)
        with_kernel = ours + made
        lines.append(
            f"| alibi-detect {version} `MMDDrift`, kernel included | {theirs:.1f} | {theirs / with_kernel:.0f} |"
        )
        lines += [
            "",
            f"The kernel matrix takes {made:.3f} s; the last ratio is to {with_kernel:.3f} s, kernel included.",
        ]
    gap = np.abs(looped - together[1:]).max()
    lines += [
        "",
        f"Largest difference from the loop: {gap:.0e}. Peak memory of the process {peak / 1024:.0f} MiB, of which "
        f"{before / 1024:.0f} MiB are libraries and inputs.",
    ]
    return lines


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
started = time.perf_counter()
detector.predict(x[1000:])
print(time.perf_counter() - started, alibi_detect.__version__)
"""


def alibi(python: str) -> tuple[float, str]:
    done = subprocess.run([python, "-c", _ALIBI], capture_output=True, text=True, check=True)
    seconds, version = done.stdout.split()[-2:]
    return float(seconds), version


def level(options: argparse.Namespace) -> list[str]:
    """Rejections at 0.05 in null cohorts; regions correlate within participants, hemispheres differ."""
    embeddings = simulated().embeddings
    names = [(contrast, kind) for contrast in CONTRASTS for kind in ("one bundle", "pooled", "max-T")]
    rejected, done = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for number in range(options.cohorts):
        made = embeddings(20, 20, channels=(8,), asymmetry=2.0, seed=options.seed + number)
        table = feature_shift(made, statistics=("mmd2",), n_permutations=199, seed=number).to_frame()
        for contrast in CONTRASTS:
            rows = table[table["contrast"] == contrast].dropna(subset=["value"])
            if not len(rows):
                continue
            wide = rows[rows["hemisphere"] == "all"].set_index("bundle")["p_value"]
            values = {"one bundle": wide["AF"], "pooled": wide["all"], "max-T": rows["p_adjusted"].min()}
            for kind, p in values.items():
                done[contrast, kind] += 1
                rejected[contrast, kind] += int(p <= 0.05)
    rate = {name: rejected[name] / max(done[name], 1) for name in names}
    return [
        f"## Errors of the first kind, {options.cohorts:,} null cohorts of 20 + 20 participants",
        "",
        "MMD² at 0.05, 199 permutations; two bundles and two hemispheres, correlation of a participant's regions 0.67, "
        "hemispheres that differ by two standard deviations. max-T: the smallest adjusted p of all rows of a contrast.",
        "",
        "| contrast | one bundle | pooled over bundles | max-T |",
        "|---|---|---|---|",
        *(
            f"| {contrast} | "
            + " | ".join(f"{rate[contrast, kind]:.3f}" for kind in ("one bundle", "pooled", "max-T"))
            + " |"
            for contrast in CONTRASTS
        ),
        "",
        f"Binomial standard error: {np.sqrt(0.05 * 0.95 / options.cohorts):.3f}.",
    ]


def level_of_other_statistics(options: argparse.Namespace) -> list[str]:
    embeddings = simulated().embeddings
    n = max(options.cohorts // 5, 100)
    names = STATISTICS[1:]
    rejected = {(contrast, name): 0 for contrast in CONTRASTS for name in names}
    for number in range(n):
        made = embeddings(20, 20, channels=(8,), bundles=("AF",), asymmetry=2.0, seed=10**6 + number)
        table = feature_shift(made, statistics=names, n_permutations=199, seed=number).to_frame()
        wide = table[(table["hemisphere"] == "all") & (table["bundle"] == "AF")]
        for row in wide.to_dict("records"):
            rejected[row["contrast"], row["statistic"]] += int(row["p_value"] <= 0.05)
    return [
        f"The other statistics, one bundle, {n:,} null cohorts (standard error {np.sqrt(0.05 * 0.95 / n):.3f}):",
        "",
        f"| contrast | {' | '.join(names)} |",
        "|---" * (len(names) + 1) + "|",
        *(
            f"| {contrast} | " + " | ".join(f"{rejected[contrast, name] / n:.3f}" for name in names) + " |"
            for contrast in CONTRASTS
        ),
    ]


def coverage(options: argparse.Namespace) -> list[str]:
    """Jackknife intervals against a bootstrap of participants."""
    rng = np.random.default_rng(options.seed)
    replicates = 300
    lines = [
        f"## Coverage of 95 % intervals, {replicates} replicates, 8 features",
        "",
        "MMD², energy: of the population's value (from 1,000 + 1,000 participants). The other statistics depend on the "
        "sample size; theirs is coverage of their mean over replicates. Bootstrap: percentile interval of MMD², 200 "
        "draws of participants.",
        "",
        f"| participants | shift | {' | '.join(STATISTICS)} | bootstrap of mmd2 |",
        "|---" * (len(STATISTICS) + 3) + "|",
    ]
    for n_source, n_target in ((20, 20), (40, 20), (50, 50)):
        for shift in (0.0, 0.3, 0.7):
            large = [sample(1000, 1000 * n_target // n_source, shift, rng) for _ in range(3)]
            population = {name: np.mean([at_once(one, name, rng)[0] for one in large]) for name in ("mmd2", "energy")}
            found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in (*STATISTICS, "bootstrap")}
            for _ in range(replicates):
                drawn = sample(n_source, n_target, shift, rng)
                for name, made in intervals(drawn, rng).items():
                    found[name].append(made)
            cells: list[str] = []
            for name in (*STATISTICS, "bootstrap"):
                values = np.array(found[name])
                truth = population.get("mmd2" if name == "bootstrap" else name, values[:, 0].mean())
                cells.append(f"{((values[:, 1] <= truth) & (values[:, 2] >= truth)).mean():.3f}")
            lines.append(f"| {n_source} + {n_target} | {shift:g} | {' | '.join(cells)} |")
    return lines


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


def power(options: argparse.Namespace) -> list[str]:
    embeddings = simulated().embeddings
    replicates, shifts = 100, (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
    lines = [
        f"## Power of MMD² at 0.05, pooled over two bundles, {replicates} cohorts",
        "",
        "Shift in units of the spread between participants; 199 permutations.",
        "",
        f"| shift of | participants | {' | '.join(f'{shift:g}' for shift in shifts)} |",
        "|---" * (len(shifts) + 2) + "|",
    ]
    for contrast in ("systematic", "tumor"):
        for n in (20, 50):
            rates: list[float] = []
            for shift in shifts:
                hits = 0
                for number in range(replicates):
                    made = embeddings(n, n, channels=(8,), seed=number, **{contrast: shift})
                    result = feature_shift(made, statistics=("mmd2",), n_permutations=199, seed=number)
                    hits += int(result.pooled(contrast)["p_value"].iloc[0] <= 0.05)
                rates.append(hits / replicates)
            lines.append(f"| {contrast} | {n} + {n} | {' | '.join(f'{rate:.2f}' for rate in rates)} |")
    return lines


def phantom(options: argparse.Namespace) -> list[str]:
    from shiftkit.embeddings import Embeddings
    from shiftkit.segmentation.embeddings import embed

    n, spacing_mm = 20, 4.0
    made = sk.phantom(options.work / "phantom", n_healthy=n, n_glioma=n, spacing_mm=spacing_mm, seed=11, factorial=True)
    model = sk.load_model("reference")
    found = {name: embed(model, cohort, out=options.work / "embeddings" / name)[0] for name, cohort in made.items()}
    lines = [
        f"## The phantom, {n} + {n} participants at {spacing_mm:g} mm, reference model",
        "",
        "Layers in which MMD² pooled over bundles is shown at 0.05 (max-T), and the largest MMD² with its layer.",
        "",
        "| patients rendered with | total | systematic | tumor |",
        "|---|---|---|---|",
    ]
    words = {
        "glioma_clean": "neither shift",
        "glioma_systematic": "systematic shift",
        "glioma_tumor": "tumors",
        "glioma": "both",
    }
    for name, what in words.items():
        both = Embeddings.concat([found["healthy"], found[name]])
        result = feature_shift(both, statistics=("mmd2",), n_permutations=999)
        cells: list[str] = []
        for contrast in CONTRASTS:
            rows = result.pooled(contrast)
            top = rows.sort_values("value").iloc[-1]
            shown = int((rows["p_adjusted"] <= 0.05).sum())
            smallest = rows["p_adjusted"].min()
            cells.append(f"{shown} of {len(rows)}, p ≥ {smallest:.3f}; {top['value']:.2f} ({top['layer']})")
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
