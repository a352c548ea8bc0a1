from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from shiftkit.errors import DataError, ModelMismatchError
from shiftkit.segmentation.network.onnx_files import OnnxNetwork
from shiftkit.segmentation.network.onnx_graphs import require_steps

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
make = onnx.helper
FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
RELU = make.make_node("Relu", ["x"], ["y"])
IMAGE = torch.linspace(-1, 1, 512).reshape(1, 1, 8, 8, 8)


def value(name: str, shape: Any = None, kind: int = FLOAT) -> Any:
    """What goes in or out of a graph."""
    return make.make_tensor_value_info(name, kind, shape)


def sizes(*told: int) -> Any:
    """Numbers that an operator takes for a shape."""
    return make.make_tensor("sizes", INT64, [len(told)], told)


def network(
    *nodes: Any, tensors: Sequence[Any] = (), functions: Sequence[Any] = (), domains: Sequence[str] = (), **graph: Any
) -> Any:
    """A network from x, an image, to y."""
    whole = make.make_graph(nodes, "network", [value("x", [1, 1, None, None, None])], [value("y")], tensors, **graph)
    opsets = [make.make_opsetid(domain, 18 if domain == "" else 1) for domain in ("", *domains)]
    return make.make_model(whole, opset_imports=opsets, ir_version=9, functions=functions)


def written(folder: Path, content: Any) -> Path:
    """A file with it."""
    path = folder / "net.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def function(name: str, *calls: str) -> Any:
    """A function of the domain mine that calls others, one after the other."""
    last = len(calls) - 1
    nodes = [
        make.make_node(called, ["a" if i == 0 else f"v{i}"], ["b" if i == last else f"v{i + 1}"], domain="mine")
        for i, called in enumerate(calls)
    ]
    opsets = [make.make_opsetid("", 18), make.make_opsetid("mine", 1)]
    return make.make_function("mine", name, ["a"], ["b"], nodes or [make.make_node("Relu", ["a"], ["b"])], opsets)


def loop(kind: str = "Loop") -> Any:
    """A node that repeats a graph: as long as a condition holds, which never changes, or once for each of a list."""
    if kind == "Loop":
        within = make.make_graph(
            [make.make_node("Identity", ["go"], ["on"]), make.make_node("Identity", ["v"], ["w"])],
            "again",
            [value("i", [], INT64), value("go", [], BOOL), value("v")],
            [value("on", [], BOOL), value("w")],
        )
        return make.make_node("Loop", ["", "always", "x"], ["y"], body=within)
    within = make.make_graph([make.make_node("Identity", ["v"], ["w"])], "again", [value("v")], [value("w")])
    return make.make_node(kind, ["x"], ["y"], body=within, **({"num_scan_inputs": 1} if kind == "Scan" else {}))


def choice(inner: Any) -> Any:
    """A node that does one of two things, the same."""
    branch = make.make_graph([inner], "branch", [], [value(inner.output[0])])
    return make.make_node("If", ["always"], ["y"], then_branch=branch, else_branch=branch)


ALWAYS = make.make_tensor("always", BOOL, [], [True])


@pytest.mark.parametrize(
    "content",
    [
        network(choice(make.make_node("Relu", ["x"], ["z"])), tensors=[ALWAYS]),
        network(
            make.make_node("Twice", ["x"], ["y"], domain="mine"),
            functions=[function("Once"), function("Twice", "Once", "Once")],
            domains=["mine"],
        ),
    ],
    ids=["choice", "functions"],
)
def test_steps_that_are_known_are_computed(content: Any, tmp_path: Path) -> None:
    """A choice between two lists of steps, and functions that end, are a network as any other."""
    assert torch.equal(OnnxNetwork(written(tmp_path, content))(IMAGE), IMAGE.relu())


