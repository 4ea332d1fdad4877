"""A merged tree as a checked config: names are looked up, fields and rules checked, problems put in their places."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from aimonk_bench import registry
from aimonk_bench.config import rules, tuned
from aimonk_bench.config.faults import Fault, fault, placed
from aimonk_bench.config.fields import (
    BY_ATTRIBUTE,
    ENTRIES,
    SECTIONS,
    TRAINABLE_LAYERS,
    UNION_TAGS,
    BackboneConfig,
    Config,
    TrainConfig,
    TransformConfig,
    bare_name,
    is_weight_file,
    train_default,
)
from aimonk_bench.config.nodes import Node, locate
from aimonk_bench.config.tables import Tables
from aimonk_bench.plugins import Origin, Plugin
from aimonk_bench.registry import Problem, Spec
from aimonk_bench.remote import URL, RemotePath, path_of

NATIVE = "native"  # a value of transform.size
AUTO = "auto"  # a value of the keys of `TRAINABLE_LAYERS` in train
MADE = re.compile(r".*[/\\]\.data[/\\](elpv|synthetic)(?=[/\\])")  # data sets that `aimonk-bench data` makes
ELSEWHERE = {  # a key of a section, or what others call a key -> the key
    **{
        key: f"{part}.{key}"
        for part in ("hide", "data", "backbone", "transform", "train", "plot", "run")
        for key in SECTIONS[part].model_fields
    },
    **{"learning_rate": "train.lr", "seed": "train.seeds", "model": "backbone", "augment": "transform"},
}


def read(
    tree: Node,
    tables: Tables,
    settled: tuned.Settled,
    written_at: Callable[[registry.Path], registry.Path] = lambda path: path,
) -> tuple[Config | None, list[Fault]]:
    """A merged tree as a config: `check`, with relative paths resolved and every problem at its place.

    Args:
        settled: the keys that leave an inherited grid.
        written_at: the key under which the user wrote what the tree has under a key.
    """
    data = tree.plain()
    for section, key, _, path in _paths(tree):
        data[section][key] = path
    config, problems = check(data, tables, settled)
    if config is not None and config.threshold.attributes:  # their names are checked when the labels are read
        threshold = replace(config.threshold, places=_places(tree, config.threshold))
        config = config.model_copy(update={"threshold": threshold})
    return config, [
        placed(locate(tree, problem).at, replace(problem, path=written_at(problem.path))) for problem in problems
    ]


def _places(tree: Node, threshold: Spec) -> dict[str, str]:
    """Attribute with a threshold policy of its own -> where that is written, as a message begins."""
    places = {}
    for attribute in threshold.attributes:
        node = tree.find(("threshold", registry.FOR, attribute))
        assert node is not None
        at = node.key or node.at
        places[attribute] = f"{at}: threshold.{registry.FOR}.{attribute}" if at.line else str(at)
    return places


def check(
    data: dict[str, Any], tables: Tables, settled: tuned.Settled = tuned.NOTHING
) -> tuple[Config | None, list[Problem]]:
    """Plain data as a config.

    Args:
        data: as the YAML has it, paths absolute; it is changed.
        settled: the keys that leave an inherited grid.

    Returns:
        The config and no problem; or None and every problem of the fields, or, if they are valid, of the rules.
    """
    if tables.plugins:
        data["plugins"] = list(tables.plugins)
    problems = [] if tables.named else _unknown_names(data, tables)
    tuned.fill(data, settled)
    if tables.named:
        tables = _with_named(data, tables, tables.named)
    _fill_budget(data)
    problems += _fill_native_size(data, tables, backbone_exists=not problems) + _fill_entries(data, tables)
    data.setdefault("data", {})  # so that each of its required keys is named
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        for problem in registry.problems_of(error, _keys_at):
            path = tuple(part for part in problem.path if part not in UNION_TAGS)
            known_as = ELSEWHERE.get(str(path[-1]).lower()) if problem.on_key else None
            problems.append(replace(problem, path=path, suggestion=problem.suggestion or known_as))
        return None, problems
    problems = problems if problems or tables.named else rules.problems(config, tables)
    return (None if problems else config), problems


def _keys_at(path: registry.Path) -> Sequence[str]:
    """The keys of the section that a path of a pydantic error leads to: its key or union tag stands in the path."""
    model = next((SECTIONS[key] for part in reversed(path) if (key := str(part).lower()) in SECTIONS), None)
    return list(model.model_fields) if model else [*Config.model_fields, "extends", "suite"]


def _fill_entries(data: dict[str, Any], tables: Tables) -> list[Problem]:
    """Replace every entry named in ``data``, or the default, by its complete Spec; a bad one by the default."""
    problems = []
    for (*parents, key), (kind, table) in ENTRIES.items():
        section, fields = (data.setdefault("train", {}), TrainConfig) if parents else (data, Config)
        if not isinstance(section, dict):
            continue  # pydantic reports it
        default: Spec = fields.model_fields[key].default
        check = registry.check_by_attribute if (*parents, key) in BY_ATTRIBUTE else registry.check
        spec, wrong = check(kind, getattr(tables, table), section.get(key, default.name))
        problems += [replace(problem, path=(*parents, key, *problem.path)) for problem in wrong]
        section[key] = _with_origin(spec or default, tables.origins.get(table, {}))
    return problems


def _with_named(data: dict[str, Any], tables: Tables, plugin: Plugin) -> Tables:
    """Tables with the entries that plain data takes from a plug-in that is only named, with the options written there.

    A tuned option, which is not written, gets the first of its values.
    """
    grid = data["tune"] if isinstance(data["tune"], dict) else {}
    joined: dict[str, Any] = {}
    origins: dict[str, dict[str, Origin]] = {}
    for (key, *rest), (_, field) in ENTRIES.items():
        written, table = ([] if rest else _written(data.get(key))), getattr(tables, field)
        first = {name.partition(".")[2]: values[0] for name, values in grid.items() if name.startswith(f"{key}.")}
        for name, options in written:
            if name not in table:
                joined[field] = {**joined.get(field, table), name: registry.stand_in(name, first | options)}
                origins.setdefault(field, {})[name] = Origin(plugin, field.upper())
    return replace(tables, **joined, origins=origins)


def _written(value: Any) -> list[tuple[str, dict[str, Any]]]:
    """The entries that a value names, for all attributes and for single ones, each with its options."""
    if isinstance(value, str):
        return [(value, {})]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return []  # reported elsewhere
    by_attribute = value.get(registry.FOR)
    options = {key: item for key, item in value.items() if key not in ("name", registry.FOR)}
    others = by_attribute.values() if isinstance(by_attribute, dict) else ()
    return [(value["name"], options), *(entry for other in others for entry in _written(other))]


def _with_origin(spec: Spec, origins: Mapping[str, Origin]) -> Spec:
    """The entry, and those of single attributes, with the plug-ins that have them."""
    if not origins:
        return spec
    attributes = {attribute: _with_origin(other, origins) for attribute, other in spec.attributes.items()}
    return replace(spec, origin=origins.get(spec.name), attributes=attributes)


def _fill_budget(data: dict[str, Any]) -> None:
    """Put in the defaults of the keys of `TRAINABLE_LAYERS` where the section `train` says `auto` or nothing."""
    train = data.setdefault("train", {})
    if isinstance(train, dict):
        for key in TRAINABLE_LAYERS:
            if train.get(key, AUTO) == AUTO:
                train[key] = train_default(key, tuned.freeze_of(data))


def _fill_native_size(data: dict[str, Any], tables: Tables, *, backbone_exists: bool) -> list[Problem]:
    """Replace ``size: native`` by the number of pixels; by the default where the backbone has no such number."""
    transform = data.get("transform")
    if not isinstance(transform, dict) or transform.get("size") != NATIVE:
        return []
    transform["size"] = TransformConfig.model_fields["size"].default
    backbone = bare_name(data.get("backbone", {}))
    name = backbone.get("name", BackboneConfig().name) if isinstance(backbone, dict) else None
    if not isinstance(name, str) or not backbone_exists:
        return []  # reported elsewhere
    size = tables.native_size(name)
    if size is None:
        expected = f"a number of pixels, because {name} was not trained on square images of one size"
        return [Problem(("transform", "size"), NATIVE, expected)]
    transform["size"] = size
    return []


def _unknown_names(data: dict[str, Any], tables: Tables) -> list[Problem]:
    """Importers and backbones that do not exist; pydantic reports a value of another type."""
    importers, backbones = ["auto", *tables.importers], list(tables.backbones)
    any_backbone = "a name from `aimonk-bench list backbones`, or another timm name"
    problems = []
    for section, key, kind, choices, expected in (
        ("data", "importer", "importer", importers, "one of " + ", ".join(importers)),
        ("backbone", "name", "backbone", backbones, any_backbone),
        ("backbone", "fallback", "backbone", backbones, any_backbone),
    ):
        values = bare_name(data.get(section))
        name = values.get(key) if isinstance(values, dict) else None
        if not isinstance(name, str) or name in choices or (kind == "backbone" and tables.known_backbone(name)):
            continue
        near = registry.nearest(name, choices)
        problems.append(Problem((section, key), f"unknown {kind} {name!r}", expected, near))
    return problems


def absent(tree: Node) -> list[Fault]:
    """Paths of a merged tree that lead nowhere.

    Weights may be absent where a fallback is declared, and in a suite, where the run that needs them fails alone.
    """
    fallback = tree.find(("backbone", "fallback"))
    replaceable = "suite" in tree.children or (fallback is not None and fallback.value is not None)
    faults = []
    for section, key, node, path in _paths(tree):
        kind, exists = ("folder", os.path.isdir) if key == "images" else ("file", os.path.isfile)
        reached = path_of(path)
        try:
            if isinstance(reached, RemotePath):
                lacking = not (reached.is_dir() if key == "images" else reached.is_file())
            else:
                lacking = not exists(reached)
        except OSError as error:  # of a URL
            faults.append(fault(node.at, (section, key), path, f"a {kind} that can be reached ({error})"))
            continue
        if lacking and not (section == "backbone" and replaceable):
            remedy = ", `weights: imagenet`, package:NAME, or none (untrained)" if section == "backbone" else ""
            if made := MADE.match(path):
                remedy = f"; `aimonk-bench data {made[1]} {os.path.relpath(made[0])}` makes it"
            faults.append(fault(node.at, (section, key), path, f"a {kind} that exists{remedy}"))
    return faults


def _paths(tree: Node) -> Iterator[tuple[str, str, Node, str]]:
    """The section, key, node and absolute form of every path written in a tree."""
    data_keys = ("labels", "images", "truth", "image_names", "tag_names")
    for section, key in (*(("data", key) for key in data_keys), ("backbone", "weights")):
        node = tree.find((section, key))
        if node and isinstance(node.value, str) and (section == "data" or is_weight_file(node.value)):
            # not Path.resolve(), which would replace a link by what it points to
            is_url = section == "data" and URL.match(node.value)
            yield section, key, node, node.value if is_url else os.path.abspath(node.at.folder / node.value)
