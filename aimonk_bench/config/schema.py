"""The config as typed, frozen data: every field with its default, its range and the rules between fields."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    InstanceOf,
    PlainSerializer,
    Tag,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from typing_extensions import TypedDict

from aimonk_bench import registry
from aimonk_bench.config.nodes import Fault, Node, fault, locate
from aimonk_bench.registry import Problem, Spec, Table

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt")
MAX_SEEDS = 1000


@dataclass(frozen=True)
class Tables:
    """What the config may name, handed in by the caller so that this room imports none of it.

    Attributes:
        known_backbone: whether a backbone outside ``backbones`` exists all the same.
        stages: where a backbone that exists can be cut.
        multiple: of what ``transform.size`` must be a multiple for a backbone that exists.
        check_transforms: the problems of ``train``, ``views`` and ``size`` of the map ``transform``, where paths start.
    """

    backbones: Mapping[str, object]
    losses: Table
    missing: Table
    samplers: Table
    thresholds: Table
    optimizers: Table
    schedules: Table
    importers: Mapping[str, object]
    known_backbone: Callable[[str], bool]
    stages: Callable[[str], Sequence[str]]
    multiple: Callable[[str], int]
    check_transforms: Callable[[list[dict[str, dict[str, Any]]], Literal["exact", "fresh"] | int, int], list[Problem]]


# A ValueError raised below is read as "found VALUE, expected MESSAGE".


def _distinct(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError("no value twice")
    return values


def _seeds(value: Any) -> Any:
    if type(value) is int and 1 <= value <= MAX_SEEDS:
        return list(range(value))
    if isinstance(value, list) and value:
        return value
    raise ValueError(f"a number of seeds from 1 to {MAX_SEEDS}, or a list of seeds")


def _views(value: Any) -> Any:
    if value in ("exact", "fresh") or (type(value) is int and value >= 1):
        return value
    raise ValueError("exact, fresh, or a number of views of at least 1")


def _attributes(names: list[str]) -> list[str]:
    if "macro" in names:
        raise ValueError("no attribute named 'macro', which is the name of the average")
    if "" in names:
        raise ValueError("no empty name")
    return _distinct(names)


def _device(value: str) -> str:
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value) is None:
        raise ValueError("auto, cpu, cuda, cuda:N or mps")
    return value


def is_weight_file(weights: str) -> bool:
    """Whether ``backbone.weights`` is a path, rather than a keyword or an installed package."""
    return weights.endswith(WEIGHT_SUFFIXES) and not weights.startswith("package:")


def _weights(value: str) -> str:
    if value in ("imagenet", "none") or re.fullmatch(r"package:.+", value) or is_weight_file(value):
        return value
    raise ValueError("imagenet, none, package:NAME or a path ending in " + ", ".join(WEIGHT_SUFFIXES))


STAGE = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


def _stage(value: str) -> str:
    if STAGE.fullmatch(value) is None:
        raise ValueError("all, none or a stage of the backbone, such as layer4 or blocks.3")
    return value


def _folder_name(value: str) -> str:
    if not value.strip() or value in (".", "..") or re.search(r"[/\\\x00-\x1f]", value):
        raise ValueError("a name that can be a folder's")
    return value


def _bare_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _values_form(value: Any) -> str:
    """Whether ``data.values`` is one map of token lists or a map of such maps."""
    inner = value.values() if isinstance(value, Mapping) else ()
    return "PerAttribute" if any(isinstance(item, Mapping | Values) for item in inner) else "Values"


Natural = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(ge=0)]
PathField = Annotated[Path, Field(strict=False)]
Tokens = Annotated[list[str], AfterValidator(_distinct)]
Mechanism = Literal["random", "per_class", "positives", "score"]
Entry = Annotated[InstanceOf[Spec], PlainSerializer(Spec.plain), WithJsonSchema({})]  # json_schema() fills it in


class Section(BaseModel):
    """A map of the config: no unknown keys, no conversion of types, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Values(Section):
    """The tokens of a label file that mean yes, no and not known."""

    positive: Annotated[Tokens, Field(min_length=1)] = ["1"]
    negative: Annotated[Tokens, Field(min_length=1, validate_default=True)] = ["0"]
    missing: Annotated[Tokens, Field(validate_default=True)] = ["NA", ""]

    @field_validator("negative", "missing")
    @classmethod
    def _one_meaning(cls, tokens: list[str], info: ValidationInfo) -> list[str]:
        for other, taken in info.data.items():
            if shared := sorted(set(tokens) & set(taken)):
                raise ValueError(f"no token that {other!r} holds ({', '.join(map(repr, shared))})")
        return tokens


