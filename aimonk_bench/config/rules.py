"""Rules between fields: what can still be wrong with a config whose every field is valid.

A rule is a generator ``rule(config, tables)`` of problems. A new one is a function and a place in `RULES`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import get_args

from pydantic import ValidationError

from aimonk_bench import registry
from aimonk_bench.config.fields import (
    MAX_SIZE,
    TUNED_TRAIN_OPTIONS,
    Config,
    DataConfig,
    TrainConfig,
    value_of,
)
from aimonk_bench.config.split_fields import GroupRegex, Holdout, OfficialSplit
from aimonk_bench.config.tables import Tables
from aimonk_bench.registry import Problem, Table, show


def problems(config: Config, tables: Tables) -> list[Problem]:
    """Every rule that the config breaks, with the path of the key to change."""
    return [problem for rule in RULES for problem in rule(config, tables)]


def importer_options(data: DataConfig, importer: str, importers: Table) -> Iterator[Problem]:
    """Keys of ``data`` that this importer would not read, and keys that it needs.

    What an importer reads are its keyword-only parameters. It needs those without a default.
    """
    options = {name: registry.options_model(function).model_fields for name, function in importers.items()}
    for key in dict.fromkeys(key for fields in options.values() for key in fields):
        value, field = getattr(data, key), options[importer].get(key)
        default = DataConfig.model_fields[key].default
        if isinstance(value, GroupRegex):  # it reads the names of images, which every importer gives
            continue
        if field is None and value != default:
            readers = ", ".join(name for name, fields in options.items() if key in fields)
            expected = f"{show(default)}, because {importer} does not read it (importers that do: {readers})"
            yield Problem((key,), show(value), expected)
        if field is not None and field.is_required() and value is None:
            choices = " or ".join(map(str, get_args(field.annotation)))
            yield Problem((key,), "null", f"{choices}, because {importer} needs it")


def _data(config: Config, tables: Tables) -> Iterator[Problem]:
    if config.data.importer != "auto":  # `auto` is decided, and checked, when the file is read
        for problem in importer_options(config.data, config.data.importer, tables.importers):
            yield replace(problem, path=("data", *problem.path))


def _wrong(config: Config, key: str, expected: str) -> Problem:
    """The value under a dotted key is wrong beside other keys."""
    path = tuple(key.split("."))
    return Problem(path, show(functools.reduce(getattr, path, config)), expected)


def _transform(config: Config, tables: Tables) -> Iterator[Problem]:
    transform = config.transform
    for problem in tables.check_transforms(transform.train, transform.views, transform.size):
        yield replace(problem, path=("transform", *problem.path))
    for backbone, shown in _candidates(config, "take it"):
        if (expected := whole_patches(transform.size, tables.multiple(backbone), shown)) is not None:
            yield Problem(("transform", "size"), str(transform.size), expected)
            break


def whole_patches(size: int, multiple: int, shown: str) -> str | None:
    """Which sizes of images are expected instead of ``size``, of which a network would not read every pixel; or None.

    Args:
        multiple: of which the size must be one.
        shown: the network's name.
    """
    if not (left_out := size % multiple):
        return None
    below = size - left_out
    nearest = " or ".join(str(edge) for edge in (below, below + multiple) if 0 < edge <= MAX_SIZE)
    return f"a multiple of {multiple} for {shown}, because it reads whole patches only: {nearest}"


def _candidates(config: Config, need: str) -> list[tuple[str, str]]:
    """(name, name in a message) of the backbone and of the fallback, which must meet the same ``need``."""
    name, fallback = config.backbone.name, config.backbone.fallback
    role = f" (the declared fallback, which must {need} too)"
    return [(name, name), *([(fallback, fallback + role)] if fallback else [])]


def _freeze(config: Config, tables: Tables) -> Iterator[Problem]:
    """A stage that does not exist; if it exists, the keys that do not go with it."""
    freeze = config.backbone.freeze
    for backbone, shown in _candidates(config, "have it") if freeze not in ("all", "none") else ():
        stages = tables.stages(backbone)
        if stages is not None and not any(f"{freeze}.".startswith(f"{stage}.") for stage in stages):
            expected = f"all, none or a stage of {shown}: {', '.join(stages)}"
            expected = expected if stages else f"all or none, because {shown} has no stages"
            yield Problem(("backbone", "freeze"), show(freeze), expected, registry.nearest(freeze, stages))
            return
    for wrong, key, expected in _clashes(config, freeze):
        if wrong:
            yield _wrong(config, key, expected)


def _clashes(config: Config, freeze: str) -> Iterator[tuple[bool, str, str]]:
    """(whether it clashes with ``backbone.freeze``, key, what is expected) for every key that may."""
    backbone, train, views = config.backbone, config.train, config.transform.views
    head = "because under backbone.freeze: all only a head is trained"
    yield freeze == "all" and train.backbone_lr is not None, "train.backbone_lr", f"null, {head}"
    yield freeze == "all" and train.accumulate != 1, "train.accumulate", f"1, {head}"
    yield freeze == "all" and train.precision != "auto", "train.precision", f"auto, {head}"
    always = "auto or true, because under backbone.freeze: all the heads, which are small, are always kept"
    yield freeze == "all" and train.keep_weights is False, "train.keep_weights", always
    heads = "because only heads on a frozen backbone (backbone.freeze: all)"
    yield freeze != "all" and train.order == "blocks", "train.order", f"shuffle, {heads} read the store in blocks"
    yield freeze != "all" and train.averaging != "none", "train.averaging", f"auto or none, {heads} are averaged"
    yield freeze != "all" and bool(config.tune), "tune", f"{{}}, {heads} are tuned"
    fresh = "exact or a number, because fresh views need backbone.freeze: none"
    yield freeze != "none" and views == "fresh", "transform.views", fresh
    stored = "exact or fresh, because under backbone.freeze: none no views are stored"
    yield freeze == "none" and isinstance(views, int), "transform.views", stored
    encoded = "auto, because under freeze: none nothing is encoded"
    yield freeze == "none" and backbone.engine != "auto", "backbone.engine", encoded
    pixels = "float32, because under freeze: none pixels are stored, as 8-bit integers"
    yield freeze == "none" and backbone.dtype != "float32", "backbone.dtype", pixels


def _pairs(config: Config, tables: Tables) -> Iterator[Problem]:
    """Two keys of one section that do not go together."""
    split, train = config.split, config.train
    if isinstance(split, Holdout) and split.val + split.test >= 1:
        expected = f"less than {1 - split.val:g} (1 - split.val), or no image is left to train on"
        yield _wrong(config, "split.test", expected)
    if isinstance(split, OfficialSplit):
        yield from _official(config, split)
    if train.batch_size % train.accumulate:
        expected = f"a divisor of train.batch_size ({train.batch_size}), which is cut into as many parts"
        yield _wrong(config, "train.accumulate", expected)
    if train.batch_size == train.accumulate > 1:
        yield _wrong(config, "train.accumulate", "parts of at least two rows, which BatchNorm needs")
    if train.patience is not None and train.select == "last":
        yield _wrong(config, "train.patience", "null, because 'select' is last; patience needs a metric there")


def _official(config: Config, split: OfficialSplit) -> Iterator[Problem]:
    """A token in two parts, and keys that an official split with validation images does not use."""
    parts = split.lists()
    for key, other in (("val", "train"), ("test", "train"), ("test", "val")):
        values = {value_of(token) for token in parts[other]}
        if shared := [token for token in parts[key] if value_of(token) in values]:
            expected = f"no token of split.{other} ({', '.join(map(repr, shared))})"
            yield _wrong(config, f"split.{key}", expected)
    if isinstance(split.val, tuple):
        drawn = "because the column says which images are for validation: nothing is drawn (split.val: 0.15 would draw)"
        if split.seed:
            yield _wrong(config, "split.seed", f"0, {drawn}")
        if split.near_duplicates != "report":
            yield _wrong(config, "split.near_duplicates", f"report, {drawn}")


def _tune(config: Config, tables: Tables) -> Iterator[Problem]:
    """Keys that neither train nor the loss has, and values out of the range of the option that they replace."""
    loss = config.loss
    choices = [*TUNED_TRAIN_OPTIONS, *(f"loss.{key}" for key in registry.numeric_options(tables.losses[loss.name]))]
    for key, values in config.tune.items():
        if key not in choices:
            yield _untunable(key, values, choices, loss.name, tables.losses)
            continue
        section, _, option = key.partition(".")
        for place, value in enumerate(values):
            if section == "train":
                wrong = _out_of_range({option: value})
            else:
                wrong = registry.check("loss", tables.losses, {"name": loss.name, **loss.options, option: value})[1]
            yield from (replace(problem, path=("tune", key, place)) for problem in wrong)


def _out_of_range(train: dict[str, float]) -> list[Problem]:
    try:
        TrainConfig.model_validate(train)
    except ValidationError as error:
        return registry.problems_of(error, lambda _: ())
    return []


def _untunable(key: str, values: list[float], choices: list[str], loss: str, losses: Table) -> Problem:
    """The message about a key of ``tune`` that is an option of other losses, or of none."""
    path, option = ("tune", key), key.removeprefix("loss.")
    owners = [name for name, function in losses.items() if option in registry.numeric_options(function)]
    if key == option or not owners:
        near = registry.nearest(key, choices)
        return Problem(path, f"unknown key {key!r}", f"one of {', '.join(choices)} (loss {loss})", near, on_key=True)
    expected = (
        f"one of {', '.join(choices)}, or another loss ({', '.join(owners)}); in a suite `loss` and each value of its "
        f"axis need the option, or the axis lists its values: {{name: {owners[0]}, {option}: {values[0]}}}"
    )
    return Problem(path, f"an option that runs with loss {loss} lack", expected, on_key=True)


RULES: tuple[Callable[[Config, Tables], Iterator[Problem]], ...] = (_data, _transform, _freeze, _pairs, _tune)
