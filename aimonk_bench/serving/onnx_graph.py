"""``model.onnx``: the classifier for any number of images, with its thresholds and all that it means.

| input | |
|---|---|
| `images` | float32 [B, 3, H, W], RGB from 0 to 255; they are normalised inside |
| `thresholds` | float32 [A], probabilities; an initializer, so that it may be left out |

| output | |
|---|---|
| `logits` | float32 [B, A] |
| `probabilities` | float32 [B, A], 1 / (1 + exp(-logit)) |
| `decisions` | bool [B, A], probability > threshold, compared as float64 |

This module imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from aimonk_bench.backbones import network
from aimonk_bench.backbones.encoder import onnx_session
from aimonk_bench.backbones.weights import Weights
from aimonk_bench.errors import RunFailed
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.evaluation.predictions import sigmoid
from aimonk_bench.serving.bundle import IMAGES, LOGITS, THRESHOLDS
from aimonk_bench.serving.classifier import TorchClassifier, untrained

OUTPUTS = (LOGITS, "probabilities", "decisions")
BATCH = "B"  # name of the first dimension
TOLERANCE = 1e-4  # between torch and onnxruntime: of logits, relative where the largest is above 1
BATCHES = (1, 7)  # that are compared


def write(file: Path, classifier: TorchClassifier, weights: Weights, size: int, thresholds: Array) -> None:
    """Write the graph.

    Args:
        classifier: of the bundle.
        weights: of its backbone, for messages.
        size: edge of the images in pixels.
        thresholds: [A].

    Raises:
        RunFailed: torch's exporter cannot do this network.
        OSError: the file cannot be written.
    """
    try:
        network.write_onnx(classifier, torch.zeros(2, 3, size, size), file, LOGITS, BATCH)
    except Exception as error:  # the exporter raises nearly anything for a network that it does not support
        if isinstance(error, OSError) and error.errno is not None:  # of the disk, not of the network
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise RunFailed(
            f"{weights.name} cannot be exported to ONNX by torch {torch.__version__} ({reason}); fix: another backbone"
        ) from error
    model = onnx.load(file)
    _without_arithmetic(model, size)
    _decide(model.graph, thresholds)
    onnx.checker.check_model(model)
    onnx.save(model, file)


def _without_arithmetic(model: Any, size: int) -> None:
    """Make constants of paddings that the graph computes from the size of its input, which is fixed.

    onnxruntime joins constant paddings with convolutions, which networks of TensorFlow's padding have: one core does
    120 images per second instead of 85 (tf_efficientnet_lite0). `predict`, which fixes B, does not need that, but
    everybody else who opens the file.
    """
    graph = model.graph
    constant = {item.name for item in graph.initializer}
    constant |= {output for node in graph.node if node.op_type == "Constant" for output in node.output}
    pads = [node for node in graph.node if node.op_type == "Pad" and node.input[1] not in constant]
    names = sorted({node.input[1] for node in pads})
    if not names:
        return
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.INT64, None) for name in names)
    run = onnx_session(probe.SerializeToString(), {}).run
    single, double = (run(names, {IMAGES: np.zeros((batch, 3, size, size), np.float32)}) for batch in (1, 2))
    values = {
        name: value for name, value, other in zip(names, single, double, strict=True) if np.array_equal(value, other)
    }
    graph.initializer.extend(numpy_helper.from_array(value, f"{name}_constant") for name, value in values.items())
    for node in pads:
        if node.input[1] in values:
            node.input[1] = f"{node.input[1]}_constant"
    needed: set[str] = {output.name for output in graph.output}
    used = []
    for node in reversed(graph.node):  # nodes stand in the order of computation
        if needed & {*node.output}:
            used.append(node)
            needed |= {*node.input}
    del graph.node[:]
    graph.node.extend(reversed(used))


def _decide(graph: Any, thresholds: Array) -> None:
    """Add probabilities, thresholds and decisions.

    Everything is compared as float64, because float32 cannot tell probabilities near 1 apart. For the same reason a
    threshold that equals its default, which is rounded to float32, counts as the default before rounding.
    """
    logits, probabilities, decisions = OUTPUTS
    rounded = thresholds.astype(np.float32)
    exact, default = "thresholds_exact", "thresholds_default"
    graph.node.extend(
        [
            helper.make_node("Cast", [logits], ["logits_double"], to=TensorProto.DOUBLE),
            helper.make_node("Sigmoid", ["logits_double"], ["probabilities_double"]),
            helper.make_node("Cast", ["probabilities_double"], [probabilities], to=TensorProto.FLOAT),
            helper.make_node("Cast", [THRESHOLDS], ["thresholds_double"], to=TensorProto.DOUBLE),
            helper.make_node("Equal", [THRESHOLDS, default], ["is_default"]),
            helper.make_node("Where", ["is_default", exact, "thresholds_double"], ["thresholds_applied"]),
            helper.make_node("Greater", ["probabilities_double", "thresholds_applied"], [decisions]),
        ]
    )
    initial = {THRESHOLDS: rounded, default: rounded, exact: thresholds}
    graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in initial.items())
    attributes = len(thresholds)
    graph.input.append(helper.make_tensor_value_info(THRESHOLDS, TensorProto.FLOAT, [attributes]))
    del graph.output[:]
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.BOOL)
    shape: list[str | int | None] = [BATCH, attributes]
    graph.output.extend(
        helper.make_tensor_value_info(name, kind, shape) for name, kind in zip(OUTPUTS, kinds, strict=True)
    )


def describe(file: Path, metadata: Mapping[str, str]) -> None:
    """Put the metadata into the file."""
    model = onnx.load(file)
    helper.set_model_props(model, dict(metadata))
    onnx.save(model, file)


def attempt(file: Path, weights: Weights, size: int, thresholds: Array) -> None:
    """Write and check a graph with a random head, and delete it: what fails here is known before hours of training.

    Raises:
        RunFailed: the network cannot be exported.
    """
    classifier = untrained(weights, size, len(thresholds))
    write(file, classifier, weights, size, thresholds)
    check(file, classifier, weights, noise(max(BATCHES), size), thresholds)
    file.unlink()


def noise(images: int, size: int) -> np.ndarray:
    """Random images, uint8 [images, size, size, 3]."""
    return np.random.default_rng(0).integers(0, 256, (images, size, size, 3), np.uint8)


def check(file: Path, classifier: TorchClassifier, weights: Weights, images: np.ndarray, thresholds: Array) -> None:
    """Compare onnxruntime with torch on the first images, at each number of `BATCHES`.

    Logits may differ by `TOLERANCE`, and decisions only where the logit is that close to the threshold's.

    Args:
        images: uint8 [7, H, W, 3], RGB.
        thresholds: [A].

    Raises:
        RunFailed: they differ by more.
    """
    session = onnx_session(file, {})
    for batch in BATCHES:
        pixels = planes(images[:batch])
        with torch.inference_mode():
            expected = classifier(torch.from_numpy(pixels)).numpy()
        try:
            logits, _, decisions = session.run(list(OUTPUTS), {IMAGES: pixels})
        except Exception as error:  # onnxruntime raises a different exception for each kind of misfit
            raise RunFailed(_difference(weights, batch, " ".join(str(error).split())[:300])) from error
        band = TOLERANCE * max(1.0, float(np.abs(expected).max()))
        difference = float(np.abs(logits - expected).max())
        if not difference <= band:
            raise RunFailed(_difference(weights, batch, f"logits differ by {difference:.1e}, at most {band:.1e}"))
        outside = (sigmoid(expected - band) > thresholds) == (sigmoid(expected + band) > thresholds)
        if ((decisions != (sigmoid(expected) > thresholds)) & outside).any():
            raise RunFailed(_difference(weights, batch, "decisions differ"))


def _difference(weights: Weights, batch: int, reason: str) -> str:
    return (
        f"{weights.name} cannot be exported to ONNX: for a batch of {batch}, onnxruntime does not do as torch "
        f"({reason}); fix: another backbone"
    )


def runner(file: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The logits [n, A] of float32 [n, 3, H, W], RGB from 0 to 255, in the calling thread."""
    session = onnx_session(file, {})

    def run(images: np.ndarray) -> np.ndarray:
        logits: np.ndarray = session.run([LOGITS], {IMAGES: images})[0]
        return logits

    return run


def planes(images: np.ndarray) -> np.ndarray:
    """Images uint8 [B, H, W, 3] as the graph takes them: float32 [B, 3, H, W]."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
