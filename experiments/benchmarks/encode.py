"""Encoding an empty store against decoding alone and encoding alone, and what `decode: fast` costs.

R_decode: `decode` on bytes in memory; R_encode: onnxruntime on one batch in memory with the network of the pipeline;
each alone, in as many threads as there are cores. What shares the cores can at best reach 1 / (1/R_decode +
1/R_encode). The pipeline is `FeatureStore.bank` from files, hashed and decoded, to rows on disk, on a store without
rows; its network was exported before, as that happens once. One view per picture.

Pictures, if no folder is named for the small ones, are synthetic: noise of all scales (1/f), shapes with sharp edges,
shading and sensor noise; few of them, each repeated under other bytes; so many that what happens once, opening the
session and waiting for the last batches, is little of the whole. ResNet18 has the weights that timm begins with:
the same speed, but its cosines say little.

OpenVINO is measured where it is installed (it is no dependency): the same exported network in float32, as many threads,
its own queue with the hint for throughput. It would become an engine if it were quicker.
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
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.data.images import decode, named_format
from aimonk_bench.data.transforms import Views
from aimonk_bench.records.environment import cores
from experiments.benchmarks.timing import Conditions, Panel, Row, bars, interleaved, threaded, write

TARGET = 0.9
BACKBONES = (("resnet18", "none"), ("tf_efficientnet_lite0", "imagenet"))
QUALITY = 90  # of the JPEGs
DISTINCT = 8  # textures
REPEATS = 5
OPENVINO = importlib.util.find_spec("openvino") is not None


@dataclass(frozen=True)
class Size:
    """How many pictures of which size."""

    width: int
    height: int
    count: int


SMALL, LARGE = Size(480, 360, 384), Size(4000, 3000, 160)


@dataclass(frozen=True)
class Halves:
    """Pictures per second of decoding alone, and of encoding alone (views per second)."""

    decode: float
    encode: float

    def limit(self, views: int) -> float:
        """Pictures per second that the two can reach together on the same cores."""
        return 1 / (1 / self.decode + views / self.encode)


def texture(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Something with the spectrum of a photograph: uint8 [H, W, 3]."""
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
    """JPEGs; copies of a texture differ in bytes behind the picture's end, as equal ones would be encoded once."""
    folder.mkdir(parents=True)
    rng, distinct = np.random.default_rng(0), min(DISTINCT, size.count)
    quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    encoded = [cv2.imencode(".jpg", texture(size, rng), quality)[1].tobytes() for _ in range(distinct)]
    for number in range(size.count):
        copy = number.to_bytes(4, "big") if number >= distinct else b""
        (folder / f"{number:05}.jpg").write_bytes(encoded[number % distinct] + copy)
    return listed(sorted(folder.iterdir()))


def listed(files: Sequence[Path]) -> list[ImageFile]:
    """The files as pictures."""
    return [
        ImageFile(file.name, file, hashlib.sha256(file.read_bytes()).hexdigest(), line)
        for line, file in enumerate(files, start=1)
    ]


def jpegs(folder: Path) -> list[Path]:
    """Those that a folder holds, by name."""
    return sorted(file for file in folder.iterdir() if named_format(file.name) == "JPEG")


def spec_of(name: str, weights: str, transform: TransformConfig) -> EncoderSpec:
    """The encoder of a backbone under this transform, by onnxruntime."""
    backbone = BackboneConfig(name=name, weights=weights)
    return EncoderSpec(resolve(backbone), transform.size, "onnxruntime", decode=transform.decode)


def emptied(store: FeatureStore, spec: EncoderSpec) -> None:
    """Remove the rows of an encoder; the exported network stays."""
    for file in (store.root / "features" / spec.digest).iterdir():
        if file.name.startswith(("rows.", "index.")):
            file.unlink()


