"""Views of an image: flips with their probabilities (`views: exact`), or augmentations (`views: K`, `views: fresh`).

A stored view is made from the squashed uint8 image and named by a string that never changes its meaning. OpenCV does
the flips, albumentations everything else. albumentations is imported only if other transforms than flips are named,
because it brings torch. `check` says what is wrong with `transform.train`: albumentations itself only warns of unknown
arguments.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import json
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
FLIPS = {IDENTITY: None, "h": 1, "v": 0, "hv": -1}  # key of a view -> OpenCV's code of the flip
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
    """The views of every training image that the feature store holds.

    Attributes:
        keys: [V] names; first ``identity``, the unaugmented image, the only view for validation and test.
        probabilities: [V] float64, how often training draws each view; they sum to 1.
    """

    keys: tuple[str, ...]
    probabilities: np.ndarray


UNAUGMENTED = Views((IDENTITY,), np.ones(1))


def views(transform: TransformConfig) -> Views:
    """The views of a checked `transform`.

    Exact: every reachable combination of the flips, with the product of their probabilities. K: the identity, which
    training never draws, and K views drawn with equal probability; their keys name transforms, arguments, library
    version and number. Fresh: the identity, because training augments it anew each time.
    """
    if transform.views == "fresh":
        return UNAUGMENTED
    if transform.views != "exact":
        count = int(transform.views)
        keys = [f"{_digest(transform)}/{number}" for number in range(1, count + 1)]
        return Views((IDENTITY, *keys), np.array([0.0] + [1 / count] * count))
    flipped = dict.fromkeys(EXACT, 0.0)  # the probability that an odd number of the flips of this name is drawn
    for item in transform.train:
        [(name, arguments)] = item.items()
        p = Flip.model_validate(arguments).p
        flipped[name] = flipped[name] * (1 - p) + (1 - flipped[name]) * p
    h, v = flipped.values()
    probabilities = dict(zip(FLIPS, [(1 - h) * (1 - v), h * (1 - v), (1 - h) * v, h * v], strict=True))
    stored = {key: p for key, p in probabilities.items() if p > 0 or key == IDENTITY}
    return Views(tuple(stored), np.array(list(stored.values())))


def render(image: np.ndarray, sha256: str, key: str, transform: TransformConfig) -> np.ndarray:
    """Make the view ``key`` of an image.

    A drawn view depends on the bytes of the image and on its own key alone: not on order, process or thread.

    Args:
        image: uint8 [size, size, 3], as `images.decode` returns it.
        sha256: hex digest of the image's file.
        key: one of ``views(transform).keys``.

    Returns:
        uint8 [size, size, 3].
    """
    return flipped(image, key) if key in FLIPS else augment(image, f"{sha256}/{key}", transform)


def flipped(image: np.ndarray, key: str) -> np.ndarray:
    """An image [H, W, C] in a view of FLIPS; the identity is the image itself."""
    code = FLIPS[key]
    return image if code is None else cv2.flip(image, code)


def augment(image: np.ndarray, seed: str, transform: TransformConfig) -> np.ndarray:
    """Draw an augmentation of an image, which depends on ``seed`` alone.

    Args:
        image: uint8 [size, size, 3].
        seed: any text.

    Returns:
        uint8 [size, size, 3]; a transform that changes the size, such as a crop, is followed by the squash (bilinear).
    """
    library = albumentations()
    steps = [getattr(library, name)(**arguments) for item in transform.train for name, arguments in item.items()]
    pipeline = library.Compose(steps)  # built anew: two threads would mix the random states of a shared one
    # Compose(seed=...) would give every step the same random state: two flips would always be drawn together
    digest = hashlib.sha256(seed.encode()).digest()
    pipeline.set_random_state(np.random.default_rng(list(digest)), random.Random(seed))
    return squash(np.ascontiguousarray(pipeline(image=image)["image"]), transform.size, "bilinear")


def albumentations() -> ModuleType:
    """The library, imported on first use."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # or the import asks the package index, 2 s
    return importlib.import_module("albumentations")


def _digest(transform: TransformConfig) -> str:
    version = importlib.metadata.version("albumentations")
    return hashlib.sha256(json.dumps([version, transform.train], sort_keys=True).encode()).hexdigest()[:16]


