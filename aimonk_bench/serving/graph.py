"""The classifier in a bundle: an ONNX file whose metadata hold all that predicting needs.

| metadata | what |
|---|---|
| `aimonk_bench` | JSON map with `schema_version`, `size`, `decode`, `interpolation`, `white` and more |
| `label_names` | JSON list of the attributes |
| `thresholds` | JSON map: attribute -> threshold on the probability scale |
| `training_images` | JSON text: which images it has learned from, see `training_images`; it may be absent |

The graph takes `images`, float32 [B, 3, H, W], RGB 0 to 255, and gives `logits` [B, A]. A probability is the sigmoid of
a logit, in float64; a decision is probability > threshold.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aimonk_bench import arguments, registry
from aimonk_bench.backbones.encoder import BATCH_SIZE, Encoder, onnx_session
from aimonk_bench.config.fields import MAX_SIZE, unusable_attribute
from aimonk_bench.errors import UserError
from aimonk_bench.evaluation.numbers import Array
from aimonk_bench.records.files import read_json
from aimonk_bench.registry import Problem, hint
from aimonk_bench.serving.bundle import BLOCK, CONFIG, IMAGES, LOGITS, MODEL, NAMES, THRESHOLDS, TRAINING_IMAGES
from aimonk_bench.serving.training_images import TrainingImages

BATCH = BATCH_SIZE["cpu"]
# keys of our block that change a prediction
PREDICTING = ("schema_version", "size", "decode", "interpolation", "white", "background", "mean", "std", "calibration")
MOST_BATCH = 1024
EXPORT = "`aimonk-bench export DIR -o BUNDLE` writes a bundle"

Probability = Annotated[float, Field(ge=0, le=1)]


class _Metadata(BaseModel):
    """What predicting reads of the metadata; the block holds more."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    schema_version: Literal[1]
    size: Annotated[int, Field(ge=1, le=MAX_SIZE)]
    decode: Literal["full", "fast"]
    interpolation: Literal["bilinear", "bicubic"]
    white: Annotated[int, Field(ge=1, le=65535)] | None
    label_names: Annotated[list[str], Field(min_length=1)]
    thresholds: dict[str, Probability]


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network, how it wants images to be decoded, and what its outputs mean.

    Attributes:
        model: the ONNX file.
        attributes: [A] names.
        thresholds: [A] float64, on the probability scale.
        size: edge of the images in pixels.
        interpolation: ``bilinear`` or ``bicubic``, for images that grow (see `images.squash`).
        fast: large JPEGs are decoded at a fraction of their size.
        white: the value that means white in images of more than 8 bits; None if training had none.
        dimensions: B, 3, H and W as the graph has them: a number, a name, or None.
        training_images: of the images that it has learned from; None where the bundle does not say.
    """

    model: Path
    attributes: tuple[str, ...]
    thresholds: Array
    size: int
    interpolation: str
    fast: bool
    white: int | None
    dimensions: tuple[int | str | None, ...]
    training_images: TrainingImages | None

    def at(self, thresholds: Mapping[str, float]) -> Classifier:
        """The same with other thresholds for some attributes.

        Raises:
            UserError: unknown attributes, or values that are no numbers from 0 to 1; all of them are listed.
        """
        names, values = self.attributes, self.thresholds.copy()
        unknown = [name for name in thresholds if name not in names]
        problems = [f"found {name!r}, expected one of {', '.join(names)}{hint(name, names)}" for name in unknown]
        for name, value in thresholds.items():
            if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value <= 1:  # NaN too
                shown = f"{value}" if isinstance(value, Real) else f"a {type(value).__name__}"
                problems.append(f"{name}: found {shown}, expected a probability from 0 to 1")
            elif name in names:
                values[names.index(name)] = value
        if problems:
            raise UserError([f"threshold: {problem}" for problem in problems])
        return replace(self, thresholds=values)

    def encoder(self, batch: int) -> Encoder:
        """Logits of images: uint8 [n, size, size, 3] -> float32 [n, A], in batches of exactly ``batch``.

        It raises a UserError where the graph cannot be run with such images, or gives something else.

        Raises:
            UserError: ``batch`` is no whole number from 1 to `MOST_BATCH`, or the graph does not allow it.
        """
        batch = arguments.whole("batch", batch, 1, MOST_BATCH)
        sizes = zip(self.dimensions, (batch, 3, self.size, self.size), strict=True)
        session = _session(self.model, {name: size for name, size in sizes if isinstance(name, str)})
        expected = batch, len(self.attributes)

        def run(images: np.ndarray) -> np.ndarray:
            planes = np.empty((len(images), 3, self.size, self.size), np.float32)
            planes[...] = images.transpose(0, 3, 1, 2)
            try:
                logits: np.ndarray = session.run([LOGITS], {IMAGES: planes})[0]
            except Exception as error:  # onnxruntime raises a different exception for each kind of misfit
                place = f"{self.model}: {batch} images of {self.size} x {self.size}"
                raise UserError(f"{place}: {_reason(error)}; {EXPORT}") from error
            if logits.shape != expected:
                raise UserError(f"{self.model}: found {LOGITS} {[*logits.shape]}, expected {[*expected]}; {EXPORT}")
            return logits

        return Encoder(run, batch)


def open_classifier(bundle: Path) -> Classifier:
    """Read the metadata of a bundle.

    Args:
        bundle: a folder that `export` wrote, or its ``model.onnx`` alone.

    Raises:
        UserError: there is no such file, it is no ONNX file, or one that `export` did not write; ``config.json`` beside
            it states something else of a prediction.
    """
    model = _model_of(bundle)
    session = _session(model, {}, optimize=False)
    try:
        return _classifier(bundle, model, session)
    except UnicodeDecodeError as error:  # onnxruntime decodes metadata and names when they are read
        raise UserError(f"{model}: cannot be read as an ONNX model ({error}); {EXPORT}") from error


def _classifier(bundle: Path, model: Path, session: Any) -> Classifier:
    """What the metadata of an opened model say."""
    texts = session.get_modelmeta().custom_metadata_map
    metadata = _metadata(model, texts)
    problems = [f"{model}: {problem}" for problem in _misfits(session, metadata.size)]
    if model != bundle and (bundle / CONFIG).exists():
        problems += _contradictions(
            bundle / CONFIG, {key: json.loads(texts[key]) for key in (BLOCK, NAMES, THRESHOLDS)}
        )
    if problems:
        raise UserError(problems)
    (shape,) = (item.shape for item in session.get_inputs() if item.name == IMAGES)
    return Classifier(
        model=model,
        attributes=tuple(metadata.label_names),
        thresholds=np.array([metadata.thresholds[name] for name in metadata.label_names], np.float64),
        size=metadata.size,
        interpolation=metadata.interpolation,
        fast=metadata.decode == "fast",
        white=metadata.white,
        dimensions=tuple(shape),
        training_images=_training_images(model, texts),
    )


def _training_images(model: Path, texts: Mapping[str, str]) -> TrainingImages | None:
    """What the metadata say of the images that the bundle has learned from."""
    if TRAINING_IMAGES not in texts:
        return None
    try:
        return TrainingImages.of_text(json.loads(texts[TRAINING_IMAGES]))
    except (ValueError, TypeError) as error:
        raise UserError(f"{model}: metadata {TRAINING_IMAGES}: damaged ({error}); export it again") from error


def parse_thresholds(words: Iterable[str]) -> dict[str, float]:
    """``NAME=VALUE`` of the command line as thresholds; of a name that is given twice the last one counts.

    Raises:
        UserError: words of another form; all of them are listed.
    """
    thresholds, problems = {}, []
    for word in words:
        name, equals, value = word.rpartition("=")
        try:
            if not (name and equals):
                raise ValueError
            thresholds[name] = float(value)
        except ValueError:
            problems.append(f"--threshold: found {word!r}, expected NAME=VALUE, such as animal=0.4")
    if problems:
        raise UserError(problems)
    return thresholds


def _model_of(bundle: Path) -> Path:
    """The ONNX file of a bundle."""
    if bundle.is_file():
        return bundle
    if not bundle.exists():
        raise UserError(f"BUNDLE: found no {bundle}, expected a bundle or its {MODEL}; {EXPORT}")
    if (bundle / MODEL).is_file():
        return bundle / MODEL
    if any((bundle / name).exists() for name in ("status.json", "suite.json")):
        raise UserError(
            f"BUNDLE: {bundle} holds runs, expected a bundle; first `aimonk-bench export {bundle} -o BUNDLE`"
        )
    lack = f"{bundle} holds no {MODEL}"
    if (bundle / CONFIG).exists():  # `save_pretrained` writes such folders
        raise UserError(f"BUNDLE: {lack}, which `predict` runs; copy it from the folder that `export` wrote")
    raise UserError(f"BUNDLE: {lack}, expected a bundle; {EXPORT}")


def _metadata(model: Path, texts: Mapping[str, str]) -> _Metadata:
    """The metadata, checked.

    Raises:
        UserError: they are missing or wrong; every problem is named.
    """
    if missing := [key for key in (BLOCK, NAMES, THRESHOLDS) if key not in texts]:
        there = f"; it has {', '.join(sorted(texts))}" if texts else ""
        raise UserError(
            f"{model}: an ONNX model without the metadata {', '.join(missing)}{there}: it does not say what its "
            f"outputs mean and how images are to be decoded; {EXPORT}"
        )
    try:
        block, names, thresholds = (json.loads(texts[key]) for key in (BLOCK, NAMES, THRESHOLDS))
        stated = {**block, NAMES: names, THRESHOLDS: thresholds}
    except (ValueError, TypeError) as error:
        raise UserError(f"{model}: its metadata are damaged ({error}); export it again") from error
    try:
        metadata = _Metadata.model_validate(stated)
    except ValidationError as error:
        problems = registry.problems_of(error, lambda _: _Metadata.model_fields)
    else:
        problems = [*_inconsistent(metadata.label_names, metadata.thresholds)]
        if not problems:
            return metadata
    version = block.get("aimonk_bench_version")
    made = f" (it was made by aimonk_bench {version})" if version else ""
    raise UserError([f"{model}: metadata {'.'.join(map(str, problem.path))}: {problem}{made}" for problem in problems])


def _inconsistent(names: Sequence[str], thresholds: Mapping[str, float]) -> Iterable[Problem]:
    unusable = [f"an attribute {problem}" for problem in map(unusable_attribute, names) if problem]
    if len(set(names)) < len(names):
        unusable.append("a name twice")
    yield from (Problem((NAMES,), text, "distinct names of attributes") for text in unusable)
    if set(names) != set(thresholds):
        yield Problem((THRESHOLDS,), ", ".join(thresholds), f"one for each of {', '.join(names)}")


def _misfits(session: Any, size: int) -> Iterable[str]:
    """What the graph does not take or give."""
    inputs = {item.name: item for item in session.get_inputs()}
    wanted = f"an input {IMAGES}, tensor(float) [B, 3, {size}, {size}] with any B"
    if IMAGES not in inputs:
        yield f"found the inputs {', '.join(inputs)}, expected {wanted}"
    else:
        kind, shape = inputs[IMAGES].type, inputs[IMAGES].shape
        sizes = zip(shape, (None, 3, size, size), strict=False)
        fits = len(shape) == 4 and all(length == size for length, size in sizes if isinstance(length, int))
        if kind != "tensor(float)" or not fits:
            yield f"found the input {IMAGES}, {kind} {shape}, expected {wanted}"
    outputs = [item.name for item in session.get_outputs()]
    if LOGITS not in outputs:
        yield f"found the outputs {', '.join(outputs)}, expected one that is called {LOGITS}"


def _contradictions(file: Path, stated: Mapping[str, Any]) -> Iterable[str]:
    """Where ``config.json`` says of a prediction something else than the metadata, as after an edit."""
    config = read_json(file)
    names, block = stated[NAMES], stated[BLOCK]
    expected: dict[tuple[str, ...], Any] = {
        (NAMES,): names,
        (THRESHOLDS,): stated[THRESHOLDS],
        ("num_classes",): len(names),
        **{(BLOCK, key): block[key] for key in PREDICTING if key in block},
        ("pretrained_cfg", "input_size"): [3, block["size"], block["size"]],
        **{("pretrained_cfg", key): block[key] for key in ("mean", "std") if key in block},
    }
    if "id2label" in config:  # which transformers leaves out where it saves
        expected["id2label",] = {str(number): name for number, name in enumerate(names)}
    for path, value in expected.items():
        stated = functools.reduce(lambda part, key: part.get(key, {}) if isinstance(part, dict) else {}, path, config)
        if stated != value:
            fix = "another threshold is an option of `predict`" if path == (THRESHOLDS,) else "put back what it was"
            yield (
                f"{file}: {'.'.join(path)}: found {'nothing' if stated == {} else stated}, but {MODEL} beside it has "
                f"{value}; fix: {fix}, or export again"
            )


def _session(model: Path, dimensions: Mapping[str, int], *, optimize: bool = True) -> Any:
    try:
        return onnx_session(model, dimensions, optimize=optimize)
    except Exception as error:  # onnxruntime raises a different exception for each kind of damage
        raise UserError(f"{model}: cannot be read as an ONNX model ({_reason(error)}); {EXPORT}") from error


def _reason(error: Exception) -> str:
    """What onnxruntime says, in one line."""
    return " ".join(str(error).split())[:300]
