"""The JSON Schema of the YAML files, by which editors complete keys and check values."""

from __future__ import annotations

from typing import Any

from aimonk_bench import registry
from aimonk_bench.config.fields import BY_ATTRIBUTE, ENTRIES, TUNED_TRAIN_OPTIONS, Config, SuiteSection
from aimonk_bench.config.tables import Tables
from aimonk_bench.registry import Table


def json_schema(tables: Tables) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one config file; it does not know the rules between fields."""
    schema = _relaxed(Config.model_json_schema())
    properties, definitions = schema["properties"], schema["$defs"]
    for path, (_, table) in ENTRIES.items():
        section = definitions["TrainConfig"]["properties"] if path[0] == "train" else properties
        section[path[-1]] = _entry(getattr(tables, table), by_attribute=path in BY_ATTRIBUTE)
    definitions["DataConfig"]["properties"]["importer"] = {"enum": ["auto", *tables.importers]}
    grid = next(form for form in properties["tune"]["anyOf"] if form.get("type") == "object")
    options = sorted({f"loss.{key}" for loss in tables.losses.values() for key in registry.numeric_options(loss)})
    values = grid["additionalProperties"]
    grid |= {"properties": dict.fromkeys([*TUNED_TRAIN_OPTIONS, *options], values), "additionalProperties": False}
    definitions["SuiteSection"] = _relaxed(SuiteSection.model_json_schema())
    properties["suite"] = {"anyOf": [{"$ref": "#/$defs/SuiteSection"}, {"type": "null"}]}
    text = {"type": "string"}
    properties["extends"] = {"anyOf": [text, {"type": "array", "items": text}]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "aimonk-bench config"}


def _entry(table: Table, *, by_attribute: bool = False) -> dict[str, Any]:
    """A name from a table, or a map of a name and the options of that entry.

    Args:
        by_attribute: the map may name other entries for single attributes.
    """
    others = {registry.FOR: {"type": "object", "additionalProperties": _entry(table)}} if by_attribute else {}
    maps = []
    for name, function in table.items():
        options = registry.options_model(function).model_json_schema()["properties"]
        description = (function.__doc__ or name).splitlines()[0]
        maps.append(
            {
                "type": "object",
                "description": description,
                "properties": {"name": {"const": name}, **options, **others},
                "additionalProperties": False,
            }
        )
    return {"anyOf": [{"enum": list(table)}, *maps]}


def _relaxed(schema: Any) -> Any:
    """Require no key of one file, because `extends` may supply it; a map may then fit several alternatives."""
    if isinstance(schema, list):
        return [_relaxed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    items = {key: value for key, value in schema.items() if not (key == "required" and isinstance(value, list))}
    return {("anyOf" if key == "oneOf" else key): _relaxed(value) for key, value in items.items()}