def cases(
    pictures: Sequence[ImageFile], views: Views, transform: TransformConfig, spec: EncoderSpec, store: FeatureStore
) -> dict[str, Callable[[], object]]:
    """The pipeline and its two halves, each for all pictures in all views; the network is built here if need be."""
    store.bank(pictures[: spec.batch], views, transform, spec)
    data = [picture.path.read_bytes() for picture in pictures]
    kind, fast = spec.weights.entry.interpolation, spec.decode == "fast"
    run = onnx_run(store.root / "features" / spec.digest / "model.onnx")
    squares = [decode(own, spec.size, kind, fast=fast) for own in data[: spec.batch]]
    batch = np.resize(np.stack(squares), (spec.batch, spec.size, spec.size, 3))
    batches = [batch] * -(-len(pictures) * len(views.keys) // spec.batch)

    def pipeline() -> None:
        emptied(store, spec)
        store.bank(pictures, views, transform, spec)

    def decoding() -> None:
        cv2.setNumThreads(1)
        threaded(lambda own: decode(own, spec.size, kind, fast=fast), data, cores())

    return {"pipeline": pipeline, "decode": decoding, "encode": lambda: threaded(run, batches, cores())}


def halves(seconds: dict[str, float], pictures: int, views: int, batch: int) -> Halves:
    """The rates, of the seconds that the cases took."""
    encoded = -(-pictures * views // batch) * batch
    return Halves(pictures / seconds["decode"], encoded / seconds["encode"])


def measured(kind: str, pictures: Sequence[ImageFile], spec: EncoderSpec, store: FeatureStore, repeats: int) -> Row:
    """The pipeline against its limit."""
    transform = TransformConfig(size=spec.size, train=[], decode=spec.decode)
    views = transforms.views(transform)
    seconds = interleaved(cases(pictures, views, transform, spec, store), repeats)
    rates = halves(seconds, len(pictures), len(views.keys), spec.batch)
    found, limit = len(pictures) / seconds["pipeline"], rates.limit(len(views.keys))
    return {
        "pictures": f"{len(pictures)} {kind}",
        "decode": spec.decode,
        "backbone": spec.weights.name,
        "R_decode /s": rates.decode,
        "R_encode /s": rates.encode,
        "limit /s": limit,
        "pipeline /s": found,
        "pipeline / limit": found / limit,
        f">= {TARGET}": found / limit >= TARGET,
    }


def cost_of_fast(pictures: Sequence[ImageFile], specs: Sequence[EncoderSpec], store: FeatureStore, repeats: int) -> Row:
    """Full and fast decoding of the same pictures, one thread: milliseconds, and how alike the features are."""
    cv2.setNumThreads(1)
    data, kind, size = pictures[0].path.read_bytes(), specs[0].weights.entry.interpolation, specs[0].size
    seconds = interleaved(
        {spec.decode: (lambda fast=spec.decode == "fast": decode(data, size, kind, fast=fast)) for spec in specs},
        repeats,
    )
    features = []
    for spec in specs:
        transform = TransformConfig(size=size, train=[], decode=spec.decode)
        bank = store.bank(pictures, transforms.views(transform), transform, spec)
        features.append(bank.rows[bank.index[0]].astype(np.float64))
    unit = [own / np.linalg.norm(own, axis=1, keepdims=True) for own in features]
    cosines = (unit[0] * unit[1]).sum(1)
    return {
        "backbone": specs[0].weights.name,
        "full ms": seconds["full"] * 1e3,
        "fast ms": seconds["fast"] * 1e3,
        "full / fast": seconds["full"] / seconds["fast"],
        "cosine, min": f"{cosines.min():.5f}",
        "cosine, median": f"{np.median(cosines):.5f}",
    }


def openvinos(model: Path, batches: Sequence[np.ndarray]) -> Callable[[], list[np.ndarray]]:
    """OpenVINO's loop over batches of one shape, its network compiled: their features in order."""
    import openvino

    threads = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": cores(), "INFERENCE_PRECISION_HINT": "f32"}
    queue = openvino.AsyncInferQueue(openvino.Core().compile_model(model, "CPU", threads))
    found = [np.empty(0)] * len(batches)

    def keep(request: Any, number: int) -> None:
        found[number] = request.get_output_tensor(0).data.copy()

    queue.set_callback(keep)

    def loop() -> list[np.ndarray]:
        for number, batch in enumerate(batches):
            queue.start_async({0: batch}, number)
        queue.wait_all()
        return found

    return loop


def engines(spec: EncoderSpec, store: FeatureStore, batches: int, repeats: int) -> Row:
    """Pictures per second of the network in the store by both, and how far their features lie apart."""
    model = store.root / "features" / spec.digest / "model.onnx"
    rng = np.random.default_rng(0)
    work = list(rng.integers(0, 256, (batches, spec.batch, spec.size, spec.size, 3), np.uint8))
    run, other = onnx_run(model), openvinos(model, work)
    seconds = interleaved({"onnxruntime": lambda: threaded(run, work, cores()), "openvino": other}, repeats)
    rates = {name: batches * spec.batch / taken for name, taken in seconds.items()}
    apart = max(disagreement(run(batch), own) for batch, own in zip(work, other(), strict=True))
    return {
        "backbone": spec.weights.name,
        **{f"{name} /s": rate for name, rate in rates.items()},
        "openvino / onnxruntime": rates["openvino"] / rates["onnxruntime"],
        "apart": f"{apart:.0e}",
    }


def main(out: Path, images: Path | None = None, quick: bool = False) -> None:
    """Write encode.json, encode.md and encode.png; JPEGs of ``images`` take the place of the small synthetic ones."""
    conditions, repeats = Conditions.now(), 1 if quick else REPEATS
    small, large = (Size(96, 64, 24), Size(1200, 900, 8)) if quick else (SMALL, LARGE)
    rows, costs, both = [], [], []
    with tempfile.TemporaryDirectory() as place:
        store = FeatureStore(Path(place, "store"))
        big = make(Path(place, "large"), large)
        little = listed(jpegs(images)[: small.count]) if images else make(Path(place, "small"), small)
        name = f"of {images.name}/" if images else f"of {small.width} x {small.height}"
        megapixels = f"of {large.width * large.height / 1e6:.0f} MP"
        for backbone, weights in BACKBONES:
            full, fast = (spec_of(backbone, weights, TransformConfig(decode=kind)) for kind in ("full", "fast"))
            for kind, pictures, spec in ((name, little, full), (megapixels, big, full), (megapixels, big, fast)):
                rows.append(measured(kind, pictures, spec, store, repeats))
            costs.append(cost_of_fast(big[:DISTINCT], (full, fast), store, repeats))
            if OPENVINO:
                both.append(engines(full, store, 2 if quick else 24, repeats))
    tables = {"Pictures per second": rows, f"`decode: fast`, pictures {megapixels}": costs}
    tables |= {"Engines": both} if OPENVINO else {}
    remarks = "" if OPENVINO else "OpenVINO: not measured, as it is not installed here."
    write(out, "encode", __doc__ or "", tables, conditions, remarks)
    ratios = {f"{row['backbone']}\n{row['pictures']}, {row['decode']}": row["pipeline / limit"] for row in rows}
    paces = {
        f"{row['backbone']}, {row['pictures']}, {row['decode']}: {key}": row[f"{key} /s"]
        for row in rows
        for key in ("limit", "pipeline")
    }
    panels = [
        Panel("whole pipeline / what the cores could do", "ratio, 1 is the limit", ratios, target=TARGET),
        Panel("the same in pictures per second", "pictures / s", paces),
    ]
    bars(out / "encode.png", "Encoding against decoding alone and encoding alone", panels)
