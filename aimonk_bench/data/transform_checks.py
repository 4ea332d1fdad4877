"""Checks of `transform.train`: names, arguments, and whether a transform works on an image alone.

albumentations itself only warns of unknown arguments. It is imported only if other transforms than flips are named.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from aimonk_bench.data.transforms import EXACT, Flip, albumentations
from aimonk_bench.registry import Path, Problem, nearest, problems_of, show

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


def check(
    train: Sequence[Mapping[str, Mapping[str, Any]]], views: Literal["exact", "fresh"] | int, size: int
) -> list[Problem]:
    """Find every problem of `transform.train`.

    Args:
        train: maps of one transform's name to its arguments.
        views: `transform.views`.
        size: `transform.size`; each transform is tried on an image of it.

    Returns:
        Problems with paths relative to the `transform` map. If there is none, `transforms.views` and
        `transforms.render` will work.
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
    """Check arguments against the signature and the types that albumentations declares."""
    choices = sorted(inspect.signature(kind).parameters)
    problems = []
    for key, value in arguments.items():
        if key not in choices:
            expected, near = f"one of {', '.join(choices)}", nearest(key, choices)
            problems.append(Problem((*path, key), f"unknown argument {key!r}", expected, near, on_key=True))
        elif not _finite(value):
            problems.append(Problem((*path, key), show(value), "finite numbers"))
    return problems + _type_problems(kind, arguments, path)


def _finite(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _type_problems(kind: Any, arguments: Mapping[str, Any], path: Path) -> list[Problem]:
    """One problem for each argument that is missing or of a wrong type, and one for a wrong combination of them."""
    empty = inspect.Parameter.empty
    parameters = inspect.signature(kind).parameters.items()
    defaults = {key: parameter.default for key, parameter in parameters if parameter.default is not empty}
    # strict validation refuses "0.5" and true for numbers; its JSON form accepts a list, all that YAML has, for a tuple
    text = json.dumps({**defaults, **arguments, "strict": True}, default=repr)
    messages: dict[str | None, list[str]] = {}
    try:
        kind.InitSchema.model_validate_json(text, strict=True)
    except ValidationError as error:
        for item in error.errors():
            message = item["msg"].replace("Input should be ", "").replace("Value error, ", "")
            messages.setdefault(str(item["loc"][0]) if item["loc"] else None, []).append(message)
    problems = []
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
