"""The rules of the house that no other tool checks: no import cycles, short modules, few parameters.

That a room imports only rooms that stand earlier is checked by import-linter (``pyproject.toml``).
"""

from __future__ import annotations

import ast
import dataclasses
import graphlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import grimp

import aimonk_bench
from aimonk_bench.tables import TABLES

PACKAGE = Path(aimonk_bench.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES, MOST_PARAMETERS = 400, 8
REGISTRIES = [getattr(TABLES, field.name) for field in dataclasses.fields(TABLES)]


def import_cycle(imports: Mapping[str, set[str]]) -> list[str]:
    """A chain of modules of which each imports the next and the last is the first; empty if there is none.

    Args:
        imports: module -> modules that it imports.
    """
    try:
        graphlib.TopologicalSorter({module: names - {module} for module, names in imports.items()}).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def functions(module: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function and method of a module, with "room/module.py function" as its name."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{module.relative_to(PACKAGE)} {node.name}", node


def entry_name(entry: Callable[..., object]) -> str:
    """The name of a registry entry, as `functions` spells it."""
    code = entry.__code__
    return f"{Path(code.co_filename).relative_to(PACKAGE)} {code.co_name}"


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef, *, options: bool) -> list[str]:
    """The parameters of a function without `self`; without keyword-only ones where those are ``options``."""
    declared = [*function.args.posonlyargs, *function.args.args, *([] if options else function.args.kwonlyargs)]
    return [argument.arg for argument in declared if argument.arg not in ("self", "cls")]


def test_an_import_cycle_is_recognised():
    assert set(import_cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}
    assert import_cycle({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_modules_do_not_import_each_other_in_a_circle():
    """Neither at the top of a module, nor inside a function, nor for type hints alone."""
    graph = grimp.build_graph("aimonk_bench", cache_dir=None)
    assert import_cycle({module: graph.find_modules_directly_imported_by(module) for module in graph.modules}) == []


def test_no_module_is_longer_than_400_lines():
    lengths = {str(module.relative_to(PACKAGE)): len(module.read_text("utf-8").splitlines()) for module in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_function_has_more_than_8_parameters():
    """The options of a registry entry are not counted: they are the schema of the YAML."""
    entries = {
        entry_name(entry)
        for table in REGISTRIES
        if isinstance(table, Mapping)
        for entry in table.values()
        if hasattr(entry, "__code__")
    }
    assert entries
    long = {
        name
        for module in MODULES
        for name, function in functions(module)
        if len(parameters(function, options=name in entries)) > MOST_PARAMETERS
    }
    assert long == set()
