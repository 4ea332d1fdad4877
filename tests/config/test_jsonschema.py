"""The JSON Schema of the YAML files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_tables import SUITE, TABLES

from aimonk_bench.config import nodes
from aimonk_bench.config.faults import Place
from aimonk_bench.config.fields import ENTRIES
from aimonk_bench.config.jsonschema import json_schema

REPOSITORY = Path(__file__).parents[2]


def accepts(rule: Any, value: Any, root: dict[str, Any]) -> bool:
    """The few keywords of JSON schema that json_schema uses."""
    if isinstance(rule, bool):
        return rule
    if "$ref" in rule:
        return accepts(root["$defs"][rule["$ref"].rsplit("/", 1)[1]], value, root)
    if "anyOf" in rule and not any(accepts(other, value, root) for other in rule["anyOf"]):
        return False
    if ("enum" in rule and value not in rule["enum"]) or ("const" in rule and value != rule["const"]):
        return False
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "null": type(None)}
    kinds["boolean"] = bool
    if "type" in rule and not isinstance(value, kinds[rule["type"]]):
        return False
    if isinstance(value, dict):
        declared, rest = rule.get("properties", {}), rule.get("additionalProperties", {})
        return all(accepts(declared.get(key, rest), item, root) for key, item in value.items()) and not {
            *rule.get("required", [])
        } - {*value}
    if isinstance(value, list):
        return all(accepts(rule.get("items", {}), item, root) for item in value)
    return True


def as_data(file: Path) -> Any:
    return nodes.parse(file.read_text(), Place("", 1, 1, file.parent), []).plain()


@pytest.mark.parametrize("file", sorted((REPOSITORY / "configs").rglob("*.yaml")), ids=lambda file: file.name)
def test_the_json_schema_knows_every_key_of_the_shipped_configs(file):
    rules = json_schema(TABLES)
    data = as_data(file)
    for key in ENTRIES:  # the real tables are wider than these
        section = data if len(key) == 1 else data.get("train", {})
        section.pop(key[-1], None)
    assert accepts(rules, data, rules)


def test_a_suite_may_be_null_in_the_json_schema():
    rules = json_schema(TABLES)
    assert accepts(rules, {"suite": None}, rules)
    assert not accepts(rules, {"suite": 1}, rules)


def test_the_json_schema_knows_the_policies_of_attributes():
    rules = json_schema(TABLES)
    for entry, right in (
        ("fixed", True),
        ({"name": "fixed"}, True),
        ("fixd", False),
        ({"name": "fixed", "k": 1}, False),
    ):
        assert accepts(rules, {"threshold": {"name": "fixed", "for": {"a": entry}}}, rules) == right
        assert not accepts(rules, {"loss": {"name": "masked_bce", "for": {"a": entry}}}, rules)


def test_the_json_schema_refuses_what_the_loader_refuses(write):
    rules = json_schema(TABLES)
    json.dumps(rules)
    assert accepts(rules, as_data(write("s.yaml", SUITE)), rules)
    for good in (
        {"loss": "focal"},
        {"loss": {"name": "focal", "gamma": 1}},
        {"loss": {"gamma": 1}},
        {"train": {"optimizer": {"name": "sgd", "momentum": 0.9}, "seeds": [1], "clip": None}},
        {"split": {"scheme": "holdout", "test": 0.2}},
        {"split": {"val": 0.2}},
        {"backbone": "resnet50"},
        {"transform": {"views": 4}},
        {"extends": ["a.yaml"]},
        {"data": {"values": {"positive": ["y"]}}},
        {"data": {"values": {"a": {"positive": ["y"]}}}},
        {"hide": None},
        {"hide": {"mechanism": "score", "fraction": 0.3}},
        {"calibration": "platt"},
    ):
        assert accepts(rules, good, rules), good
    for bad in (
        {"los": "focal"},
        {"loss": "foacl"},
        {"loss": {"name": "focal", "gama": 1}},
        {"loss": {"name": "masked_bce", "gamma": 1}},
        {"train": {"optimizer": "sdg"}},
        {"train": {"lr": "fast"}},
        {"split": {"scheme": "holdout", "folds": 2}},
        {"data": {"importer": "cvs"}},
        {"suite": {"axis": {}}},
        {"hide": {"mechanism": "all"}},
        {"hide": {"rate": 0.3}},
    ):
        assert not accepts(rules, bad, rules), bad