LAUGHS = [function("F0"), *(function(f"F{i}", f"F{i - 1}", f"F{i - 1}") for i in range(1, 40))]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (network(loop(), tensors=[ALWAYS]), "has a Loop, which repeats steps"),
        (network(loop("Scan")), "has a Scan, which repeats steps"),
        (network(loop("SequenceMap")), "has a SequenceMap, which repeats steps"),
        (network(choice(loop()), tensors=[ALWAYS]), "has a Loop, which repeats steps"),
        (
            network(
                make.make_node("F", ["x"], ["y"], domain="mine"),
                functions=[make.make_function("mine", "F", ["x"], ["y"], [loop("Scan")], [make.make_opsetid("", 18)])],
                domains=["mine"],
            ),
            "has a Scan, which repeats steps",
        ),
        (network(make.make_node("F39", ["x"], ["y"], domain="mine"), functions=LAUGHS, domains=["mine"]), "more once"),
        (
            network(make.make_node("F", ["x"], ["y"], domain="mine"), functions=[function("F", "F")], domains=["mine"]),
            "a function, F, that calls itself",
        ),
        (network(make.make_node("Run", ["x"], ["y"], domain="their.own"), domains=["their.own"]), "needs Run of their"),
    ],
    ids=["loop", "scan", "map", "loop in choice", "scan in function", "functions of functions", "itself", "domain"],
)
def test_what_may_never_end_or_is_no_operator_of_onnx_is_refused(content: Any, told: str, tmp_path: Path) -> None:
    """Graphs that are repeated, wherever they stand, functions that come to a billion steps, and code beside the file.

    The message has what to do.
    """
    with pytest.raises(DataError, match=rf"{told}.*Export it") as error:
        OnnxNetwork(written(tmp_path, content))
    assert "net.onnx" in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no network at all",
        bytes(1000),
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"<!doctype html><html>",
        b"\xff" * 50,
        network(RELU).SerializeToString()[:-3],
    ],
    ids=["empty", "text", "zeros", "picture", "page", "ones", "half"],
)
def test_what_is_no_onnx_file_is_told_in_a_sentence(content: bytes, tmp_path: Path) -> None:
    """Whatever lies there: what must hold, where, and what to do; not what an engine says of it."""
    with pytest.raises(DataError, match=r"net\.onnx must be an ONNX file.*Copy or export it again\.$"):
        OnnxNetwork(written(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (network(make.make_node("Nonsense", ["x"], ["y"])), "No Op registered for Nonsense"),
        (make.make_model(network(RELU).graph, opset_imports=[make.make_opsetid("", 999)]), "Opset 999"),
    ],
    ids=["operator", "opset"],
)
def test_what_onnxruntime_cannot_compute_is_told_without_its_codes(content: Any, told: str, tmp_path: Path) -> None:
    """A network of another time: which operator or version, and what to do."""
    with pytest.raises(DataError, match=rf"cannot: .*{told}.*update onnxruntime\.$") as error:
        OnnxNetwork(written(tmp_path, content))
    assert "ONNXRuntimeError" not in str(error.value) and len(str(error.value)) < 600


def number(name: str, told: float) -> Any:
    """A constant."""
    return make.make_tensor(name, FLOAT, [], [told])


VAST = (4000, 4000, 4000, 4000)


@pytest.mark.parametrize(
    ("nodes", "tensors"),
    [
        ([make.make_node("ConstantOfShape", ["sizes"], ["y"])], [sizes(*VAST)]),
        ([make.make_node("Expand", ["x", "sizes"], ["y"])], [sizes(4000, 4000 * 4000, 8, 8, 8)]),
        (
            [make.make_node("Range", ["from", "to", "by"], ["y"])],
            [number("from", 0), number("to", 1e15), number("by", 1)],
        ),
        ([make.make_node("ConstantOfShape", ["sizes"], ["z"]), make.make_node("Relu", ["z"], ["y"])], [sizes(*VAST)]),
    ],
    ids=["shape", "expand", "range", "between"],
)
def test_a_result_larger_than_the_machine_is_refused(nodes: Any, tensors: Any, tmp_path: Path) -> None:
    """However a file makes it, of the image or of constants: a sentence with its size, and no memory is taken."""
    made = OnnxNetwork(written(tmp_path, network(*nodes, tensors=tensors)))
    with pytest.raises(ModelMismatchError, match=r"makes one of [\d.e+]+ GiB beside\s.*Give a smaller `patch`"):
        made(IMAGE)


