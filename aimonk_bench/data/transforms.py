"""Views of a picture: flips with their probabilities (`views: exact`), or augmentations (`views: K`, `views: fresh`).

A view that is stored is made from the squashed uint8 picture and named by a string that never changes meaning. Flips
are done by OpenCV, anything else by albumentations, which is imported only then: it brings torch.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import json
import math
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aimonk_bench.config.fields import TransformConfig
from aimonk_bench.data.images import squash
from aimonk_bench.registry import Path, Problem, nearest, problems_of, show

IDENTITY = "identity"
FLIPS = {IDENTITY: None, "h": 1, "v": 0, "hv": -1}  # key of a view -> which way OpenCV flips the picture for it
EXACT = ("HorizontalFlip", "VerticalFlip")
IMPLIED = (
    "Resize",
    "LongestMaxSize",
    "SmallestMaxSize",
    "Normalize",
    "ToFloat",
    "ToTensor",
    "ToTensorV2",
    "ToTensor3D",
)


class Flip(BaseModel):
    """The arguments of HorizontalFlip and VerticalFlip, as in albumentations."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    p: float = Field(0.5, ge=0, le=1)


@dataclass(frozen=True, eq=False)
class Views:
    """The views stored of every training picture.

    Attributes:
        keys: [V] names, ``identity`` (the undisturbed picture, used for validation and test) first.
        probabilities: [V] float64, how often training draws each; they sum to 1.
    """

    keys: tuple[str, ...]
    probabilities: np.ndarray


UNAUGMENTED = Views((IDENTITY,), np.ones(1))


def check(
    train: Sequence[Mapping[str, Mapping[str, Any]]], views: Literal["exact", "fresh"] | int, size: int
) -> list[Problem]:
    """Find every problem of `transform.train`; albumentations is imported only if more than flips are named.

    Args:
        train: maps of one transform's name to its arguments.
        views: `transform.views`.
        size: `transform.size`; each transform is tried on a picture of it.

    Returns:
        Problems with paths relative to the `transform` map; none means :func:`views` and :func:`render` will work.
    """
    if views != "exact" and not train:
        return [Problem(("views",), show(views), "exact, as train holds nothing to draw")]
    found = []
    for place, item in enumerate(train):
        [(name, arguments)] = item.items()
        found += _problems(name, arguments, ("train", place, name), views, size)
    return found


def _problems(name: str, arguments: Mapping[str, Any], path: Path, views: str | int, size: int) -> list[Problem]:
    """The problems of one transform and its arguments."""
    if name in IMPLIED:
        wanted = "no such step: the squash to size x size and the backbone's normalisation are implied"
        return [Problem(path, name, wanted, on_key=True)]
    if name in EXACT:
        try:
            Flip.model_validate(arguments)
        except ValidationError as error:
            wrong = problems_of(error, lambda _: Flip.model_fields)
            return [replace(problem, path=path + problem.path) for problem in wrong]
        return []
    names = _transform_names()
    if name not in names:
        wanted = f"an albumentations transform of pictures ({', '.join(EXACT)} or one of {len(names) - 2} others)"
        return [Problem(path, f"unknown transform {name!r}", wanted, nearest(name, names), on_key=True)]
    if views == "exact":
        wanted = (
            f"{' or '.join(EXACT)}; for others say `views: K`, the number of drawn views to store, or under "
            "backbone.freeze: none `views: fresh`"
        )
        return [Problem(path, f"{name} under views: exact", wanted, on_key=True)]
    kind = getattr(_albumentations(), name)
    return _argument_problems(kind, arguments, path) or _trial(kind, arguments, path, size)


def _argument_problems(kind: Any, arguments: Mapping[str, Any], path: Path) -> list[Problem]:
    """Check arguments against the signature and the types that albumentations declares; by itself it only warns."""
    choices = sorted(inspect.signature(kind).parameters)
    found = []
    for key, value in arguments.items():
        if key not in choices:
            listed = f"one of {', '.join(choices)}"
            found.append(Problem((*path, key), f"unknown argument {key!r}", listed, nearest(key, choices), on_key=True))
        elif not _finite(value):
            found.append(Problem((*path, key), show(value), "finite numbers"))
    return found + _type_problems(kind, arguments, path)


