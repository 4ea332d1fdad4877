"""Encoding with an empty store, against the limit set by decoding alone and encoding alone; and `decode: fast`.

R_decode: `decode` on bytes in memory. R_encode: onnxruntime on one batch in memory with the network of the pipeline.
Both are measured alone with as many threads as cores. Together on the same cores, they can reach at most 1 /
(1/R_decode + 1/R_encode) images per second. The pipeline is `FeatureStore.features`: files are read, hashed, decoded
and encoded, and rows written to an empty store. The network was exported before. One view per image.

Unless a folder is named, the small images are synthetic: noise of all scales (1/f), shapes with sharp edges, shading
and sensor noise. Few are distinct; copies differ in their bytes. There are so many that opening the session and waiting
for the last batches hardly count. ResNet18 has timm's initialisation: its speed is right, its cosines say little.

OpenVINO, which is no dependency, is measured where it is installed: the same exported network in float32, the same
number of threads, its own queue with the hint for throughput. It would become an engine if it were faster.
"""

from __future__ import annotations

import hashlib
import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from aimonk_bench.backbones.encoder import EncoderSpec, disagreement, onnx_run
from aimonk_bench.backbones.features import FeatureStore
from aimonk_bench.backbones.weights import resolve
from aimonk_bench.config.fields import BackboneConfig, TransformConfig
from aimonk_bench.data import transforms
from aimonk_bench.data.headers import named_format
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.data.images import decode
from aimonk_bench.data.transforms import Views
from aimonk_bench.records.environment import cores
from experiments.benchmarks.timing import Conditions, Panel, Row, bars, interleaved, threaded, write

BACKBONES = (("resnet18", "none"), ("tf_efficientnet_lite0", "imagenet"))
QUALITY = 90  # of the JPEGs
DISTINCT = 8  # textures
REPEATS = 5
OPENVINO = importlib.util.find_spec("openvino") is not None


@dataclass(frozen=True)
class Size:
    """The size of images in pixels, and their number."""

    width: int
    height: int
    count: int


SMALL, LARGE = Size(480, 360, 384), Size(4000, 3000, 160)


@dataclass(frozen=True)
class Rates:
    """Images per second of decoding alone, and views per second of encoding alone."""

    decode: float
    encode: float

    def limit(self, views: int) -> float:
        """Images per second that both can reach together on the same cores."""
        return 1 / (1 / self.decode + views / self.encode)