def test_a_network_of_whole_numbers_takes_no_image(tmp_path: Path) -> None:
    """An image in 0 to 1 would be cut to zeros and ones: what the file takes is told when it is opened."""
    content = network(make.make_node("Cast", ["x"], ["y"], to=FLOAT))
    content.graph.input[0].type.tensor_type.elem_type = INT64
    with pytest.raises(DataError, match=r"takes tensor\(int64\)"):
        OnnxNetwork(written(tmp_path, content))


def test_what_fails_on_an_image_is_told_without_codes(tmp_path: Path) -> None:
    """The network's own reason is kept, the engine's numbers and places in its code are not."""
    made = OnnxNetwork(written(tmp_path, network(make.make_node("Reshape", ["x", "sizes"], ["y"]), tensors=[sizes(3)])))
    with pytest.raises(RuntimeError, match="Reshape") as error:
        made(IMAGE)
    assert "ONNXRuntimeError" not in str(error.value) and ".h:" not in str(error.value)


def sparse(*told: int) -> Any:
    """A tensor of one number and any shape."""
    values = make.make_tensor("w", FLOAT, [1], [1.0])
    return make.make_sparse_tensor(values, make.make_tensor("at", INT64, [1], [0]), told)


@pytest.mark.parametrize("place", ["constant", "initializer"])
def test_sparse_weights_are_as_large_as_their_file(place: str, tmp_path: Path) -> None:
    """One number for any shape, which an engine unpacks before it computes anything."""
    if place == "constant":
        content = network(make.make_node("Constant", [], ["z"], sparse_value=sparse(10**12)), RELU)
    else:
        content = network(RELU, sparse_initializer=[sparse(10**12)])
    with pytest.raises(DataError, match=r"sparse tensors of 7\.63e\+06 MiB"):
        OnnxNetwork(written(tmp_path, content))


def beside(place: str, value_first: bool = False) -> Any:
    """A network with four numbers in another file."""
    weights = onnx.TensorProto(name="w", data_type=FLOAT, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value=place)
    blob = network(make.make_node("Add", ["x", "w"], ["y"]), tensors=[weights]).SerializeToString()
    if value_first:
        name, told = b"\n\x08location", b"\x12" + bytes([len(place)]) + place.encode()
        assert blob.count(name + told) == 1
        blob = blob.replace(name + told, told + name)
    return blob


def test_weights_lie_in_the_folder_and_are_no_larger_than_what_they_are_for(tmp_path: Path) -> None:
    """Elsewhere, nowhere, or in a file a thousand times their size: refused before anything is opened.

    Also where a file gives the name before it says that it is one, and where that is no name at all.
    """
    for place in ("/etc/passwd", "../w.data", "a" * 5000):
        for value_first in (False, True):
            if value_first and len(place) > 100:
                continue
            with pytest.raises(DataError, match="which lies elsewhere"):
                require_steps(written(tmp_path, beside(place, value_first)))
    for place in ("w.data", "*/_ORT_MEM_ADDR_/*"):
        with pytest.raises(DataError, match="which is not there"):
            require_steps(written(tmp_path, beside(place)))
    (tmp_path / "w.data").write_bytes(bytes(16))
    assert require_steps(written(tmp_path, beside("w.data"))) == [tmp_path / "w.data"]
    with (tmp_path / "w.data").open("wb") as stream:
        stream.truncate(2**31)
    with pytest.raises(DataError, match=r"2048 MiB, and its tensors fill at most 3\.05e-05"):
        require_steps(written(tmp_path, beside("w.data")))


def test_a_file_of_any_number_of_parts_or_any_depth_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty messages take two bytes in a file and a hundred times that in memory; nested ones any stack."""
    monkeypatch.setattr("shiftkit.segmentation.network.onnx_graphs._MOST_PARTS", 10_000)
    empty = b"\x3a" + b"\xc0\xb8\x02" + b"\x0a\x00" * 20_000
    with pytest.raises(DataError, match="has more"):
        require_steps(written(tmp_path, empty))
    node = RELU
    for _ in range(15):
        node = choice(node)
    with pytest.raises(DataError, match="in at most 40 levels"):
        require_steps(written(tmp_path, network(node, tensors=[ALWAYS])))
    with (tmp_path / "net.onnx").open("wb") as stream:
        stream.truncate(2**33)
    with pytest.raises(DataError, match="at most 2 GiB"):
        require_steps(tmp_path / "net.onnx")