class DataConfig(Section):
    """Which labels and pictures, and how to read them."""

    labels: PathField
    images: PathField
    importer: str = "auto"
    id: str | None = None
    group: str | None = None
    attributes: Annotated[list[str], Field(min_length=1), AfterValidator(_attributes)] | None = None
    values: Annotated[
        Annotated[Values, Tag("Values")] | Annotated[dict[str, Values], Tag("PerAttribute")],
        Discriminator(_values_form),
    ] = Values()
    absent: Annotated[Literal["negative", "missing"] | None, Field(validate_default=True)] = None
    on_bad_image: Literal["error", "skip"] = "error"

    @field_validator("id")
    @classmethod
    def _id_is_read(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("importer") in ("labels_txt", "label_list", "jsonl"):
            raise ValueError("null, because only the importer wide_csv reads it")
        return value

    @field_validator("values")
    @classmethod
    def _macro_is_no_attribute(cls, values: Values | dict[str, Values]) -> Values | dict[str, Values]:
        if isinstance(values, dict):
            _attributes(list(values))
        return values

    @field_validator("absent")
    @classmethod
    def _absent_is_read(cls, value: str | None, info: ValidationInfo) -> str | None:
        importer = info.data.get("importer")
        if value is None and importer == "label_list":
            raise ValueError("negative or missing: what a tag that a label_list leaves out means")
        if value is not None and importer in ("labels_txt", "wide_csv", "jsonl"):
            raise ValueError("null, because only the importer label_list reads it")
        return value


class Holdout(Section):
    """One split; fractions of all pictures."""

    scheme: Literal["holdout"] = "holdout"
    val: Fraction = 0.15
    test: Annotated[Fraction, Field(validate_default=True)] = 0.15
    seed: Seed = 0

    @field_validator("test")
    @classmethod
    def _some_are_left(cls, test: float, info: ValidationInfo) -> float:
        if test + info.data.get("val", 0.0) >= 1:
            raise ValueError(f"less than {1 - info.data['val']:g} (1 - split.val), or no picture is left to train on")
        return test


class KFold(Section):
    """Every picture is a test row once; ``val`` is the fraction of what is left after the test fold."""

    scheme: Literal["kfold"] = "kfold"
    folds: Annotated[int, Field(ge=2)] = 5
    val: Fraction = 0.15
    seed: Seed = 0


def _split_form(value: Any) -> str:
    scheme = value.get("scheme") if isinstance(value, Mapping) else getattr(value, "scheme", None)
    return "Holdout" if scheme == "holdout" else "KFold"


class BackboneConfig(Section):
    """The network, where its weights come from, and how much of it is frozen."""

    name: str = "resnet18"
    weights: Annotated[str, AfterValidator(_weights)] = "imagenet"
    freeze: Annotated[str, AfterValidator(_stage)] = "all"
    fallback: str | None = None
    engine: Literal["auto", "torch", "onnxruntime"] = "auto"
    dtype: Literal["float32", "float16"] = "float32"

    @field_validator("engine")
    @classmethod
    def _engine_encodes(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("freeze") == "none" and value != "auto":
            raise ValueError("auto, because under freeze: none nothing is encoded")
        return value

    @field_validator("dtype")
    @classmethod
    def _dtype_is_stored(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("freeze") == "none" and value != "float32":
            raise ValueError("float32, because under freeze: none pixels are stored, as 8-bit integers")
        return value


class TransformConfig(Section):
    """What happens to a picture before it is encoded."""

    size: Annotated[int, Field(ge=1, le=4096)] = 224
    train: list[Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=1)]] = [
        {"HorizontalFlip": {"p": 0.5}}
    ]
    views: Annotated[Literal["exact", "fresh"] | int, BeforeValidator(_views)] = "exact"
    decode: Literal["full", "fast"] = "full"


class TrainConfig(Section):
    """How the heads are trained, and what of the network is not frozen.

    ``order`` is how the sampler `uniform` goes through the training rows: `shuffle` draws each from all of them,
    `blocks` from a few blocks of the feature store at a time, for stores that do not fit into memory.
    """

    optimizer: Entry = Spec("adam")
    lr: Rate = 1e-3
    backbone_lr: Rate | None = None
    weight_decay: Decay = 0.0
    batch_size: Natural = 16
    accumulate: Natural = 1
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    order: Literal["shuffle", "blocks"] = "shuffle"
    epochs: Natural = 10
    schedule: Entry = Spec("constant")
    clip: Annotated[float, Field(gt=0)] | None = None
    seeds: Annotated[
        list[Seed], AfterValidator(_distinct), BeforeValidator(_seeds, json_schema_input_type=int | list[int])
    ] = [0, 1, 2, 3, 4]
    select: Literal["last", "loss", "f1_default", "average_precision", "roc_auc"] = "last"
    patience: Natural | None = None
    device: Annotated[str, AfterValidator(_device)] = "auto"

    @field_validator("accumulate")
    @classmethod
    def _parts_are_equal(cls, value: int, info: ValidationInfo) -> int:
        rows = info.data.get("batch_size", value + value)  # what is wrong with it has been said
        if rows % value:
            raise ValueError(f"a divisor of train.batch_size ({rows}), which is cut into as many parts")
        if value > 1 and rows == value:
            raise ValueError("parts of at least two rows, which BatchNorm needs")
        return value

    @field_validator("patience")
    @classmethod
    def _patience_watches_something(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("select") == "last":
            raise ValueError("null, because 'select' is last; patience needs a metric there")
        return value


class HideConfig(Section):
    """Labels that are known and kept from training: how, how many, and whether from validation too."""

    mechanism: Mechanism
    fraction: Fraction = 0.5
    rows: Literal["train_val", "train"] = "train_val"
    seed: Seed = 0

    def __str__(self) -> str:
        """As run names show it: ``random(fraction=0.5)``."""
        changed = {name: getattr(self, name) for name in ("rows", "seed")}
        shown = [f"{name}={value}" for name, value in changed.items() if value != HideConfig.model_fields[name].default]
        return f"{self.mechanism}({', '.join([f'fraction={self.fraction}', *shown])})"


Tune = TypedDict(
    "Tune",
    {
        "train.lr": Annotated[list[Rate], Field(min_length=1), AfterValidator(_distinct)],
        "train.weight_decay": Annotated[list[Decay], Field(min_length=1), AfterValidator(_distinct)],
    },
    total=False,
)
Tune.__doc__ = (
    "Values of which every head chooses on its own validation rows; they replace the one in train, or, with a key such "
    "as `loss.gamma`, that option of the loss."
)
# further keys are options of the loss, which `_tuned_options` knows
Tune.__pydantic_config__ = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)  # type: ignore[attr-defined]


class PlotConfig(Section):
    """The loss curve."""

    title: str = "Aimonk_multilabel_problem"


class Config(Section):
    """One experiment, complete: every path absolute, every option of every entry filled in."""

    name: Annotated[str, AfterValidator(_folder_name)]
    data: DataConfig
    hide: HideConfig | None = None
    split: Annotated[
        Annotated[Holdout, Tag("Holdout")] | Annotated[KFold, Tag("KFold")], Discriminator(_split_form)
    ] = KFold()
    backbone: Annotated[BackboneConfig, BeforeValidator(_bare_name, json_schema_input_type=str | BackboneConfig)] = (
        BackboneConfig()
    )
    transform: TransformConfig = TransformConfig()
    loss: Entry = Spec("masked_bce")
    missing: Entry = Spec("ignore")
    sampler: Entry = Spec("uniform")
    train: TrainConfig = TrainConfig()
    tune: Tune = {}
    threshold: Entry = Spec("per_attribute_f1")
    calibration: Literal["none", "platt"] = "none"
    plot: PlotConfig = PlotConfig()


TAIL_OPTIONS = ("backbone_lr", "accumulate", "precision")  # of train, which a frozen network has no use for


class SuiteSection(Section):
    """The ``suite`` map: what varies, which run the others are compared with, and which are left out."""

    baseline: dict[str, Any]
    axes: Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)]
    exclude: list[Annotated[dict[str, Any], Field(min_length=1)]] = []