def texture(size: Size, rng: np.random.Generator) -> np.ndarray:
    """An image with about the spectrum of a photograph: uint8 [H, W, 3]."""
    shape = (size.width, size.height)
    scene = np.zeros((size.height, size.width, 3), np.float32)
    cells = 4
    while cells < size.width:
        noise = rng.normal(size=(max(2, cells * size.height // size.width), cells, 3)).astype(np.float32)
        scene += cv2.resize(noise, shape, interpolation=cv2.INTER_CUBIC) * (160 / cells**0.9)
        cells *= 2
    for _ in range(12):
        centre = tuple(int(value) for value in rng.integers(0, shape))
        axes = tuple(int(value) for value in rng.integers(size.width // 50, size.width // 8, 2))
        cv2.ellipse(scene, centre, axes, float(rng.integers(180)), 0, 360, rng.normal(0, 60, 3).tolist(), -1)
    scene += np.linspace(80, 170, size.height, dtype=np.float32)[:, None, None]
    scene += rng.standard_normal(scene.shape, np.float32) * 8
    return np.clip(scene, 0, 255).astype(np.uint8)


def make(folder: Path, size: Size) -> list[ImageFile]:
    """Write JPEGs. Copies of a texture differ in bytes after the end of the image; equal files would share a row."""
    folder.mkdir(parents=True)
    rng, distinct = np.random.default_rng(0), min(DISTINCT, size.count)
    quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    encoded = [cv2.imencode(".jpg", texture(size, rng), quality)[1].tobytes() for _ in range(distinct)]
    for number in range(size.count):
        copy = number.to_bytes(4, "big") if number >= distinct else b""
        (folder / f"{number:05}.jpg").write_bytes(encoded[number % distinct] + copy)
    return listed(sorted(folder.iterdir()))


def listed(files: Sequence[Path]) -> list[ImageFile]:
    """The files, hashed."""
    return [
        ImageFile(file.name, file, hashlib.sha256(file.read_bytes()).hexdigest(), line)
        for line, file in enumerate(files, start=1)
    ]


def jpegs(folder: Path) -> list[Path]:
    """The JPEGs of a folder, sorted by name."""
    return sorted(file for file in folder.iterdir() if named_format(file.name) == "JPEG")


def spec_of(name: str, weights: str, transform: TransformConfig) -> EncoderSpec:
    """The encoder of a backbone with onnxruntime."""
    backbone = BackboneConfig(name=name, weights=weights)
    return EncoderSpec(resolve(backbone), transform.size, "onnxruntime", decode=transform.decode)


def emptied(store: FeatureStore, spec: EncoderSpec) -> None:
    """Remove the rows of an encoder, and keep its exported network."""
    for file in (store.root / "features" / spec.digest).iterdir():
        if file.name.startswith(("rows.", "index.")):
            file.unlink()


def cases(
    images: Sequence[ImageFile], views: Views, transform: TransformConfig, spec: EncoderSpec, store: FeatureStore
) -> dict[str, Callable[[], object]]:
    """The pipeline, decoding alone and encoding alone, each for all images in all views; exports the network."""
    store.features(images[: spec.batch_size], views, transform, spec)
    data = [image.path.read_bytes() for image in images]
    kind, fast = spec.weights.entry.interpolation, spec.decode == "fast"
    run = onnx_run(store.root / "features" / spec.digest / "model.onnx")
    squares = [decode(content, spec.size, kind, fast=fast) for content in data[: spec.batch_size]]
    batch = np.resize(np.stack(squares), (spec.batch_size, spec.size, spec.size, 3))
    batches = [batch] * -(-len(images) * len(views.keys) // spec.batch_size)

    def pipeline() -> None:
        emptied(store, spec)
        store.features(images, views, transform, spec)

    def decoding() -> None:
        cv2.setNumThreads(1)
        threaded(lambda content: decode(content, spec.size, kind, fast=fast), data, cores())

    return {"pipeline": pipeline, "decode": decoding, "encode": lambda: threaded(run, batches, cores())}


def rates_of(seconds: dict[str, float], images: int, views: int, batch_size: int) -> Rates:
    """The rates, from the seconds of the cases."""
    encoded = -(-images * views // batch_size) * batch_size
    return Rates(images / seconds["decode"], encoded / seconds["encode"])


def measured(kind: str, images: Sequence[ImageFile], spec: EncoderSpec, store: FeatureStore, repeats: int) -> Row:
    """The pipeline beside its limit."""
    transform = TransformConfig(size=spec.size, train=[], decode=spec.decode)
    views = transforms.views(transform)
    seconds = interleaved(cases(images, views, transform, spec, store), repeats)
    rates = rates_of(seconds, len(images), len(views.keys), spec.batch_size)
    rate, limit = len(images) / seconds["pipeline"], rates.limit(len(views.keys))
    return {
        "images": f"{len(images)} {kind}",
        "decode": spec.decode,
        "backbone": spec.weights.name,
        "R_decode /s": rates.decode,
        "R_encode /s": rates.encode,
        "limit /s": limit,
        "pipeline /s": rate,
        "pipeline / limit": rate / limit,
    }


def cost_of_fast(images: Sequence[ImageFile], specs: Sequence[EncoderSpec], store: FeatureStore, repeats: int) -> Row:
    """Full and fast decoding of the same images in one thread: milliseconds, and cosines of their features."""
    cv2.setNumThreads(1)
    data, kind, size = images[0].path.read_bytes(), specs[0].weights.entry.interpolation, specs[0].size
    seconds = interleaved(
        {spec.decode: (lambda fast=spec.decode == "fast": decode(data, size, kind, fast=fast)) for spec in specs},
        repeats,
    )
    features = []
    for spec in specs:
        transform = TransformConfig(size=size, train=[], decode=spec.decode)
        matrix = store.features(images, transforms.views(transform), transform, spec)
        features.append(matrix.rows[matrix.index[0]].astype(np.float64))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in features]
    cosines = (unit[0] * unit[1]).sum(1)
    return {
        "backbone": specs[0].weights.name,
        "full ms": seconds["full"] * 1e3,
        "fast ms": seconds["fast"] * 1e3,
        "full / fast": seconds["full"] / seconds["fast"],
        "cosine, min": f"{cosines.min():.5f}",
        "cosine, median": f"{np.median(cosines):.5f}",
    }


def openvino_loop(model: Path, batches: Sequence[np.ndarray]) -> Callable[[], list[np.ndarray]]:
    """A loop by OpenVINO over batches of one shape; returns their features in order."""
    import openvino

    threads = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": cores(), "INFERENCE_PRECISION_HINT": "f32"}
    queue = openvino.AsyncInferQueue(openvino.Core().compile_model(model, "CPU", threads))
    features = [np.empty(0)] * len(batches)

    def keep(request: Any, number: int) -> None:
        features[number] = request.get_output_tensor(0).data.copy()

    queue.set_callback(keep)

    def loop() -> list[np.ndarray]:
        for number, batch in enumerate(batches):
            queue.start_async({0: batch}, number)
        queue.wait_all()
        return features

    return loop


def engines(spec: EncoderSpec, store: FeatureStore, batches: int, repeats: int) -> Row:
    """Images per second of both engines with the network in the store, and the difference of their features."""
    model = store.root / "features" / spec.digest / "model.onnx"
    rng = np.random.default_rng(0)
    work = list(rng.integers(0, 256, (batches, spec.batch_size, spec.size, spec.size, 3), np.uint8))
    run, other = onnx_run(model), openvino_loop(model, work)
    seconds = interleaved({"onnxruntime": lambda: threaded(run, work, cores()), "openvino": other}, repeats)
    rates = {name: batches * spec.batch_size / taken for name, taken in seconds.items()}
    difference = max(disagreement(run(batch), rows) for batch, rows in zip(work, other(), strict=True))
    return {
        "backbone": spec.weights.name,
        **{f"{name} /s": rate for name, rate in rates.items()},
        "openvino / onnxruntime": rates["openvino"] / rates["onnxruntime"],
        "difference": f"{difference:.0e}",
    }


def main(out: Path, images: Path | None = None, quick: bool = False) -> None:
    """Write encode.json, encode.md and encode.png; JPEGs of ``images`` replace the small synthetic ones."""
    conditions, repeats = Conditions.now(), 1 if quick else REPEATS
    small, large = (Size(96, 64, 24), Size(1200, 900, 8)) if quick else (SMALL, LARGE)
    rows, costs, comparison = [], [], []
    with tempfile.TemporaryDirectory() as place:
        store = FeatureStore(Path(place, "store"))
        big = make(Path(place, "large"), large)
        little = listed(jpegs(images)[: small.count]) if images else make(Path(place, "small"), small)
        name = f"of {images.name}/" if images else f"of {small.width} x {small.height}"
        megapixels = f"of {large.width * large.height / 1e6:.0f} MP"
        for backbone, weights in BACKBONES:
            full, fast = (spec_of(backbone, weights, TransformConfig(decode=kind)) for kind in ("full", "fast"))
            for kind, files, spec in ((name, little, full), (megapixels, big, full), (megapixels, big, fast)):
                rows.append(measured(kind, files, spec, store, repeats))
            costs.append(cost_of_fast(big[:DISTINCT], (full, fast), store, repeats))
            if OPENVINO:
                comparison.append(engines(full, store, 2 if quick else 24, repeats))
    tables = {"Images per second": rows, f"`decode: fast`, images {megapixels}": costs}
    tables |= {"Engines": comparison} if OPENVINO else {}
    remarks = "" if OPENVINO else "OpenVINO is not installed here and was not measured."
    write(out, "encode", __doc__ or "", tables, conditions, remarks)
    draw(out / "encode.png", rows)


def draw(path: Path, rows: Sequence[Row]) -> None:
    """The pipeline as a share of its limit, and both in images per second."""
    ratios = {f"{row['backbone']}\n{row['images']}, {row['decode']}": row["pipeline / limit"] for row in rows}
    rates = {
        f"{row['backbone']}, {row['images']}, {row['decode']}: {key}": row[f"{key} /s"]
        for row in rows
        for key in ("limit", "pipeline")
    }
    panels = [
        Panel("whole pipeline / limit of the cores", "ratio", ratios),
        Panel("the same in images per second", "images / s", rates),
    ]
    bars(path, "Encoding against decoding alone and encoding alone", panels)