def check(
    train: Sequence[Mapping[str, Mapping[str, Any]]], views: Literal["exact", "fresh"] | int, size: int
) -> list[Problem]:
    """Find every problem of `transform.train`.

    Args:
        train: maps of one transform's name to its arguments.
        views: `transform.views`.
        size: `transform.size`; each transform is tried on an image of it.

    Returns:
        Problems with paths relative to the `transform` map. If there is none, `views` and `render` will work.
    """
    if views != "exact" and not train:
        return [Problem(("views",), show(views), "exact, because train holds no transform to draw")]
    problems = []
    for place, item in enumerate(train):
        [(name, arguments)] = item.items()
        problems += _problems(name, arguments, ("train", place, name), views, size)
    return problems


def _problems(name: str, arguments: Mapping[str, Any], path: Path, views: str | int, size: int) -> list[Problem]:
    """The problems of one transform and its arguments."""
    if name in IMPLIED:
        expected = "no such step: the squash to size x size and the backbone's normalisation are implied"
        return [Problem(path, name, expected, on_key=True)]
    if name in EXACT:
        try:
            Flip.model_validate(arguments)
        except ValidationError as error:
            problems = problems_of(error, lambda _: Flip.model_fields)
            return [replace(problem, path=path + problem.path) for problem in problems]
        return []
    names = _names()
    if name not in names:
        expected = f"an albumentations transform of images ({', '.join(EXACT)} or one of {len(names) - 2} others)"
        return [Problem(path, f"unknown transform {name!r}", expected, nearest(name, names), on_key=True)]
    if views == "exact":
        expected = (
            f"{' or '.join(EXACT)}; for others say `views: K`, the number of drawn views to store, or under "
            "backbone.freeze: none `views: fresh`"
        )
        return [Problem(path, f"{name} under views: exact", expected, on_key=True)]
    kind = getattr(albumentations(), name)
    return _argument_problems(kind, arguments, path) or _trial(kind, arguments, path, size)


@functools.cache
def _names() -> list[str]:
    library = albumentations()
    kinds = (library.ImageOnlyTransform, library.DualTransform)
    return [name for name, item in vars(library).items() if inspect.isclass(item) and issubclass(item, kinds)]


def _argument_problems(kind: Any, arguments: Mapping[str, Any], path: Path) -> list[Problem]:
    """Unknown arguments; one problem for each that is missing or of a wrong type; and one for a wrong combination."""
    parameters = inspect.signature(kind).parameters
    defaults = {key: item.default for key, item in parameters.items() if item.default is not inspect.Parameter.empty}
    choices = sorted(parameters)
    problems = [
        Problem((*path, key), f"unknown argument {key!r}", f"one of {', '.join(choices)}", nearest(key, choices), True)
        for key in arguments
        if key not in choices
    ]
    schema: Any = type(
        kind.__name__, (kind.InitSchema,), {"model_config": ConfigDict(strict=True, allow_inf_nan=False)}
    )
    messages: dict[str | None, list[str]] = {}
    try:
        # strict validation refuses "0.5" and true for numbers; of JSON it takes a list, all that YAML has, for a tuple
        schema.model_validate_json(json.dumps({**defaults, **arguments, "strict": True}, default=repr))
    except ValidationError as error:
        for item in error.errors():
            message = item["msg"].replace("Input should be ", "").replace("Value error, ", "")
            messages.setdefault(str(item["loc"][0]) if item["loc"] else None, []).append(message)
    for key, texts in messages.items():
        expected = "; or ".join(dict.fromkeys(texts))
        if key is None:
            problems.append(Problem(path, show(dict(arguments)), expected))
        elif key in arguments:
            problems.append(Problem((*path, key), show(arguments[key]), expected))
        elif key not in defaults:  # defaults that are functions have no JSON form; the trial shows whether they work
            problems.append(Problem(path, "nothing", f"{key!r}, which is required"))
    return problems


def _trial(kind: Any, arguments: Mapping[str, Any], path: Path, size: int) -> list[Problem]:
    """Apply the transform once to a grey image: here it gets no masks, boxes, volumes or other images."""
    try:
        transform = kind(**arguments)
        transform.set_random_state(np.random.default_rng(0), random.Random(0))
        result = transform(image=np.full((size, size, 3), 128, np.uint8), force_apply=True)["image"]
    except Exception as error:  # transforms raise exceptions of any kind
        return [Problem(path, kind.__name__, f"a transform that works on a {size} x {size} image alone ({error!r})")]
    if result.dtype != np.uint8 or result.shape[2:] != (3,):
        return [Problem(path, kind.__name__, "a transform that returns uint8 [H, W, 3]", on_key=True)]
    return []