ENTRIES: dict[tuple[str, ...], tuple[str, str]] = {  # where a table's entry is named -> (its kind, the table)
    ("loss",): ("loss", "losses"),
    ("missing",): ("missing-label policy", "missing"),
    ("sampler",): ("sampler", "samplers"),
    ("threshold",): ("threshold policy", "thresholds"),
    ("train", "optimizer"): ("optimizer", "optimizers"),
    ("train", "schedule"): ("schedule", "schedules"),
}
_TAGS = {"Values", "PerAttribute", "Holdout", "KFold"}  # pydantic puts them into the paths of its errors
_MODELS: dict[str | int, type[Section]] = {
    "data": DataConfig,
    "hide": HideConfig,
    "Values": Values,
    "PerAttribute": Values,
    "Holdout": Holdout,
    "KFold": KFold,
    "backbone": BackboneConfig,
    "transform": TransformConfig,
    "train": TrainConfig,
    "plot": PlotConfig,
}


def _keys_at(path: registry.Path) -> Sequence[str]:
    if path == ("tune",):
        return list(Tune.__annotations__)
    model = next((_MODELS[part] for part in reversed(path) if part in _MODELS), None)
    return list(model.model_fields) if model else [*Config.model_fields, "extends", "suite"]


def _fill_entries(data: dict[str, Any], tables: Tables) -> list[Problem]:
    """Replace every entry named in ``data``, or the default, by its complete Spec; a bad one by a stand-in."""
    problems = []
    for path, (kind, table) in ENTRIES.items():
        in_train = path[0] == "train"
        section = data.setdefault("train", {}) if in_train else data
        if not isinstance(section, dict):
            continue  # said by pydantic
        fields = TrainConfig.model_fields if in_train else Config.model_fields
        default: Spec = fields[path[-1]].default
        spec, found = registry.check(kind, getattr(tables, table), section.get(path[-1], default.name))
        problems += [replace(problem, path=(*path, *problem.path)) for problem in found]
        section[path[-1]] = spec or default
    return problems


