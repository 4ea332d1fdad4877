"""Encoders: what the features of an image depend on (known without building the network), and the engines.

An engine runs the frozen layers: torch, or onnxruntime on the exported network, which is several times faster on a CPU.
"""

from __future__ import annotations

import ctypes.util
import functools
import hashlib
import importlib.metadata
import json
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from aimonk_bench.backbones.encoder_record import MODEL, RECORD, Engine, Record, read_record, write_record
from aimonk_bench.backbones.weights import Weights
from aimonk_bench.data.images import BACKGROUND, DECODE_REVISION
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.records.files import file_sha256

if TYPE_CHECKING:
    from aimonk_bench.backbones.network import FrozenLayers

logger = logging.getLogger(__name__)

PARITY = 1e-3  # largest accepted difference between the engines, relative to the largest feature
BATCH_SIZE = {"cpu": 8, "cuda": 64}  # larger batches do not fit the caches of a CPU
POOLED = "global pooling"  # the boundary of an encoder of all layers
DRIVERS = ("cuda", "nvcuda", "amdhip64")  # of NVIDIA on Linux and Windows, of AMD
Run = Callable[[np.ndarray], np.ndarray]  # one batch, uint8 [B, H, W, 3] -> float32 [B, D]


@dataclass(frozen=True)
class EncoderSpec:
    """Everything that decides the features of an image. Nothing here builds or imports the network.

    Attributes:
        weights: of the backbone.
        size: edge of the images in pixels; `trial` checks that the backbone accepts it.
        engine: as the config states it.
        device: where torch would run, such as "cpu" or "cuda".
        dtype: of the stored features.
        decode: "fast" decodes large JPEGs at a fraction of their size.
        white: the value that means white in images of more than 8 bits; None if the data set has none.
        freeze: the frozen layers: "all" up to global pooling, up to the stage of this name, or "none".
    """

    weights: Weights
    size: int
    engine: Literal["auto", "torch", "onnxruntime"] = "auto"
    device: str = "cpu"
    dtype: Literal["float32", "float16"] = "float32"
    decode: Literal["full", "fast"] = "full"
    white: int | None = None
    freeze: str = "all"

    @property
    def preferred_engine(self) -> Engine:
        """The engine that is tried first; `auto` means onnxruntime on a CPU and torch elsewhere."""
        if self.engine != "auto":
            return self.engine
        return "onnxruntime" if self.device == "cpu" else "torch"

    @property
    def device_type(self) -> str:
        """Where the preferred engine runs, without a device number: "cpu" or "cuda"."""
        return "cpu" if self.preferred_engine == "onnxruntime" else self.device.partition(":")[0]

    @property
    def batch_size(self) -> int:
        """B, the number of images that are encoded at once."""
        return BATCH_SIZE.get(self.device_type, BATCH_SIZE["cpu"])

    @property
    def stored_dtype(self) -> Literal["float32", "float16", "uint8"]:
        """The dtype of a stored row; uint8 for pixels, which are stored where no layer is frozen."""
        return "uint8" if self.freeze == "none" else self.dtype

    @property
    def boundary(self) -> str:
        """Where the frozen layers end."""
        return {"all": POOLED, "none": "pixels"}.get(self.freeze, f"before {self.freeze}")

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that a stored row depends on."""
        fast = "JPEGs reduced, " if self.decode == "fast" else ""
        pixels: dict[str, Any] = {
            "boundary": self.boundary,
            "size": self.size,
            "interpolation": self.weights.entry.interpolation,
            "background": BACKGROUND,
            "decode": f"8-bit RGB, {fast}revision {DECODE_REVISION}, OpenCV {cv2.__version__}",
            "dtype": self.stored_dtype,
        }
        if self.white is not None:  # no key otherwise: 8-bit images do not depend on it
            pixels["white"] = self.white
        if self.freeze == "none":
            return pixels
        engine = f"{self.preferred_engine} {importlib.metadata.version(self.preferred_engine)}"
        return self._network | pixels | {"engine": engine, "device": self.device_type}

    @property
    def _network(self) -> dict[str, Any]:
        entry = self.weights.entry
        code = {"plugin": entry.code} if entry.code else {}
        return code | {
            "weights": self.weights.sha256,
            "network": f"{entry.timm}, timm {importlib.metadata.version('timm')}",
            "mean": entry.mean,
            "std": entry.std,
        }

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of :attr:`identity`; the name of the folder in the feature store."""
        return _sha256(self.identity)

    @property
    def run_digest(self) -> str:
        """SHA-256 (hex) of everything that the backbone contributes to a run, trainable layers included."""
        if self.freeze == "all":
            return self.digest
        return _sha256({**self.identity, **self._network, "trained on": self.device.partition(":")[0]})


