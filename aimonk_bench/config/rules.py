"""Rules between fields: what can still be wrong with a config whose every field is valid.

A rule is a generator ``rule(config, tables)`` of problems. A new one is a function and a place in `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, get_args

from pydantic import ValidationError

from aimonk_bench import registry
from aimonk_bench.config.fields import (
    TRAINABLE_OPTIONS,
    TUNED_TRAIN_OPTIONS,
    Config,
    DataConfig,
    Holdout,
    Tables,
    TrainConfig,
)
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
        if field is None and value is not None:
            readers = " and ".join(name for name, fields in options.items() if key in fields)
            yield Problem((key,), show(value), f"null, because {importer} does not read it; {readers} would")
        if field is not None and field.is_required() and value is None:
            choices = " or ".join(map(str, get_args(field.annotation)))
            yield Problem((key,), "null", f"{choices}, which {importer} needs")


def _data(config: Config, tables: Tables) -> Iterator[Problem]:
    if config.data.importer != "auto":  # `auto` is decided, and checked, when the file is read
        for problem in importer_options(config.data, config.data.importer, tables.importers):
            yield replace(problem, path=("data", *problem.path))


def _split(config: Config, tables: Tables) -> Iterator[Problem]:
    split = config.split
    if isinstance(split, Holdout) and split.val + split.test >= 1:
        expected = f"less than {1 - split.val:g} (1 - split.val), or no image is left to train on"
        yield Problem(("split", "test"), show(split.test), expected)


def _transform(config: Config, tables: Tables) -> Iterator[Problem]:
    transform = config.transform
    for problem in tables.check_transforms(transform.train, transform.views, transform.size):
        yield replace(problem, path=("transform", *problem.path))
    for backbone, shown in _candidates(config, "take it"):
        if transform.size % (multiple := tables.multiple(backbone)):
            yield Problem(("transform", "size"), str(transform.size), f"a multiple of {multiple} for {shown}")
            break


def _candidates(config: Config, need: str) -> list[tuple[str, str]]:
    """(name, name in a message) of the backbone, and of the fallback, which must fulfil the same ``need``."""
    name, fallback = config.backbone.name, config.backbone.fallback
    role = f" (the declared fallback, which must {need} too)"
    return [(name, name), *([(fallback, fallback + role)] if fallback else [])]


def _freeze(config: Config, tables: Tables) -> Iterator[Problem]:
    """A stage that does not exist; only of an existing one it is clear what goes with it."""
    freeze = config.backbone.freeze
    for backbone, shown in _candidates(config, "have it") if freeze not in ("all", "none") else ():
        stages = tables.stages(backbone)
        if not any(f"{freeze}.".startswith(f"{stage}.") for stage in stages):
            expected = f"all, none or a stage of {shown}: {', '.join(stages)}"
            expected = expected if stages else f"all or none, because {shown} has no stages"
            yield Problem(("backbone", "freeze"), show(freeze), expected, registry.nearest(freeze, stages))
            return
    yield from _all_frozen(config) if freeze == "all" else _some_trainable(config)
    yield from _none_frozen(config) if freeze == "none" else _some_frozen(config)


def _all_frozen(config: Config) -> Iterator[Problem]:
    for key in TRAINABLE_OPTIONS:
        value, usual = getattr(config.train, key), TrainConfig.model_fields[key].default
        if value != usual:
            shown = usual if isinstance(usual, str) else show(usual)
            expected = f"{shown}, because under backbone.freeze: all only a head is trained"
            yield Problem(("train", key), show(value), expected)


def _some_trainable(config: Config) -> Iterator[Problem]:
    if config.train.order == "blocks":
        expected = "shuffle, because only heads on a frozen backbone (backbone.freeze: all) read the store in blocks"
        yield Problem(("train", "order"), show("blocks"), expected)
    if config.tune:
        expected = "{}, because only heads on a frozen backbone (backbone.freeze: all) are tuned"
        yield Problem(("tune",), show(config.tune), expected)


def _none_frozen(config: Config) -> Iterator[Problem]:
    backbone, views = config.backbone, config.transform.views
    if backbone.engine != "auto":
        expected = "auto, because under freeze: none nothing is encoded"
        yield Problem(("backbone", "engine"), show(backbone.engine), expected)
    if backbone.dtype != "float32":
        expected = "float32, because under freeze: none pixels are stored, as 8-bit integers"
        yield Problem(("backbone", "dtype"), show(backbone.dtype), expected)
    if isinstance(views, int):
        expected = "exact or fresh, because under backbone.freeze: none no views are stored"
        yield Problem(("transform", "views"), show(views), expected)


def _some_frozen(config: Config) -> Iterator[Problem]:
    if config.transform.views == "fresh":
        expected = "exact or a number, because fresh views need backbone.freeze: none"
        yield Problem(("transform", "views"), show("fresh"), expected)


def _train(config: Config, tables: Tables) -> Iterator[Problem]:
    train = config.train
    if train.batch_size % train.accumulate:
        expected = f"a divisor of train.batch_size ({train.batch_size}), which is cut into as many parts"
        yield Problem(("train", "accumulate"), show(train.accumulate), expected)
    elif train.batch_size == train.accumulate > 1:
        expected = "parts of at least two rows, which BatchNorm needs"
        yield Problem(("train", "accumulate"), show(train.accumulate), expected)
    if train.patience is not None and train.select == "last":
        expected = "null, because 'select' is last; patience needs a metric there"
        yield Problem(("train", "patience"), show(train.patience), expected)


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
            entry = {"name": loss.name, **loss.options, option: value}
            for problem in _out_of_range(option, value) if section == "train" else _misfits(entry, tables.losses):
                yield replace(problem, path=("tune", key, place))


def _out_of_range(option: str, value: float) -> list[Problem]:
    try:
        TrainConfig.model_validate({option: value})
    except ValidationError as error:
        return registry.problems_of(error, lambda _: ())
    return []


def _misfits(entry: dict[str, Any], losses: Table) -> list[Problem]:
    return registry.check("loss", losses, entry)[1]


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


RULES: tuple[Callable[[Config, Tables], Iterator[Problem]], ...] = (_data, _split, _transform, _freeze, _train, _tune)
