"""From pictures to features: which encoder it is (known without building it), and the engines that run it."""

from __future__ import annotations

import contextlib
import ctypes.util
import functools
import hashlib
import importlib.metadata
import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from aimonk_bench.backbones.weights import Weights
from aimonk_bench.data.images import BACKGROUND, DECODE_REVISION
from aimonk_bench.errors import RunFailed, UserError
from aimonk_bench.records.files import read_as, write_json

if TYPE_CHECKING:
    from aimonk_bench.backbones.network import FrozenLayers

logger = logging.getLogger(__name__)

PARITY = 1e-3
SLOWER = "%s: encoding with torch, several times slower: %s"
BATCH = {"cpu": 8, "cuda": 64}  # on a CPU larger ones only leave its caches
Engine = Literal["torch", "onnxruntime"]
Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class EncoderSpec:
    """All that decides what the features of a picture are; nothing here builds or imports the network.

    Attributes:
        weights: of the backbone.
        size: edge of the pictures; that the backbone can take it is checked with the config.
        engine: as the config names it.
        device: where torch would run, such as "cpu" or "cuda".
        dtype: of the stored features.
        decode: whether large JPEGs may be decoded at a fraction of their size.
        freeze: what of the network is frozen: "all" up to global pooling, the stage before which it ends, or "none".
    """

    weights: Weights
    size: int
    engine: Literal["auto", "torch", "onnxruntime"] = "auto"
    device: str = "cpu"
    dtype: Literal["float32", "float16"] = "float32"
    decode: Literal["full", "fast"] = "full"
    freeze: str = "all"

    @property
    def first(self) -> Engine:
        """The engine tried first: `auto` on the CPU is onnxruntime, elsewhere torch."""
        if self.engine != "auto":
            return self.engine
        return "onnxruntime" if self.device == "cpu" else "torch"

    @property
    def on_processor(self) -> bool:
        """Whether the cores that decode also encode."""
        return self.first == "onnxruntime" or self.device == "cpu"

    @property
    def batch(self) -> int:
        """B, pictures encoded at once."""
        return BATCH["cpu"] if self.first == "onnxruntime" else BATCH.get(self.device.partition(":")[0], BATCH["cpu"])

    @property
    def stored(self) -> Literal["float32", "float16", "uint8"]:
        """The dtype of a stored row: pixels where nothing is frozen."""
        return "uint8" if self.freeze == "none" else self.dtype

    @property
    def boundary(self) -> str:
        """Where the frozen part ends."""
        return {"all": "global pooling", "none": "pixels"}.get(self.freeze, f"before {self.freeze}")

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """What a stored row depends on."""
        entry = self.weights.entry
        fast = "JPEGs reduced, " if self.decode == "fast" else ""
        pixels = {
            "boundary": self.boundary,
            "size": self.size,
            "interpolation": entry.interpolation,
            "background": BACKGROUND,
            "decode": f"8-bit RGB, {fast}revision {DECODE_REVISION}, OpenCV {cv2.__version__}",
            "dtype": self.stored,
        }
        if self.freeze == "none":
            return pixels
        engine = {
            "engine": f"{self.first} {importlib.metadata.version(self.first)}",
            "device": "cpu" if self.first == "onnxruntime" else self._kind,
        }
        return self._network | pixels | engine

    @property
    def _network(self) -> dict[str, Any]:
        entry = self.weights.entry
        return {
            "weights": self.weights.sha256,
            "network": f"{entry.timm}, timm {importlib.metadata.version('timm')}",
            "mean": entry.mean,
            "std": entry.std,
        }

    @property
    def _kind(self) -> str:
        return self.device.partition(":")[0]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of :attr:`identity`: the name of the folder in the feature store."""
        return _sha256(self.identity)

    @property
    def run_digest(self) -> str:
        """SHA-256 (hex) of all that the backbone contributes to a run: where a part of it is trained, that too."""
        if self.freeze == "all":
            return self.digest
        return _sha256({**self.identity, **self._network, "trained on": self._kind})


def _sha256(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


DRIVERS = ("cuda", "nvcuda", "amdhip64")  # of NVIDIA on Linux and Windows, of AMD


@functools.cache
def pick_device(asked: str) -> str:
    """The device that ``train.device`` means, such as "cpu" or "cuda:0"; `auto` is CUDA where there is one.

    torch is imported only for another name than `cpu`, and for `auto` only if there is a graphics driver.

    Raises:
        UserError: this machine has no such device.
    """
    if asked == "cpu" or (asked == "auto" and not any(map(ctypes.util.find_library, DRIVERS))):
        return "cpu"
    import torch

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return str(torch.empty(0, device=asked).device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"train.device: found {asked!r}, expected auto or a device of this machine ({reason})"
        ) from error


@contextlib.contextmanager
def callers_thread() -> Iterator[None]:
    """Where torch is loaded, each of its calls computes in the thread that makes it, as those of onnxruntime do."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Record:
    """``encoder.json``: how a folder of features was made.

    Attributes:
        identity: see :class:`EncoderSpec`.
        engine: which encodes, for every row of the folder.
        features: D.
        parity: max|a - b| / max|a| of onnxruntime against torch on the first batch; None if they were not compared.
        reason: why it is not the engine tried first, else None.
    """

    identity: dict[str, Any]
    engine: Engine
    features: int
    parity: float | None
    reason: str | None