def _finite(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _type_problems(kind: Any, arguments: Mapping[str, Any], path: Path) -> list[Problem]:
    """One problem for each argument that is missing or of a wrong type, and one for a wrong combination of them."""
    empty = inspect.Parameter.empty
    parameters = inspect.signature(kind).parameters.items()
    defaults = {key: parameter.default for key, parameter in parameters if parameter.default is not empty}
    # Strict validation refuses "0.5" and true for numbers; in its JSON form it takes a list, all YAML has, for a tuple.
    text = json.dumps({**defaults, **arguments, "strict": True}, default=repr)
    messages: dict[str | None, list[str]] = {}
    try:
        kind.InitSchema.model_validate_json(text, strict=True)
    except ValidationError as error:
        for item in error.errors():
            message = item["msg"].replace("Input should be ", "").replace("Value error, ", "")
            messages.setdefault(str(item["loc"][0]) if item["loc"] else None, []).append(message)
    found = []
    for key, texts in messages.items():
        expected = "; or ".join(dict.fromkeys(texts))
        if key is None:
            found.append(Problem(path, show(dict(arguments)), expected))
        elif key in arguments:
            found.append(Problem((*path, key), show(arguments[key]), expected))
        elif key not in defaults:  # defaults that are functions have no JSON form; the trial shows whether they work
            found.append(Problem(path, "nothing", f"{key!r}, which is required"))
    return found


def _trial(kind: Any, arguments: Mapping[str, Any], path: Path, size: int) -> list[Problem]:
    """Apply the transform once to a grey picture: masks, boxes, volumes or other pictures are not to be had here."""
    try:
        transform = kind(**arguments)
        transform.set_random_state(np.random.default_rng(0), random.Random(0))
        result = transform(image=np.full((size, size, 3), 128, np.uint8), force_apply=True)["image"]
    except Exception as error:  # whatever a transform of the library raises is its way to say that it cannot
        return [Problem(path, kind.__name__, f"a transform that works on a {size} x {size} picture alone ({error!r})")]
    if result.dtype != np.uint8 or result.shape[2:] != (3,):
        return [Problem(path, kind.__name__, "a transform that returns uint8 [H, W, 3]", on_key=True)]
    return []


def views(transform: TransformConfig) -> Views:
    """The views of a checked `transform`.

    Exact: every reachable combination of the flips, with the product of their probabilities. K: the identity, which
    training never draws, and K views drawn alike; their keys name transforms, arguments, library version and number.
    Fresh: the identity, which whoever trains augments anew each time.
    """
    if transform.views == "fresh":
        return UNAUGMENTED
    if transform.views != "exact":
        count = int(transform.views)
        keys = [f"{_digest(transform)}/{number}" for number in range(1, count + 1)]
        return Views((IDENTITY, *keys), np.array([0.0] + [1 / count] * count))
    flipped = dict.fromkeys(EXACT, 0.0)  # the probability that an odd number of a name's flips is drawn
    for item in transform.train:
        [(name, arguments)] = item.items()
        p = Flip.model_validate(arguments).p
        flipped[name] = flipped[name] * (1 - p) + (1 - flipped[name]) * p
    h, v = flipped.values()
    probabilities = dict(zip(FLIPS, [(1 - h) * (1 - v), h * (1 - v), (1 - h) * v, h * v], strict=True))
    stored = {key: p for key, p in probabilities.items() if p > 0 or key == IDENTITY}
    return Views(tuple(stored), np.array(list(stored.values())))


def render(image: np.ndarray, sha256: str, key: str, transform: TransformConfig) -> np.ndarray:
    """Make the view ``key`` of a picture.

    A drawn view depends on the picture's bytes and its own key alone: not on order, process or thread.

    Args:
        image: uint8 [size, size, 3], as :func:`aimonk_bench.data.images.decode` returns it.
        sha256: hex digest of the picture's file.
        key: one of ``views(transform).keys``.

    Returns:
        uint8 [size, size, 3].
    """
    return flipped(image, key) if key in FLIPS else augment(image, f"{sha256}/{key}", transform)


def flipped(image: np.ndarray, key: str) -> np.ndarray:
    """A picture [H, W, C] in a view of FLIPS; the identity is the picture itself."""
    way = FLIPS[key]
    return image if way is None else cv2.flip(image, way)


def augment(image: np.ndarray, seed: str, transform: TransformConfig) -> np.ndarray:
    """Draw an augmentation of a picture, which depends on ``seed`` alone.

    Args:
        image: uint8 [size, size, 3].
        seed: any text.

    Returns:
        uint8 [size, size, 3]; a transform that changes the size, such as a crop, is followed by the squash (bilinear).
    """
    library = _albumentations()
    steps = [getattr(library, name)(**arguments) for item in transform.train for name, arguments in item.items()]
    pipeline = library.Compose(steps)  # built anew: one that is shared would mix the random streams of two threads
    # Not Compose(seed=...), which gives every step the same stream: two flips would then always fall together.
    digest = hashlib.sha256(seed.encode()).digest()
    pipeline.set_random_state(np.random.default_rng(list(digest)), random.Random(seed))
    return squash(np.ascontiguousarray(pipeline(image=image)["image"]), transform.size, "bilinear")


def _digest(transform: TransformConfig) -> str:
    version = importlib.metadata.version("albumentations")
    plain = [{name: dict(arguments) for name, arguments in item.items()} for item in transform.train]
    return hashlib.sha256(json.dumps([version, plain], sort_keys=True).encode()).hexdigest()[:16]


def _albumentations() -> ModuleType:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or importing it asks the package index, 2 s
    return importlib.import_module("albumentations")


@functools.cache
def _transform_names() -> list[str]:
    library = _albumentations()
    kinds = (library.ImageOnlyTransform, library.DualTransform)
    return [name for name, item in vars(library).items() if inspect.isclass(item) and issubclass(item, kinds)]
