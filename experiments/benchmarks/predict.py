"""`predict` with a bundle, against encoding the same images for a suite: at least 0.9 of its images per second.

Both decode the same JPEGs in as many threads as there are cores and run the same backbone in float32. Encoding is
`FeatureStore.features` with an empty store: files are read, hashed, decoded and encoded, and rows written; its network
was exported before. `predict` reads, decodes and predicts them, and writes a row of CSV for each; its session is opened
each time. The bundle has a random head. The cases take turns, and the median of the repeats counts, as both depend on
what else the machine does. The small images are those of `encode`, unless a folder of JPEGs is named.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from aimonk_bench.backbones.encoder import EncoderSpec
from aimonk_bench.backbones.features import FeatureStore
from aimonk_bench.config.fields import TransformConfig
from aimonk_bench.data import transforms
from aimonk_bench.data.image_files import ImageFile
from aimonk_bench.serving import bundle, classifier, onnx_graph, rows
from aimonk_bench.serving.heads import Tensors
from aimonk_bench.serving.predict import predict
from experiments.benchmarks import encode
from experiments.benchmarks.encode import BACKBONES, SMALL, Size
from experiments.benchmarks.timing import Conditions, Panel, Row, bars, interleaved, write

ATTRIBUTES = tuple(f"attr{number}" for number in range(1, 5))
REPEATS = 7


def write_model(file: Path, spec: EncoderSpec) -> None:
    """The ``model.onnx`` of a bundle with a random head."""
    features = spec.weights.entry.features
    assert features is not None
    weight = np.random.default_rng(0).normal(0, 0.05, (len(ATTRIBUTES), features)).astype(np.float32)
    head = Tensors(weight, np.zeros(len(ATTRIBUTES), np.float32), {}, "random weights")
    thresholds = np.full(len(ATTRIBUTES), 0.5)
    onnx_graph.write(file, classifier.build(spec.weights, spec.size, head), spec.weights, spec.size, thresholds)
    decoding = {"size": spec.size, "decode": spec.decode, "interpolation": spec.weights.entry.interpolation}
    content = {
        bundle.BLOCK: {"schema_version": bundle.SCHEMA_VERSION, "white": None, **decoding},
        bundle.NAMES: ATTRIBUTES,
        bundle.THRESHOLDS: dict(zip(ATTRIBUTES, thresholds.tolist(), strict=True)),
    }
    onnx_graph.describe(file, {key: json.dumps(value) for key, value in content.items()})


def cases(
    images: Sequence[ImageFile], spec: EncoderSpec, store: FeatureStore, place: Path
) -> dict[str, Callable[[], int]]:
    """Encoding and predicting all images; each returns how many it did."""
    transform = TransformConfig(size=spec.size, train=[], decode=spec.decode)
    views, paths = transforms.views(transform), [image.path for image in images]
    store.features(images[:1], views, transform, spec)  # exports the network
    model = place / f"{spec.digest}.onnx"
    write_model(model, spec)

    def encoding() -> int:
        encode.emptied(store, spec)
        return len(store.features(images, views, transform, spec).rows)

    def predicting() -> int:
        with (place / "rows.csv").open("w") as file:
            return sum(bool(file.write(line)) for line in rows.lines(predict(model, paths), "csv"))

    return {"encode": encoding, "predict": predicting}


def measured(images: int, cases: Mapping[str, Callable[[], int]], repeats: int) -> Row:
    """Images per second of both, and their ratio."""
    seconds = interleaved(cases, repeats, statistics.median)
    rates = {f"{name} /s": images / taken for name, taken in seconds.items()}
    return {**rates, "predict / encode": seconds["encode"] / seconds["predict"]}


def main(out: Path, images: Path | None = None, quick: bool = False) -> None:
    """Write predict.json, predict.md and predict.png; JPEGs of ``images`` replace the synthetic ones."""
    conditions, repeats = Conditions.now(), 1 if quick else REPEATS
    size = Size(96, 64, 24) if quick else SMALL
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        files = encode.listed(encode.jpegs(images)[: size.count]) if images else encode.make(place / "images", size)
        kind = f"of {images.name}/" if images else f"of {size.width} x {size.height}"
        specs = [
            encode.spec_of(name, weights, TransformConfig()) for name, weights in BACKBONES[: 1 if quick else None]
        ]
        table = [
            {
                "backbone": spec.weights.name,
                "images": f"{len(files)} {kind}",
                **measured(len(files), cases(files, spec, FeatureStore(place / "store"), place), repeats),
            }
            for spec in specs
        ]
    write(out, "predict", __doc__ or "", {"Images per second": table}, conditions)
    draw(out / "predict.png", table)


def draw(path: Path, table: Sequence[Row]) -> None:
    """The ratio, and both in images per second."""
    rates = {f"{row['backbone']}: {name}": row[f"{name} /s"] for row in table for name in ("encode", "predict")}
    panels = [
        Panel("predict / encode", "ratio", {row["backbone"]: row["predict / encode"] for row in table}),
        Panel("both", "images / s", rates),
    ]
    bars(path, "`predict` against encoding the same images", panels)
