"""What `predict` reads of a bundle, and what it says about files that are none."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aimonk_bench.errors import UserError
from aimonk_bench.serving.graph import open_classifier, parse_thresholds


def problems(bundle: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_classifier(bundle)
    return str(caught.value)


def test_the_metadata_say_how_to_decode_and_what_the_outputs_mean(tmp_path: Path) -> None:
    folder = bundles.write_bundle(tmp_path / "b", decode="fast", white=4095, interpolation="bicubic", size=48)
    for place in (folder, folder / "model.onnx"):
        classifier = open_classifier(place)
        assert (classifier.attributes, classifier.thresholds.tolist()) == (bundles.NAMES, [*bundles.THRESHOLDS])
        decoding = (classifier.size, classifier.interpolation, classifier.fast, classifier.white)
        assert decoding == (48, "bicubic", True, 4095)


@pytest.mark.parametrize("batch", [1, 7, 16])
def test_logits_are_those_of_the_network(bundle: Path, noise: np.ndarray, batch: int) -> None:
    logits = open_classifier(bundle).encoder(batch)(noise)
    np.testing.assert_allclose(logits, bundles.expected_logits(noise), rtol=1e-4, atol=1e-4)


def test_a_model_alone_needs_no_folder(tmp_path: Path) -> None:
    file = bundles.write_model(tmp_path / "any name.onnx", bundles.metadata())
    assert open_classifier(file).attributes == bundles.NAMES


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": "32"}, ("metadata size", "'32'", "an integer")),
        ({"size": 0}, ("metadata size", "found 0", "at least 1")),
        ({"decode": "quick"}, ("metadata decode", "'quick'", "full, fast")),
        ({"interpolation": None}, ("metadata interpolation", "found nothing")),
        ({"white": 70000}, ("metadata white", "70000", "at most 65535")),
        ({"schema_version": 2}, ("metadata schema_version", "found 2", "expected 1")),
        ({"names": ("a", "a", "b")}, ("metadata label_names", "a name twice")),
        ({"names": ("a", "macro", "b")}, ("metadata label_names", "'macro'")),
        ({"thresholds": (0.5, 1.5, 0.5)}, ("metadata thresholds.hat, red", "1.5", "at most 1")),
    ],
    ids=str,
)
def test_metadata_of_another_kind_are_named(tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    file = bundles.write_model(tmp_path / "model.onnx", bundles.metadata(**changes))
    text = problems(file)
    assert all(word in text for word in (str(file), *words)), text


def test_every_problem_of_the_metadata_is_named_at_once(tmp_path: Path) -> None:
    file = bundles.write_model(tmp_path / "model.onnx", bundles.metadata(size=0, decode="quick"))
    assert len(problems(file).splitlines()) == 2


def test_thresholds_of_other_attributes_are_refused(tmp_path: Path) -> None:
    texts = bundles.metadata() | {"thresholds": json.dumps({"animal": 0.5, "hat, red": 0.5, "cat": 0.5})}
    text = problems(bundles.write_model(tmp_path / "model.onnx", texts))
    assert "metadata thresholds: found animal, hat, red, cat" in text


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({}, "without the metadata aimonk_bench, label_names, thresholds"),
        ({"producer": "x"}, "it has producer"),
        ({"aimonk_bench": "{}", "label_names": "[]"}, "without the metadata thresholds"),
        (bundles.metadata() | {"label_names": "[1"}, "its metadata are damaged"),
        (bundles.metadata() | {"aimonk_bench": "[]"}, "its metadata are damaged"),
    ],
)
def test_a_foreign_model_is_told_what_it_lacks(tmp_path: Path, texts: dict[str, str], words: str) -> None:
    assert words in problems(bundles.write_model(tmp_path / "model.onnx", texts))


def foreign(file: Path, inputs: dict[str, tuple[int, list[Any]]], output: str = "logits") -> Path:
    """A model with the metadata of a bundle and another graph: the identity of the first input."""
    listed = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    first, (kind, shape) = next(iter(inputs.items()))
    result = helper.make_tensor_value_info(output, kind, shape)
    graph = helper.make_graph([helper.make_node("Identity", [first], [output])], "foreign", listed, [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, bundles.metadata())
    onnx.save(model, file)
    return file


@pytest.mark.parametrize(
    ("inputs", "output", "words"),
    [
        ({"pixel_values": (TensorProto.FLOAT, ["b", 3, 32, 32])}, "logits", "found the inputs pixel_values"),
        ({"images": (TensorProto.UINT8, ["b", 32, 32, 3])}, "logits", "tensor(uint8) ['b', 32, 32, 3]"),
        ({"images": (TensorProto.FLOAT, [1, 3, 32, 32])}, "logits", "tensor(float) [1, 3, 32, 32]"),
        ({"images": (TensorProto.FLOAT, ["b", 3, 64, 64])}, "logits", "expected an input images"),
        ({"images": (TensorProto.FLOAT, ["b", 3, 32, 32])}, "scores", "found the outputs scores"),
    ],
)
def test_a_graph_of_another_form_is_named(
    tmp_path: Path, inputs: dict[str, tuple[int, list[Any]]], output: str, words: str
) -> None:
    assert words in problems(foreign(tmp_path / "model.onnx", inputs, output))


def test_a_graph_that_gives_something_else_than_a_logit_for_each_attribute(tmp_path: Path) -> None:
    file = foreign(tmp_path / "model.onnx", {"images": (TensorProto.FLOAT, ["b", 3, "h", "w"])})
    with pytest.raises(UserError, match=r"found logits \[2, 3, 32, 32\], expected \[2, 3\]"):
        open_classifier(file).encoder(2)(np.zeros((1, bundles.SIZE, bundles.SIZE, 3), np.uint8))


def test_a_graph_that_cannot_be_run(tmp_path: Path) -> None:
    """It reshapes its input to another size than the metadata state."""
    listed = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["b", 3, "h", "w"])]
    nodes = [helper.make_node("Reshape", ["images", "shape"], ["logits"])]
    shape = numpy_helper.from_array(np.array([7, 3]), "shape")
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 3])
    model = helper.make_model(
        helper.make_graph(nodes, "g", listed, [result], [shape]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )
    helper.set_model_props(model, bundles.metadata())
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(UserError, match="2 images of 32 x 32"):
        open_classifier(tmp_path / "model.onnx").encoder(2)(np.zeros((1, bundles.SIZE, bundles.SIZE, 3), np.uint8))


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x07"])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(content)
    assert str(file) in problems(file)


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ({}, "holds no model.onnx, expected a bundle"),
        ({"status.json": "{}"}, "first `aimonk-bench export"),
        ({"suite.json": "{}"}, "first `aimonk-bench export"),
        ({"config.json": "{}", "model.safetensors": ""}, "copy it from the folder that `export` wrote"),
    ],
)
def test_a_folder_that_is_no_bundle(tmp_path: Path, there: dict[str, str], words: str) -> None:
    for name, content in there.items():
        (tmp_path / name).write_text(content)
    assert words in problems(tmp_path)
    assert "found no" in problems(tmp_path / "absent")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("thresholds", {"animal": 0.1}),
        ("label_names", ["x"]),
        ("label_names", [*bundles.NAMES[::-1]]),
        ("num_classes", 4),
        ("id2label", {"0": "hat, red", "1": "animal", "2": "NA"}),
        ("aimonk_bench.size", 64),
        ("aimonk_bench.decode", "fast"),
        ("aimonk_bench.interpolation", "bicubic"),
        ("aimonk_bench.white", 4095),
        ("aimonk_bench.mean", [0.5, 0.5, 0.4]),
        ("aimonk_bench.std", None),
        ("aimonk_bench.calibration", {"method": "platt"}),
        ("aimonk_bench.schema_version", 2),
        ("aimonk_bench", []),
        ("pretrained_cfg.mean", [0.485, 0.456, 0.406]),
        ("pretrained_cfg.std", [0.5]),
        ("pretrained_cfg.input_size", [3, 64, 64]),
    ],
)
def test_an_edited_config_is_not_ignored(tmp_path: Path, path: str, value: object) -> None:
    folder = bundles.write_bundle(tmp_path / "b")
    config = json.loads((folder / "config.json").read_text())
    *parents, key = path.split(".")
    functools.reduce(lambda part, name: part[name], parents, config)[key] = value
    (folder / "config.json").write_text(json.dumps(config))
    text = problems(folder)
    found = "nothing" if path == "aimonk_bench" else value
    assert f"{folder / 'config.json'}: {path}" in text
    assert f"found {found}, but model.onnx beside it has" in text
    assert "fix: " in text


def test_what_changes_no_prediction_may_be_edited(tmp_path: Path) -> None:
    folder = bundles.write_bundle(tmp_path / "b")
    config = json.loads((folder / "config.json").read_text())
    config["aimonk_bench"] |= {"run": "renamed", "licence": "mit"}
    (folder / "config.json").write_text(json.dumps(config | {"author": "me"}))
    assert open_classifier(folder).attributes == bundles.NAMES


def test_other_thresholds(bundle: Path) -> None:
    classifier = open_classifier(bundle)
    assert classifier.at({"NA": 0.0, "animal": 1.0}).thresholds.tolist() == [1.0, 0.4, 0.0]
    assert classifier.thresholds.tolist() == [*bundles.THRESHOLDS]
    with pytest.raises(UserError) as caught:
        classifier.at({"anmal": 0.5, "NA": 1.01, "hat, red": float("nan")})
    texts = caught.value.problems
    assert len(texts) == 3
    assert "did you mean animal?" in texts[0]
    assert all("from 0 to 1" in text for text in texts[1:])


def test_thresholds_of_the_command_line() -> None:
    assert parse_thresholds(["a=0.5", "b=c=1e-3", "a=.25"]) == {"a": 0.25, "b=c": 0.001}
    with pytest.raises(UserError) as caught:
        parse_thresholds(["a", "a=", "=0.5", "a=half", "b=1"])
    assert len(caught.value.problems) == 4
