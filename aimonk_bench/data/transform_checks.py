"""Checks of `transform.train`: names, arguments, and whether a transform works on an image alone.

albumentations itself only warns of unknown arguments. It is imported only if other transforms than flips are named.
"""

from __future__ import annotations

import functools
import inspect
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, ValidationError

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
