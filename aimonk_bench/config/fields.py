"""The sections of a config as typed, frozen data: every field with its default and its range.

What a field may be beside another field, `rules` says.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    InstanceOf,
    PlainSerializer,
    Tag,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from aimonk_bench.config.run_fields import RunConfig
from aimonk_bench.config.section import Fraction, Section, Seed, distinct, matching
from aimonk_bench.config.split_fields import SPLIT_TAGS, Group, KFold, SplitConfig
from aimonk_bench.plugins import Plugin
from aimonk_bench.registry import Spec
from aimonk_bench.remote import URL, path_of

MAX_SEEDS = 1000
MAX_NAME = 240  # bytes of `name`; file systems allow names of 255
MAX_SIZE = 4096


# Users read a ValueError raised below as "found VALUE, expected MESSAGE".


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


def _keep_weights(value: Any) -> Any:
    if value == "auto" or isinstance(value, bool):
        return value
    raise ValueError("true, false or auto")


def _size(value: Any) -> Any:
    if type(value) is int:
        return value
    raise ValueError(f"native, or a whole number of pixels from 1 to {MAX_SIZE}")


def _or_auto(types: tuple[type, ...], expected: str, schema: Any) -> BeforeValidator:
    """For a field whose value in a file may be `auto`, which `reader` has replaced by then."""

    def check(value: Any) -> Any:
        if type(value) in types:
            return value
        raise ValueError(f"auto, {expected}")

    return BeforeValidator(check, json_schema_input_type=Literal["auto"] | schema)


def _grid(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    raise ValueError("default, {}, or a map of keys and lists of values")


def unusable_attribute(name: str) -> str | None:
    """Why an attribute cannot have this name; None if it can."""
    if name == "macro":
        return "named 'macro', which is the name of the average over attributes"
    if not name.strip():
        return "without a name"
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name):
        return f"named {name!r}, which is not printable"
    return None


def _attributes(names: Any) -> Any:
    """A list or a map whose items or keys can be names of attributes."""
    if problem := next(filter(None, map(unusable_attribute, names)), None):
        raise ValueError(f"no attribute {problem}")
    return names


def number_of(token: str) -> float | None:
    """The number that a token writes (``1``, ``-1.0``, ``1e3``); None if it writes none, such as ``nan``."""
    return float(token) if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", token, re.ASCII) else None


def value_of(token: str) -> str | float:
    """What tokens of a label file are compared by: numbers by value, so that ``1.0`` is ``1``, others as written."""
    number = number_of(token)
    return token if number is None else number


def _encoding(name: str) -> str:
    """The name of an encoding of text that Python knows."""
    try:
        " ".encode(name)
    except (LookupError, ValueError) as error:
        raise ValueError("an encoding such as utf-8, utf-16, cp1252, latin-1 or gb18030") from error
    return name


def _short(name: str) -> str:
    if len(name.encode()) > MAX_NAME:
        raise ValueError(f"a name of at most {MAX_NAME} bytes, because it names a folder")
    return name


def is_weight_file(weights: str) -> bool:
    """Whether ``backbone.weights`` is a path, rather than a keyword or an installed package.

    What a file holds decides how it is read, so any suffix will do; text without ``.`` or ``/`` is a keyword.
    """
    return re.search(r"[./\\]", weights) is not None and not weights.startswith("package:")


def bare_name(value: Any) -> Any:
    """The map that a bare name is short for."""
    return {"name": value} if isinstance(value, str) else value


def _values_form(value: Any) -> str:
    """Whether ``data.values`` is one map of token lists or a map of such maps."""
    inner = value.values() if isinstance(value, Mapping) else ()
    return "PerAttribute" if any(isinstance(item, Mapping | Values) for item in inner) else "Values"


def _path(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if URL.match(value) and not value.startswith("file://"):
        rest = URL.sub("", value, count=1)
        if "::" in rest or "//" in rest or rest.startswith("/"):  # a path would become another one
            raise ValueError("a URL of one file system without empty parts, such as s3://bucket/images")
    return path_of(value)


Natural = Annotated[int, Field(ge=1)]
Decay = Annotated[float, Field(ge=0)]
Averaging = Literal["polynomial", "none"]
AUTO_DEFAULT = Field(json_schema_extra={"default": "auto"})
AutoNatural = Annotated[Natural, _or_auto((int,), "or a whole number of at least 1", Natural), AUTO_DEFAULT]
AutoDecay = Annotated[Decay, _or_auto((int, float), "or a number of at least 0", Decay), AUTO_DEFAULT]
AutoAveraging = Annotated[Averaging, _or_auto((str,), "polynomial or none", Averaging), AUTO_DEFAULT]
PathField = Annotated[Path, Field(strict=False), BeforeValidator(_path, json_schema_input_type=Path)]
DistinctTexts = Annotated[list[str], AfterValidator(distinct)]
Unavailable = Literal["fail", "skip"]
Pixels = Annotated[int, Field(ge=1, le=MAX_SIZE)]
Mechanism = Literal["random", "per_class", "positives", "score"]
Weights = matching(
    r"imagenet|none|package:.+|.*[./\\].*",
    "imagenet, none, package:NAME, or a file (./NAME where its name has no dot)",
)
Stage = matching(r"[A-Za-z_]\w*(\.\w+)*", "all, none or a stage of the backbone, such as layer4 or blocks.3")
Device = matching(r"auto|cpu|mps|cuda(:\d+)?", "auto, cpu, cuda, cuda:N or mps")
FolderName = matching(r"(?!\.{1,2}$)(?=.*\S)[^/\\\x00-\x1f]+", "a name that can be a folder's")
Separator = matching(r"[^\w\"\r\n]", 'one character, such as ",", ";" or "\\t"; " " is any white space')
PluginEntry = Annotated[
    InstanceOf[Plugin], PlainSerializer(lambda plugin: plugin.source), WithJsonSchema({"type": "string"})
]
Entry = Annotated[InstanceOf[Spec], PlainSerializer(Spec.plain), WithJsonSchema({})]  # `jsonschema` fills it in


class Values(Section):
    """The tokens of a label file that mean positive, negative and missing; numbers are compared by value."""

    positive: Annotated[DistinctTexts, Field(min_length=1)] = ["1"]
    negative: Annotated[DistinctTexts, Field(min_length=1, validate_default=True)] = ["0"]
    missing: Annotated[DistinctTexts, Field(validate_default=True)] = ["NA", ""]

    @field_validator("negative", "missing")
    @classmethod
    def _one_meaning(cls, tokens: list[str], info: ValidationInfo) -> list[str]:
        for other, taken in info.data.items():
            values = {value_of(token) for token in taken}
            if shared := [token for token in tokens if value_of(token) in values]:
                raise ValueError(f"no token that {other!r} holds ({', '.join(map(repr, shared))})")
        return tokens


class Certainty(Section):
    """The column of a long table that says how sure a label is, and at which of its tokens the label is missing."""

    column: str
    missing: Annotated[DistinctTexts, Field(min_length=1)]


class DataConfig(Section):
    """The label file, the image folder and how to read them.

    ``truth`` is a file of the same format that states what missing or wrong labels should have been.
    """

    labels: PathField
    images: PathField
    truth: PathField | None = None
    importer: str = "auto"
    separator: Annotated[str, Separator] | None = None
    header: bool | None = None
    encoding: Annotated[str, AfterValidator(_encoding)] | None = None
    id: str | None = None
    suffix: (
        Annotated[str, matching(r"[^/\\]*\.[^/\\.\s]+", "the suffix of the image files with its dot, such as .jpg")]
        | None
    ) = None
    white: Annotated[int, Field(ge=1, le=65535)] | None = None
    group: Group | None = None
    attributes: Annotated[DistinctTexts, Field(min_length=1), AfterValidator(_attributes)] | None = None
    values: Annotated[
        Annotated[Values, Tag("Values")]
        | Annotated[dict[str, Values], AfterValidator(_attributes), Tag("PerAttribute")],
        Discriminator(_values_form),
    ] = Values()
    tags: str | None = None
    tag_separator: Annotated[str, Field(min_length=1)] | None = None
    other_tags: Literal["error", "ignore"] = "error"
    value: str | None = None
    certainty: Certainty | None = None
    image_names: PathField | None = None
    tag_names: PathField | None = None
    ignore: Annotated[DistinctTexts, Field(min_length=1)] | None = None
    duplicates: Literal["error", "any_positive", "agree_or_missing"] = "error"
    absent: Literal["negative", "missing"] | None = None
    on_bad_image: Literal["error", "skip"] = "error"


class BackboneConfig(Section):
    """The network, where its weights come from, and how many of its layers are frozen."""

    name: str = "resnet18"
    weights: Annotated[str, Weights] = "imagenet"
    freeze: Annotated[str, Stage] = "all"
    fallback: str | None = None
    engine: Literal["auto", "torch", "onnxruntime"] = "auto"
    dtype: Literal["float32", "float16"] = "float32"


class TransformConfig(Section):
    """The size of images, and the augmentations of training images.

    A file may say ``size: native``, the size of the images that the backbone was trained on; `reader` puts in the
    number.
    """

    size: Annotated[Pixels, BeforeValidator(_size, json_schema_input_type=Literal["native"] | Pixels)] = 224
    train: list[Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=1)]] = [
        {"HorizontalFlip": {"p": 0.5}}
    ]
    views: Annotated[Literal["exact", "fresh"] | int, BeforeValidator(_views)] = "exact"
    decode: Literal["full", "fast"] = "full"


class TrainConfig(Section):
    """How heads and trainable layers are trained, and whether trained networks are kept.

    ``keep_weights`` says whether a fine-tuned run keeps a network for each fold and seed; `auto` keeps them in a
    hold-out and not with folds. It enters no id and is no axis of a suite.

    A file may say `auto` for the keys of `TRAINABLE_LAYERS`: `train_default` of the run, which `reader` puts in; those
    of heads were found by a study (``experiments/published/budget``). ``order`` is how the sampler `uniform` goes
    through the training rows: `shuffle` draws from all rows, `blocks` from a few blocks of the feature store at a time,
    for stores that do not fit into memory.
    """

    optimizer: Entry = Spec("adam")
    lr: Annotated[float, Field(gt=0)] = 1e-3
    backbone_lr: Annotated[float, Field(gt=0)] | None = None
    weight_decay: AutoDecay = 3e-3
    bias_init: Literal["best_constant", "uniform"] = "best_constant"
    batch_size: AutoNatural = 64
    accumulate: Natural = 1
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    order: Literal["shuffle", "blocks"] = "shuffle"
    epochs: AutoNatural = 50
    schedule: Entry = Spec("constant")
    averaging: AutoAveraging = "polynomial"
    clip: Annotated[float, Field(gt=0)] | None = None
    seeds: Annotated[
        list[Seed], AfterValidator(distinct), BeforeValidator(_seeds, json_schema_input_type=int | list[int])
    ] = [0, 1, 2, 3, 4]
    select: Literal["last", "loss", "f1_default", "average_precision", "roc_auc"] = "last"
    patience: Natural | None = None
    device: Annotated[str, Device] = "auto"
    keep_weights: Annotated[Literal["auto"] | bool, BeforeValidator(_keep_weights)] = "auto"


TRAINABLE_OPTIONS = ("backbone_lr", "accumulate", "precision")  # of train, for trainable layers only

Tune = dict[str, Annotated[list[float], Field(min_length=1), AfterValidator(distinct)]]
TUNED_TRAIN_OPTIONS = ("train.lr", "train.weight_decay")  # keys of tune; the others are numeric options of the loss
DEFAULT_GRID = {"train.lr": [3e-3, 1e-2]}
TRAINABLE_LAYERS: dict[str, float | str] = {"epochs": 10, "batch_size": 16, "weight_decay": 0.0, "averaging": "none"}


def train_default(key: str, freeze: str) -> Any:
    """The default of a key of ``train`` beside this ``backbone.freeze``."""
    default = TrainConfig.model_fields[key].default
    return default if freeze == "all" else TRAINABLE_LAYERS.get(key, default)


class HideConfig(Section):
    """Observed labels to hide from training: by which mechanism, how many, and whether from validation too."""

    mechanism: Mechanism
    fraction: Fraction = 0.5
    rows: Literal["train_val", "train"] = "train_val"
    seed: Seed = 0

    def __str__(self) -> str:
        """As the names of runs show it: ``random(fraction=0.5)``."""
        changed = {name: getattr(self, name) for name in ("rows", "seed")}
        shown = [f"{name}={value}" for name, value in changed.items() if value != HideConfig.model_fields[name].default]
        return f"{self.mechanism}({', '.join([f'fraction={self.fraction}', *shown])})"


class PlotConfig(Section):
    """The loss curve."""

    title: str = "Aimonk_multilabel_problem"


class Config(Section):
    """One experiment, complete: every path absolute, every option of every entry filled in."""

    name: Annotated[str, FolderName, AfterValidator(_short)]
    plugins: list[PluginEntry] = []  # `config.plugins` reads what a file has under this key
    data: DataConfig
    hide: HideConfig | None = None
    split: SplitConfig = KFold()
    backbone: Annotated[BackboneConfig, BeforeValidator(bare_name, json_schema_input_type=str | BackboneConfig)] = (
        BackboneConfig()
    )
    transform: TransformConfig = TransformConfig()
    loss: Entry = Spec("masked_bce")
    missing: Entry = Spec("ignore")
    sampler: Entry = Spec("uniform")
    train: TrainConfig = TrainConfig()
    tune: Annotated[
        Tune,
        BeforeValidator(_grid, json_schema_input_type=Literal["default"] | Tune),
        Field(
            description="Values among which every head chooses on its own validation rows; each step along a list must "
            "gain .005 of the score. They replace the value of the same key of train, or, with a key such as "
            "`loss.gamma`, that option of the loss. `default` is a grid of learning rates, and no grid unless "
            "backbone.freeze is all.",
            json_schema_extra={"default": "default"},
        ),
    ] = {}
    threshold: Entry = Spec("per_attribute_f1")
    calibration: Literal["none", "platt"] = "none"
    plot: PlotConfig = PlotConfig()
    run: RunConfig = RunConfig()


class SuiteSection(Section):
    """The ``suite`` map: what varies, which run the others are compared with, and which combinations are left out.

    ``unavailable`` is what becomes of a run whose weights cannot be had: it fails, or is skipped, which is no failure.
    """

    baseline: dict[str, Any]
    axes: Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)]
    exclude: list[Annotated[dict[str, Any], Field(min_length=1)]] = []
    unavailable: Unavailable = "fail"


ENTRIES: dict[tuple[str, ...], tuple[str, str]] = {  # key that names an entry -> (what messages call it, its table)
    ("loss",): ("loss", "losses"),
    ("missing",): ("missing-label policy", "missing"),
    ("sampler",): ("sampler", "samplers"),
    ("threshold",): ("threshold policy", "thresholds"),
    ("train", "optimizer"): ("optimizer", "optimizers"),
    ("train", "schedule"): ("schedule", "schedules"),
}
BY_ATTRIBUTE = {("threshold",)}  # entries that may be others for single attributes
UNION_TAGS = {"Values", "PerAttribute", *SPLIT_TAGS}  # pydantic puts them into the paths of its errors
SECTIONS = {model.__name__.removesuffix("Config").lower(): model for model in Section.__subclasses__()}  # by key