def _unknown_names(data: dict[str, Any], tables: Tables) -> list[Problem]:
    """Importers and backbones that do not exist; a value of another type is left to pydantic."""
    importers, backbones = ["auto", *tables.importers], list(tables.backbones)
    any_backbone = "a name from `aimonk-bench list backbones`, or another timm name"
    problems = []
    for section, key, kind, choices, expected in (
        ("data", "importer", "importer", importers, "one of " + ", ".join(importers)),
        ("backbone", "name", "backbone", backbones, any_backbone),
        ("backbone", "fallback", "backbone", backbones, any_backbone),
    ):
        values = _bare_name(data.get(section))
        name = values.get(key) if isinstance(values, dict) else None
        if not isinstance(name, str) or name in choices or (kind == "backbone" and tables.known_backbone(name)):
            continue
        found = f"unknown {kind} {name!r}"
        problems.append(Problem((section, key), found, expected, registry.nearest(name, choices)))
    return problems


def _candidates(data: dict[str, Any], need: str, tables: Tables) -> list[tuple[str, str]]:
    """The backbone and its fallback, those of them that exist, each as a message calls it that tells of a ``need``."""
    values = _bare_name(data.get("backbone", {}))
    if not isinstance(values, dict):
        return []  # said by pydantic, as are names that are no text; `_unknown_names` says which do not exist
    names = values.get("name", BackboneConfig.model_fields["name"].default), values.get("fallback")
    return [
        (name, name + role)
        for name, role in zip(names, ("", f" (the declared fallback, which must {need} too)"), strict=True)
        if isinstance(name, str) and (name in tables.backbones or tables.known_backbone(name))
    ]


def _indivisible(data: dict[str, Any], size: int, tables: Tables) -> list[Problem]:
    """A size of pictures of which the backbone, or the fallback that may take its place, would leave out an edge."""
    for backbone, words in _candidates(data, "take it", tables):
        if size % (multiple := tables.multiple(backbone)):
            return [Problem(("transform", "size"), str(size), f"a multiple of {multiple} for {words}")]
    return []


