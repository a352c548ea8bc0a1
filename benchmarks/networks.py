"""Networks of any source through the command line: what was typed, how it ended, and what came out.

    python benchmarks/networks.py --work FOLDER --out benchmarks/networks.md

A phantom of 5 mm, and a network that is trained for a few seconds: as a module in a file of code, as a MONAI bundle and
as an ONNX file. Commands are run one after the other, in the work folder.
"""

import argparse
import json
import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")

CODE = """
from pathlib import Path

from monai.networks.nets import UNet
from safetensors.torch import load_file

import shiftkit as sk


def make_network():
    network = UNet(3, 4, 2, (8, 16, 32), (2, 2), norm=("instance", {"affine": True}))
    network.load_state_dict(load_file(Path(__file__).parent / "tracts" / "models" / "model.safetensors"))
    return sk.Model(
        network=network, modality="fa", bundles=["AFleft", "AFright"], spacing_mm=5, output="logits", coordinates=True
    )


def probabilities():
    network = make_network().network.network
    network.register_forward_hook(lambda _, __, made: made.sigmoid())
    return sk.Model(
        network=network, modality="fa", bundles=["AFleft", "AFright"], spacing_mm=5, output="probabilities",
        coordinates=True, name="sure",
    )
"""
DEFINITION = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 4,
    "out_channels": "@classes",
    "channels": [8, 16, 32],
    "strides": [2, 2],
    "norm": ["instance", {"affine": True}],
}
TOLD = {"modality": "fa", "bundles": ["AFleft", "AFright"], "spacing_mm": 5, "output": "logits", "coordinates": True}
BOTH = "--cohort small/glioma --reference small/healthy"
QUICK = "--bootstrap 100 --permutations 99 --no-sensitivity"
TUNED = f"finetune --model net.py:make_network {BOTH} --folds 2 --epochs 1"
ROWS = (
    ("a module in a file of code", "predict --model net.py:make_network --cohort small/glioma --out masks"),
    ("", f"features --model net.py:make_network {BOTH} --permutations 99 --out layers"),
    ("", f"{TUNED} --strategy full --out full"),
    ("", f"{TUNED} --strategy head --out head"),
    ("", f"{TUNED} --strategy norm --out norm"),
    ("", f"{TUNED} --strategy l2sp --out l2sp"),
    ("", f"{TUNED} --strategy decoder --out decoder"),
    ("", f"decompose --model net.py:make_network {BOTH} --finetuned full {QUICK} --out run"),
    ("its folds", "predict --model net.py:make_network@full --cohort small/glioma --out again"),
    ("probabilities", f"finetune --model net.py:probabilities {BOTH} --folds 2 --epochs 1 --strategy full --out sure"),
    ("a MONAI bundle", "predict --model tracts --cohort small/glioma --out of-bundle"),
    ("", f"finetune --model tracts {BOTH} --folds 2 --epochs 1 --strategy head --out bundle-head"),
    ("its folds", "predict --model bundle-head --cohort small/glioma --out bundle-again"),
    ("a bundle with an expression", "predict --model expression --cohort small/glioma --out no"),
    ("a bundle with an attention window of 48 voxels", "predict --model vast --cohort small/glioma --out no"),
    ("an ONNX file", "predict --model net.onnx --cohort small/glioma --out of-onnx"),
    ("", f"decompose --model net.onnx {BOTH} {QUICK} --out run-onnx"),
    ("", f"features --model net.onnx {BOTH} --out no"),
    ("", f"finetune --model net.onnx {BOTH} --strategy full --out no"),
    ("a file that is no ONNX file", "predict --model page.onnx --cohort small/glioma --out no"),
    ("an ONNX file that never ends", "predict --model endless.onnx --cohort small/glioma --out no"),
    ("an ONNX file whose result no memory holds", "predict --model huge.onnx --cohort small/glioma --out no"),
)
"""Source, and what is typed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder; a phantom that is there is used again")
    parser.add_argument("--out", type=Path, help="file for the table")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    prepare(options.work)
    lines = [
        "# Networks of any source",
        "",
        "`python benchmarks/networks.py --work FOLDER --out benchmarks/networks.md`. Ten patients and nine controls "
        "of a phantom of 5 mm; a MONAI U-Net of three levels, trained for a few seconds on three further controls.",
        "",
        "| source | `shiftkit …` | exit | what came out | s of one core |",
        "|---|---|---|---|---|",
    ]
    for source, words in ROWS:
        code, told, seconds = run(options.work, words)
        lines.append(f"| {source} | `{words}` | {code} | {told} | {seconds:.0f} |")
        print(lines[-1], flush=True)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def prepare(work: Path) -> None:
    """Draw the cohorts, train the network, and write it as code, as bundles and as an ONNX file."""
    import torch
    from monai.networks.nets.unet import UNet
    from safetensors.torch import save_file

    import shiftkit as sk
    from shiftkit.segmentation.samples.samples import box_shape, load_sample
    from shiftkit.segmentation.training.losses import dice_bce

    if not (work / "small").is_dir():
        sk.phantom(work / "small", n_healthy=9, n_glioma=10, spacing_mm=5, seed=1)
    bundles = tuple(map(sk.Bundle.parse, TOLD["bundles"]))
    learned = sk.phantom(work / "learned", n_healthy=3, n_glioma=0, spacing_mm=5, seed=2)["healthy"]
    samples = [load_sample(case, "fa", 5, box_shape(5), bundles) for case in learned]
    torch.manual_seed(0)
    network = UNet(3, 4, 2, (8, 16, 32), (2, 2), norm=("instance", {"affine": True}))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    known = torch.ones(1, 2, dtype=torch.bool)
    for _ in range(25):
        for sample in samples:
            target = torch.tensor(sample.target)[None].float()
            loss = dice_bce(network(torch.tensor(sample.image)[None]), target, known)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    (work / "net.py").write_text(CODE)
    window = {"_target_": "SwinUNETR", "in_channels": 4, "out_channels": 2, "feature_size": 12, "window_size": 48}
    for name, classes, definition in (
        ("tracts", 2, DEFINITION),
        ("expression", "$1 + 1", DEFINITION),
        ("vast", 2, window),
    ):
        for part in ("configs", "models"):
            (work / name / part).mkdir(parents=True, exist_ok=True)
        save_file(network.state_dict(), work / name / "models" / "model.safetensors")
        config = {"imports": ["$import glob"], "classes": classes, "network_def": definition}
        (work / name / "configs" / "inference.json").write_text(json.dumps(config, indent=2))
        (work / name / "configs" / "metadata.json").write_text(json.dumps({"shiftkit": TOLD}, indent=2))
    import onnx

    path = work / "net.onnx"
    image = torch.rand(1, 4, *box_shape(5))
    torch.onnx.export(network.eval(), (image,), str(path), verbose=False, external_data=False)
    made = onnx.load(path)
    onnx.helper.set_model_props(made, {"shiftkit": json.dumps(TOLD)})
    onnx.save(made, path)
    (work / "page.onnx").write_text("<!doctype html><title>404</title>")
    for name, node, constants in (
        ("endless", endless(), [onnx.helper.make_tensor("on", onnx.TensorProto.BOOL, [], [True])]),
        (
            "huge",
            onnx.helper.make_node("Expand", ["x", "to"], ["y"]),
            [onnx.helper.make_tensor("to", onnx.TensorProto.INT64, [5], [10**6, 4, 1, 1, 1])],
        ),
    ):
        value = onnx.helper.make_tensor_value_info
        ends = ([value("x", 1, [1, 4, None, None, None])], [value("y", 1, None)])
        graph = onnx.helper.make_graph([node], name, *ends, constants)
        whole = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
        onnx.helper.set_model_props(whole, {"shiftkit": json.dumps(TOLD)})
        onnx.save(whole, work / f"{name}.onnx")


def endless() -> "onnx.NodeProto":
    """A node that hands an image on for as long as a condition holds, which never changes."""
    import onnx

    step = [onnx.helper.make_node("Identity", [one], [f"{one}_after"]) for one in ("go", "image")]
    kinds = (("i", 7, []), ("go", 9, []), ("image", 1, None))
    into = [onnx.helper.make_tensor_value_info(*one) for one in kinds]
    out = [onnx.helper.make_tensor_value_info(f"{name}_after", kind, shape) for name, kind, shape in kinds[1:]]
    return onnx.helper.make_node("Loop", ["", "on", "x"], ["y"], body=onnx.helper.make_graph(step, "step", into, out))


def run(work: Path, words: str) -> tuple[int, str, float]:
    """Exit code, what was said of the result, and seconds of one core."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    typed = [sys.executable, "-P", "-m", "shiftkit", *shlex.split(words), "--device", "cpu"]
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(typed, cwd=work, env=surroundings, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.returncode, told(work, words, done), seconds


def told(work: Path, words: str, done: "subprocess.CompletedProcess[str]") -> str:
    """In a cell of the table: Dice where there are masks, the claim where there is one, else the error."""
    import shiftkit as sk

    out = work / words.rpartition("--out ")[2]
    if done.returncode:
        said = " ".join(done.stderr.split())
        return re.sub(r"[|]", "/", said.replace(str(work), "."))[-260:]
    masks = out / "predictions" if words.startswith("finetune") else out
    if words.startswith(("predict", "finetune")):
        rows = sk.score(masks, work / "small" / "glioma", metrics=["dice"]).to_frame().query("status != 'unavailable'")
        return f"masks of {rows['participant_id'].nunique()} patients, mean Dice {rows['value'].mean():.2f}"
    return json.loads((out / "run.json").read_text(encoding="utf-8"))["verdict"].replace("|", "/")


if __name__ == "__main__":
    main()
