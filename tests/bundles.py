"""Bundles for tests: a tiny network as ONNX, with the inputs, outputs and metadata that `export` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NAMES = ("animal", "hat, red", "NA")
THRESHOLDS = (0.5, 0.4, 0.6)
SIZE = 32
FEATURES = 8
SCALE, SHIFT = 1 / 64, 2.0  # of the normalisation


def block(**changes: Any) -> dict[str, Any]:
    """The map `aimonk_bench` of the metadata; a change to None leaves a key out, except ``white``."""
    content = {
        "schema_version": 1,
        "run": "masked_bce-0123abc",
        "head": "mean",
        "thresholds_chosen": "per_attribute_f1",
        "calibration": None,
        "white": None,
        "decode": "full",
        "interpolation": "bilinear",
        "size": SIZE,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        **changes,
    }
    return {key: value for key, value in content.items() if value is not None or key in ("white", "calibration")}


def metadata(names: Sequence[str] = NAMES, thresholds: Sequence[float] = THRESHOLDS, **changes: Any) -> dict[str, str]:
    """The metadata of a bundle."""
    values = {
        "aimonk_bench": block(**changes),
        "label_names": list(names),
        "thresholds": dict(zip(names, thresholds, strict=True)),
    }
    return {key: json.dumps(value) for key, value in values.items()}


def weights(attributes: int) -> dict[str, np.ndarray]:
    """The tensors of the network; the logits of noise lie on both sides of 0."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, 0.3, (FEATURES, 3, 4, 4)).astype(np.float32)
    head = rng.normal(0, 1, (attributes, FEATURES)).astype(np.float32)
    middling = features(rng.integers(0, 158, (8, SIZE, SIZE, 3), np.uint8), kernel).mean(axis=0)
    return {
        "scale": np.full((1, 3, 1, 1), SCALE, np.float32),
        "shift": np.full((1, 3, 1, 1), SHIFT, np.float32),
        "kernel": kernel,
        "head": head,
        "bias": (-head @ middling).astype(np.float32),
    }


def features(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The pooled features [N, FEATURES] of uint8 [N, SIZE, SIZE, 3], computed by NumPy."""
    planes = images.transpose(0, 3, 1, 2) * SCALE - SHIFT
    n, _, height, width = planes.shape
    patches = planes.reshape(n, 3, height // 4, 4, width // 4, 4).transpose(0, 2, 4, 1, 3, 5).reshape(n, -1, 48)
    return np.maximum(patches @ kernel.reshape(FEATURES, 48).T, 0).mean(axis=1)


def expected_logits(images: np.ndarray, attributes: int = 3) -> np.ndarray:
    """The logits [N, A] of uint8 [N, SIZE, SIZE, 3], computed by NumPy."""
    tensors = weights(attributes)
    return features(images, tensors["kernel"]) @ tensors["head"].T + tensors["bias"]


def write_model(
    file: Path, texts: Mapping[str, str], *, attributes: int = 3, size: int = SIZE, bias: float = 0.0
) -> Path:
    """Write an ONNX file: normalisation, a convolution, mean pooling, a linear head, sigmoid and thresholds.

    Args:
        bias: is added to all logits.
    """
    tensors = weights(attributes)
    tensors["bias"] = tensors["bias"] + np.float32(bias)
    stated = [*json.loads(texts.get("thresholds", "{}")).values()]
    thresholds = np.array(stated if len(stated) == attributes else [0.5] * attributes, np.float32)
    nodes = [
        helper.make_node("Mul", ["images", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "shift"], ["normalised"]),
        helper.make_node("Conv", ["normalised", "kernel"], ["convolved"], strides=[4, 4]),
        helper.make_node("Relu", ["convolved"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "head", "bias"], ["logits"], transB=1),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"]),
        helper.make_node("Greater", ["probabilities", "thresholds"], ["decisions"]),
    ]
    outputs = {"logits": TensorProto.FLOAT, "probabilities": TensorProto.FLOAT, "decisions": TensorProto.BOOL}
    graph = helper.make_graph(
        nodes,
        "classifier",
        [
            helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, size, size]),
            helper.make_tensor_value_info("thresholds", TensorProto.FLOAT, [attributes]),
        ],
        [helper.make_tensor_value_info(name, kind, ["batch", attributes]) for name, kind in outputs.items()],
        [numpy_helper.from_array(values, name) for name, values in {**tensors, "thresholds": thresholds}.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, dict(texts))
    onnx.checker.check_model(model)
    onnx.save(model, file)
    return file


def write_bundle(folder: Path, training_images: str | None = None, **options: Any) -> Path:
    """Write the folder of a bundle, as far as `predict` reads it; further options are those of `metadata`."""
    folder.mkdir(parents=True)
    texts = metadata(**options)
    if training_images is not None:
        texts["training_images"] = json.dumps(training_images)
    names = json.loads(texts["label_names"])
    size = json.loads(texts["aimonk_bench"])["size"]
    write_model(folder / "model.onnx", texts, attributes=len(names), size=size)
    config = {key: json.loads(texts[key]) for key in ("label_names", "thresholds", "aimonk_bench")}
    config |= {"num_classes": len(names), "id2label": {str(number): name for number, name in enumerate(names)}}
    pretrained = {"input_size": [3, size, size], "mean": [0.5] * 3, "std": [0.25] * 3}
    (folder / "config.json").write_text(
        json.dumps({"architecture": "resnet18", "pretrained_cfg": pretrained, **config})
    )
    return folder