def _unknown_stage(data: dict[str, Any], tables: Tables) -> list[Problem]:
    """A stage that the backbone, or the fallback that may take its place, does not have."""
    values = data.get("backbone")
    freeze = values.get("freeze") if isinstance(values, dict) else None
    if not isinstance(values, dict) or not isinstance(freeze, str) or not STAGE.fullmatch(freeze):
        return []  # what is wrong with it is said by pydantic
    if freeze in ("all", "none"):
        return []
    for backbone, words in _candidates(data, "have it", tables):
        stages = tables.stages(backbone)
        if not any(f"{freeze}.".startswith(f"{stage}.") for stage in stages):
            expected = f"all, none or a stage of {words}: {', '.join(stages)}"
            expected = expected if stages else f"all or none, because {words} has no stages"
            return [Problem(("backbone", "freeze"), registry.show(freeze), expected, registry.nearest(freeze, stages))]
    return []


def _clashes(data: dict[str, Any]) -> list[Problem]:
    """Keys that do not go with ``backbone.freeze``; what is wrong in itself is said by others."""
    sections = (data.get(key) for key in ("backbone", "transform", "train"))
    backbone, transform, train = (section if isinstance(section, dict) else {} for section in sections)
    freeze, views, tune = backbone.get("freeze", "all"), transform.get("views"), data.get("tune")
    found: list[tuple[registry.Path, Any, str]] = []
    if freeze == "all":
        for key in TAIL_OPTIONS:
            usual = TrainConfig.model_fields[key].default
            if train.get(key, usual) != usual:
                instead = usual if isinstance(usual, str) else registry.show(usual)
                expected = f"{instead}, because under backbone.freeze: all only a head is trained"
                found.append((("train", key), train[key], expected))
    if freeze != "all" and train.get("order") == "blocks":
        expected = "shuffle, because only heads on a frozen backbone (backbone.freeze: all) read the store in blocks"
        found.append((("train", "order"), "blocks", expected))
    if freeze != "all" and tune:
        expected = "{}, because only heads on a frozen backbone (backbone.freeze: all) are tuned"
        found.append((("tune",), tune, expected))
    if freeze != "none" and views == "fresh":
        expected = "exact or a number, because fresh views need backbone.freeze: none"
        found.append((("transform", "views"), views, expected))
    if freeze == "none" and isinstance(views, int):
        expected = "exact or fresh, because under backbone.freeze: none no views are stored"
        found.append((("transform", "views"), views, expected))
    return [Problem(path, registry.show(value), expected) for path, value, expected in found]


def _untunable(path: registry.Path, key: str, values: Any, choices: list[str], loss: str, tables: Tables) -> Problem:
    """A key of ``tune`` that the loss does not have: an option of other losses, or of none."""
    option = key.removeprefix("loss.")
    owners = [name for name, function in tables.losses.items() if option in registry.numeric_options(function)]
    if key == option or not owners:
        near = registry.nearest(key, choices)
        return Problem(path, f"unknown key {key!r}", f"one of {', '.join(choices)} (loss {loss})", near, on_key=True)
    value = values[0] if isinstance(values, list) and values else "..."
    expected = (
        f"one of {', '.join(choices)}, or another loss ({', '.join(owners)}); in a suite `loss` and each value of its "
        f"axis need the option, or the axis lists its values: {{name: {owners[0]}, {option}: {value}}}"
    )
    return Problem(path, f"an option that runs with loss {loss} lack", expected, on_key=True)


def _tuned_options(data: dict[str, Any], tables: Tables) -> list[Problem]:
    """Keys of ``tune`` that are neither of train nor numeric options of the loss, and values that the loss refuses."""
    tune, loss = data.get("tune"), data["loss"]
    if not isinstance(tune, dict):
        return []  # said by pydantic
    options = {f"loss.{key}": key for key in registry.numeric_options(tables.losses[loss.name])}
    problems = []
    for key in set(tune) - set(Tune.__annotations__):
        path, values = ("tune", key), tune[key]
        if key not in options:
            problems.append(_untunable(path, key, values, [*Tune.__annotations__, *options], loss.name, tables))
        elif not isinstance(values, list) or not values or None in values or len(set(map(str, values))) < len(values):
            problems.append(Problem(path, registry.show(values), "a list of numbers, none of them twice"))
        else:
            for place, value in enumerate(values):
                entry = {"name": loss.name, **loss.options, options[key]: value}
                found = registry.check("loss", tables.losses, entry)[1]
                problems += [replace(problem, path=(*path, place)) for problem in found]
    return problems