def read_record(folder: Path) -> Record | None:
    """The record of a folder of features, None before anything was encoded.

    Raises:
        UserError: it is damaged.
    """
    file = folder / "encoder.json"
    try:
        return read_as(Record, file) if file.exists() else None
    except UserError as error:
        raise damaged(folder, str(error)) from error


def damaged(folder: Path, reason: str) -> UserError:
    """What to tell of a folder of features that cannot be trusted."""
    return UserError(f"the feature store {folder} is damaged; remove that folder, it will be made anew ({reason})")


class Encoder:
    """uint8 [n, H, W, 3] -> float32 [n, D], B at a time; where nothing is frozen, the pixels.

    The last batch is filled up, so that the features of a picture do not depend on how many are encoded with it.
    """

    def __init__(self, run: Run, batch: int) -> None:
        self._run, self._batch = run, batch

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Encode any number of pictures."""
        parts = []
        for start in range(0, len(pictures), self._batch):
            part = pictures[start : start + self._batch]
            filling = [(0, self._batch - len(part)), (0, 0), (0, 0), (0, 0)]
            parts.append(self._run(np.pad(part, filling))[: len(part)])
        return np.concatenate(parts)


def open_encoder(spec: EncoderSpec, folder: Path, pictures: np.ndarray) -> Encoder:
    """The encoder of a folder of features; the first call makes it, compares the engines and writes ``encoder.json``.

    Args:
        folder: exists; receives ``model.onnx`` too.
        pictures: uint8 [n, H, W, 3], the first to be encoded, on which the engines are compared.

    Raises:
        UserError: the weights do not fit.
        RunFailed: `engine: onnxruntime` cannot do what torch does; features that are not finite.
    """
    if spec.freeze == "none":
        write_json(folder / "encoder.json", asdict(Record(spec.identity, "torch", pictures[0].size, None, None)))
        return Encoder(lambda images: images.reshape(len(images), -1), spec.batch)
    record, model = read_record(folder), folder / "model.onnx"
    if record is not None and record.engine == "onnxruntime" and model.exists():
        try:
            return Encoder(onnx_run(model), spec.batch)
        except Exception as error:  # onnxruntime has an exception for each way in which a file can be damaged
            logger.warning("%s cannot be used and is made again: %s", model, " ".join(str(error).split())[:300])
    from aimonk_bench.backbones import network as networks

    logger.info("building %s (%s)", spec.weights.name, spec.weights.file or spec.weights.sha256)
    trunk = networks.build(spec.weights, spec.size, spec.freeze)
    reference = Encoder(torch_run(trunk, spec.device if spec.first == "torch" else "cpu"), spec.batch)
    if record is None:
        return _made(spec, folder, trunk, reference, pictures)
    if record.engine == "torch":
        if record.reason is not None:
            logger.warning(SLOWER, spec.weights.name, record.reason)
        return reference
    networks.export(trunk, model, _shape(spec))  # removed or damaged; that it agrees was established
    return Encoder(onnx_run(model), spec.batch)


def _shape(spec: EncoderSpec) -> tuple[int, int, int, int]:
    return (spec.batch, spec.size, spec.size, 3)


def _made(spec: EncoderSpec, folder: Path, trunk: FrozenLayers, reference: Encoder, pictures: np.ndarray) -> Encoder:
    pictures = pictures[: spec.batch]
    with callers_thread():  # the others are decoding
        wanted = reference(pictures)
    if not np.isfinite(wanted).all():
        raise RunFailed(f"{spec.weights.name}: features of the first pictures are not finite")
    encoder = reference
    engine: Engine = "torch"
    parity = reason = None
    if spec.first == "onnxruntime":
        candidate, parity, reason = _compared(spec, folder / "model.onnx", trunk, wanted, pictures)
        if candidate is not None:
            encoder, engine = candidate, "onnxruntime"
        elif spec.engine == "onnxruntime":
            raise RunFailed(f"engine: onnxruntime: {reason}")
        else:
            logger.warning(SLOWER, spec.weights.name, reason)
    record = Record(spec.identity, engine, wanted.shape[1], parity, reason)
    write_json(folder / "encoder.json", asdict(record))
    return encoder


def _compared(
    spec: EncoderSpec, model: Path, trunk: FrozenLayers, wanted: np.ndarray, pictures: np.ndarray
) -> tuple[Encoder | None, float | None, str | None]:
    """The onnxruntime encoder if it agrees with torch, the measured difference, and the reason if there is none."""
    from aimonk_bench.backbones import network as networks

    try:
        networks.export(trunk, model, _shape(spec))
        encoder = Encoder(onnx_run(model), spec.batch)
        parity = disagreement(wanted, encoder(pictures))
    except Exception as error:  # exporter and engine raise what they like at a network they cannot express
        return None, None, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if parity <= PARITY:
        return encoder, parity, None
    reason = f"onnxruntime differs from torch by {parity:.1e} of the largest feature, at most {PARITY:g}"
    return None, parity if np.isfinite(parity) else None, reason


def disagreement(wanted: np.ndarray, found: np.ndarray) -> float:
    """max|a - b| / max|a|; infinite where it is not a number or the shapes differ."""
    if wanted.shape != found.shape:
        return float("inf")
    largest, difference = np.abs(wanted).max(), np.abs(wanted - found).max()
    if difference == 0:
        return 0.0
    return float(difference / largest) if largest > 0 and np.isfinite(difference) else float("inf")


def torch_run(trunk: FrozenLayers, device: str) -> Run:
    """Encode one batch with torch in the channels_last format."""
    import torch

    network = trunk.to(device).to(memory_format=torch.channels_last)

    def run(pictures: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            features: np.ndarray = network(torch.from_numpy(pictures).to(device)).float().cpu().numpy()
            return features

    return run


def onnx_run(model: Path) -> Run:
    """Encode one batch with onnxruntime, in the thread that calls: threads of its own would wait for each other."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for pool in ("intra_op", "inter_op"):
        options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")  # the cores decode meanwhile
    options.log_severity_level = 3  # errors; its warnings speak of its own optimiser
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(pictures: np.ndarray) -> np.ndarray:
        features: np.ndarray = session.run(None, {name: pictures})[0]
        return features

    return run