def _sha256(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@functools.cache
def pick_device(requested: str) -> str:
    """The device that ``train.device`` means, such as "cpu" or "cuda:0"; `auto` is CUDA where it is available.

    torch is imported only for devices other than `cpu`, and for `auto` only where a graphics driver is installed.

    Raises:
        UserError: this machine has no such device.
    """
    if requested == "cpu" or (requested == "auto" and not any(map(ctypes.util.find_library, DRIVERS))):
        return "cpu"
    import torch

    if requested == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return str(torch.empty(0, device=requested).device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"train.device: found {requested!r}, expected auto or a device of this machine ({reason})"
        ) from error


@dataclass(frozen=True)
class Encoder:
    """Encode any number of images: uint8 [n, H, W, 3] -> float32 [n, D], or their pixels where no layer is frozen.

    Every batch has exactly B images: the last one is padded, because the bits of a feature may depend on B.

    Attributes:
        run: encodes one batch.
        batch_size: B.
        width: D; None while it is not known.

    Raises:
        RunFailed: the network does not give D features of each image.
    """

    run: Run
    batch_size: int
    width: int | None = None

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Encode images."""
        features = []
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            padding = [(0, self.batch_size - len(batch)), (0, 0), (0, 0), (0, 0)]
            of_batch = self.run(np.pad(batch, padding))
            check_shape(of_batch, self.batch_size, of_batch.shape[-1] if self.width is None else self.width)
            features.append(of_batch[: len(batch)])
        return np.concatenate(features)


def check_shape(features: np.ndarray, images: int, width: int) -> None:
    """Refuse features that are not [images, width], as a network of a plug-in may give them at any time.

    Raises:
        RunFailed: the shape is another one.
    """
    if features.shape != (images, width):
        shape = " x ".join(map(str, features.shape))
        raise RunFailed(f"the network gave {shape} features, expected {images} x {width} (images x features)")


def open_encoder(spec: EncoderSpec, folder: Path, images: np.ndarray) -> Encoder:
    """The encoder of a folder of features. The first call chooses the engine and writes ``encoder.json``.

    Args:
        spec: the encoder.
        folder: an existing folder; ``model.onnx`` is written there too.
        images: uint8 [n, H, W, 3], the first to be encoded; the engines are compared on them.

    Raises:
        UserError: the weights do not fit the network, or it cannot be cut at ``spec.freeze``.
        RunFailed: `engine: onnxruntime` fails or differs from torch; the features are not finite.
    """
    if spec.freeze == "none":
        write_record(folder, Record(spec.identity, "torch", images[0].size, None, None))
        return Encoder(lambda batch: batch.reshape(len(batch), -1), spec.batch_size, images[0].size)
    record, model = read_record(folder), folder / MODEL
    if record is not None and record.engine == "onnxruntime" and model.exists():
        try:
            _check_model(model, record)
            return Encoder(onnx_run(model), spec.batch_size, record.features)
        except Exception as error:  # onnxruntime raises a different exception for each kind of damage
            logger.warning("%s cannot be used and is made again: %s", model, " ".join(str(error).split())[:300])
    from aimonk_bench.backbones import network  # imports torch and timm

    logger.info("building %s (%s)", spec.weights.name, spec.weights.file or spec.weights.sha256)
    layers = network.build(spec.weights, spec.size, spec.freeze)
    device = spec.device if spec.preferred_engine == "torch" else "cpu"
    by_torch = Encoder(torch_run(layers, device), spec.batch_size)
    stored = record
    if record is None:
        record = _choose_engine(spec, layers, by_torch, model, images[: spec.batch_size])
    elif record.engine == "onnxruntime":
        network.export(layers, model, spec.batch_size, spec.size)
    if record.engine == "onnxruntime":
        record = replace(record, model_sha256=file_sha256(model))
    if record != stored:  # written after the model: a kill in between leaves one without its checksum, made again
        write_record(folder, record)
    if record.engine == "onnxruntime":
        return Encoder(onnx_run(model), spec.batch_size, record.features)
    if record.reason is not None:
        logger.warning("%s: encoding with torch, several times slower: %s", spec.weights.name, record.reason)
    return replace(by_torch, width=record.features)


def _check_model(model: Path, record: Record) -> None:
    """Compare an exported network with its checksum: most damage loads without an error and gives other features."""
    if record.model_sha256 is None:
        raise ValueError(f"{RECORD} has no checksum of it")
    if file_sha256(model) != record.model_sha256:
        raise ValueError(f"its content does not fit the checksum in {RECORD}")


def _choose_engine(
    spec: EncoderSpec, layers: FrozenLayers, by_torch: Encoder, model: Path, images: np.ndarray
) -> Record:
    """Export the layers and compare onnxruntime with torch, where onnxruntime is preferred; else choose torch."""
    from aimonk_bench.backbones import network

    expected = by_torch(images)
    if not np.isfinite(expected).all():
        raise RunFailed(
            f"{spec.weights.name}: features of the first images are not finite with the weights {spec.weights.place}; "
            "fix: other weights, such as backbone: {weights: imagenet}"
        )
    if spec.preferred_engine == "torch":
        return Record(spec.identity, "torch", expected.shape[1], None, None)
    parity = reason = None
    try:
        network.export(layers, model, spec.batch_size, spec.size)
        parity = disagreement(expected, Encoder(onnx_run(model), spec.batch_size)(images))
        if not parity <= PARITY:
            reason = f"onnxruntime differs from torch by {parity:.1e} of the largest feature, at most {PARITY:g}"
    except Exception as error:  # exporter and engine raise nearly anything for a network that they do not support
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if reason is not None and spec.engine == "onnxruntime":
        raise RunFailed(f"engine: onnxruntime: {reason}")
    return Record(spec.identity, "torch" if reason else "onnxruntime", expected.shape[1], parity, reason)


def disagreement(expected: np.ndarray, features: np.ndarray) -> float:
    """max|a - b| / max|a|; NaN where it is not a finite number.

    Raises:
        ValueError: the shapes differ.
    """
    if expected.shape != features.shape:
        raise ValueError(f"found features {features.shape}, expected {expected.shape}")
    largest, difference = float(np.abs(expected).max()), float(np.abs(expected - features).max())
    return difference / max(largest, sys.float_info.min) if np.isfinite(difference) else float("nan")


def torch_run(layers: FrozenLayers, device: str) -> Run:
    """Encode one batch with torch, in the channels_last format; in parts where CUDA runs out of memory."""
    import torch

    from aimonk_bench.backbones.device_memory import AtOnce

    network = layers.to(device).to(memory_format=torch.channels_last)
    at_once = AtOnce(max(BATCH_SIZE.values()), "encoding")

    def part(images: np.ndarray) -> np.ndarray:
        features: np.ndarray = network(torch.from_numpy(images).to(device)).float().cpu().numpy()
        return features

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.concatenate(at_once.map(part, images))

    return run


def onnx_run(model: Path) -> Run:
    """Encode one batch with onnxruntime."""
    session = onnx_session(model, {})
    name = session.get_inputs()[0].name

    def run(images: np.ndarray) -> np.ndarray:
        features: np.ndarray = session.run(None, {name: images})[0]
        return features

    return run


def onnx_session(model: Path | bytes, dimensions: Mapping[str, int], *, optimize: bool = True) -> Any:
    """An `onnxruntime.InferenceSession` that runs in the calling thread, because the callers are threads themselves.

    Args:
        model: an ONNX file, or its content.
        dimensions: sizes of its dynamic dimensions. A fixed batch makes constants of paddings.
        optimize: False opens a file quickly, to read what it says of itself.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for pool in ("intra_op", "inter_op"):
        options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")  # other threads need the cores
    for name, size in dimensions.items():
        options.add_free_dimension_override_by_name(name, size)
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3  # errors only; warnings concern onnxruntime's own optimiser
    return onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
    )