def check(data: dict[str, Any], tables: Tables) -> tuple[Config | None, list[Problem]]:
    """Plain data as a config.

    Args:
        data: as the YAML has it, paths absolute; it is changed.

    Returns:
        The config and no problem, or None and every problem.
    """
    problems = _unknown_names(data, tables) + _fill_entries(data, tables)
    wrong_loss = any(problem.path[0] == "loss" for problem in problems)  # of which the stand-in says nothing
    problems += _unknown_stage(data, tables) + ([] if wrong_loss else _tuned_options(data, tables))
    data.setdefault("data", {})  # so that each of its required keys is named
    config = None
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        for problem in registry.problems_of(error, _keys_at):
            path = tuple(part for part in problem.path if part not in _TAGS)
            problems.append(replace(problem, path=path))
    if not any(problem.path[0] == "transform" for problem in problems):
        transform = TransformConfig.model_validate(data.get("transform", {}))
        for problem in tables.check_transforms(transform.train, transform.views, transform.size):
            problems.append(replace(problem, path=("transform", *problem.path)))
        problems += _indivisible(data, transform.size, tables)
    said = {problem.path for problem in problems}
    if not said & {("backbone",), ("backbone", "freeze")}:
        problems += [clash for clash in _clashes(data) if not said & {clash.path, clash.path[:1]}]
    return (None if problems else config), problems


def _paths(tree: Node) -> Iterator[tuple[str, str, Node, str]]:
    """The section, key, node and absolute form of every path written in a tree."""
    for section, key in (("data", "labels"), ("data", "images"), ("backbone", "weights")):
        parent = tree.child(section)
        node = parent.child(key) if parent else None
        if node and isinstance(node.value, str) and (section == "data" or is_weight_file(node.value)):
            # not Path.resolve(): a label file that is a link keeps its neighbours
            yield section, key, node, os.path.abspath(node.at.folder / node.value)


def absent(tree: Node) -> list[Fault]:
    """Paths of a merged tree that lead nowhere; not weights that a fallback or another run of a suite stands in for."""
    backbone = tree.child("backbone")
    fallback = backbone.child("fallback") if backbone else None
    spare = "suite" in tree.children or (fallback is not None and fallback.value is not None)
    faults = []
    for section, key, node, path in _paths(tree):
        kind, there = ("folder", os.path.isdir) if key == "images" else ("file", os.path.isfile)
        if not there(path) and not (section == "backbone" and spare):
            faults.append(fault(node.at, (section, key), Problem((), path, f"a {kind} that exists")))
    return faults


def read(tree: Node, tables: Tables) -> tuple[Config | None, list[Fault]]:
    """A merged tree as a config: `check`, with relative paths resolved and every problem at its place."""
    data = tree.plain()
    for section, key, _, path in _paths(tree):
        data[section][key] = path
    config, problems = check(data, tables)
    return config, [locate(tree, problem) for problem in problems]


def _entry_schema(table: Table) -> dict[str, Any]:
    maps = []
    for name, function in table.items():
        options = registry.options_model(function).model_json_schema()["properties"]
        description = (function.__doc__ or name).splitlines()[0]
        maps.append(
            {
                "type": "object",
                "description": description,
                "properties": {"name": {"const": name}, **options},
                "additionalProperties": False,
            }
        )
    return {"anyOf": [{"enum": list(table)}, *maps]}


def _relax(schema: Any) -> Any:
    """Nothing is required of one file, for `extends` may supply it; a map may then fit several alternatives."""
    if isinstance(schema, list):
        return [_relax(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if not (key == "required" and isinstance(value, list))}
    return {("anyOf" if key == "oneOf" else key): _relax(value) for key, value in kept.items()}


def json_schema(tables: Tables) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of one config file, for editors; looser than `check` between fields."""
    schema = _relax(Config.model_json_schema())
    definitions = schema["$defs"]
    for path, (_, table) in ENTRIES.items():
        properties = definitions["TrainConfig"]["properties"] if path[0] == "train" else schema["properties"]
        properties[path[-1]] = _entry_schema(getattr(tables, table))
    definitions["DataConfig"]["properties"]["importer"] = {"enum": ["auto", *tables.importers]}
    definitions["SuiteSection"] = _relax(SuiteSection.model_json_schema())
    schema["properties"]["suite"] = {"$ref": "#/$defs/SuiteSection"}
    text = {"type": "string"}
    schema["properties"]["extends"] = {"anyOf": [text, {"type": "array", "items": text}]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "aimonk-bench config"}
