"""The entries of a plug-in: whether the program can call them, and where they are written."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from aimonk_bench import plugins, registry
from aimonk_bench.config.faults import Fault, Place, fault
from aimonk_bench.config.tables import Tables
from aimonk_bench.plugins import Plugin

PACKAGE = Path(__file__).parents[1]
NAME = r"\w[\w.-]*"
COUNTS = ("positives", "negatives")
Entries = dict[str, dict[str, Any]]  # table -> name -> entry


@dataclass(frozen=True)
class Contract:
    """How the functions of a table are called.

    Attributes:
        field: the table, in `Tables`.
        data: what is handed over by position.
        further: what is handed over by name, to a function that has such a parameter.
    """

    field: str
    data: tuple[str, ...] = ()
    further: tuple[str, ...] = ()


CONTRACTS = {
    "LOSSES": Contract("losses", ("logits", "targets"), COUNTS),
    "SET_LOSSES": Contract("losses", ("logits", "targets", "weights"), COUNTS),
    "MISSING": Contract("missing", ("labels", "logits", "epoch"), (*COUNTS, "negative_loss", "teacher")),
    "SAMPLERS": Contract("samplers", ("labels", "batch_size", "steps", "rng")),
    "THRESHOLDS": Contract("thresholds", ("scores", "labels")),
    "CATALOG": Contract("backbones"),
}


def shown(source: str) -> str:
    """A plug-in as messages name it: a path below the working directory starts there."""
    relative = os.path.relpath(source) if os.path.isabs(source) else source
    return source if relative.startswith("..") else relative


def at_line(file: str, line: int) -> Place:
    """A line of a plug-in."""
    return Place(shown(file), line, 1, Path(file).parent)


@dataclass(frozen=True)
class Text:
    """The text of a plug-in, in which places are looked up; of a package that of its ``__init__.py``."""

    file: str
    tree: ast.Module

    @classmethod
    def of(cls, plugin: Plugin) -> Text:
        """Read and parse a plug-in.

        Raises:
            SyntaxError: it is no Python code.
        """
        file = Path(plugin.file)
        file = file / "__init__.py" if os.path.isdir(file) else file
        try:
            return cls(str(file), ast.parse(file.read_bytes(), str(file)))
        except SyntaxError as error:
            error.filename = error.filename or str(file)  # it has none for a NUL byte
            raise

    def at(self, node: ast.stmt | ast.expr) -> Place:
        """The place of a node."""
        return Place(shown(self.file), node.lineno, node.col_offset + 1, Path(self.file).parent)

    def place(self, table: str, name: object = None) -> Place:
        """Where a table, or the name of an entry of it, is written; the first line where the text does not say it."""
        place = at_line(self.file, 1)
        for node in self.tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == table for target in targets):
                place, value = self.at(node), getattr(node, "value", None)
                for key in value.keys if isinstance(value, ast.Dict) else ():
                    if isinstance(key, ast.Constant) and key.value == name and name is not None:
                        return self.at(key)
        return place

    def forbidden_imports(self, *, is_file: bool) -> Iterator[Fault]:
        """Imports of what lies beside a file, and of the program's own tables under their names."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                modules = [module]
            elif isinstance(node, ast.Import):
                module, modules = "", [alias.name for alias in node.names]
            else:
                continue
            for name in modules:
                if is_file and self._is_beside(name.partition(".")[0]):
                    actual = f"an import of {name}, which is no part of the plug-in"
                    expected = "all code in this file, as its bytes enter the ids of runs; or an installed package"
                    yield fault(self.at(node), (plugins.KEY,), actual, f"{expected}, named in {plugins.KEY}")
            for alias in node.names if module.startswith("aimonk_bench") else ():
                bound = "LOSSES" if alias.name == "*" else alias.asname or alias.name
                if bound in CONTRACTS:
                    expected = f"a dict that holds the plug-in's own entries alone: {bound} = {{...}}"
                    yield fault(self.at(node), (bound,), f"the program's own {alias.name}", expected)

    def _is_beside(self, module: str) -> bool:
        """Whether a module lies in the folder of the plug-in; the empty name is a relative import."""
        if module in ("aimonk_bench", *sys.stdlib_module_names):
            return False
        beside = Path(self.file).parent / module
        return not module or beside.with_suffix(".py").is_file() or (beside / "__init__.py").is_file()


def entries_of(
    text: Text, content: Mapping[str, Any], tables: Tables, taken: dict[tuple[str, str], str]
) -> tuple[Entries, list[Fault]]:
    """The entries of a plug-in, and what is wrong with them.

    Args:
        content: what the plug-in has at its top level.
        tables: of the program and of the plug-ins before it.
        taken: (field of tables, name) -> where a plug-in has an entry; receives those of this plug-in.
    """
    faults = [*_unread(text, content)]
    entries: Entries = {}
    for table, contract in CONTRACTS.items():
        if table not in content:
            continue
        of_table = content[table]
        if not isinstance(of_table, dict) or not of_table:
            actual = "an empty dict" if of_table == {} else f"a {type(of_table).__name__}"
            faults.append(fault(text.place(table), (table,), actual, "a dict of names and entries"))
            continue
        for name, value in of_table.items():
            at = text.place(table, name)
            wrong = [*_name_faults(at, table, name, tables, taken)] or [*_value_faults(at, table, name, value, tables)]
            faults += wrong
            if not wrong:
                taken[contract.field, name] = str(at)
                entries.setdefault(table, {})[name] = value
    if not any(table in content for table in CONTRACTS) and not faults:
        expected = f"a dict of entries, called {', '.join(CONTRACTS)}"
        faults.append(fault(at_line(text.file, 1), (plugins.KEY,), "a plug-in without an entry", expected))
    return entries, faults


def _unread(text: Text, content: Mapping[str, Any]) -> Iterator[Fault]:
    """Dicts in capitals with functions as values, which look like tables but are none."""
    for name, value in content.items():
        if name in CONTRACTS or not re.fullmatch("[A-Z_]+", name) or not isinstance(value, dict) or not value:
            continue
        near = registry.nearest(name, CONTRACTS)
        if near or name in ("OPTIMIZERS", "SCHEDULES", "IMPORTERS", "BACKBONES"):
            near = "CATALOG" if name == "BACKBONES" else near
            problem = registry.Problem((), f"the dict {name}", f"one of {', '.join(CONTRACTS)}", near)
            yield Fault(text.place(name), str(problem))


def _name_faults(
    at: Place, table: str, name: object, tables: Tables, taken: Mapping[tuple[str, str], str]
) -> Iterator[Fault]:
    """A name that is no name, or that another entry has."""
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        yield fault(at, (table, str(name)), registry.show(name), "a name of letters, digits, _, - and .")
        return
    contract = CONTRACTS[table]
    owner = taken.get((contract.field, name))
    if owner is None and name in (entries := getattr(tables, contract.field)):
        code = getattr(entries[name], "__code__", None)
        owner = f"the table of the program, `aimonk-bench list {contract.field}`"
        if code is not None and Path(code.co_filename).is_relative_to(PACKAGE):
            owner = f"{Path(code.co_filename).relative_to(PACKAGE.parent)}:{code.co_firstlineno}"
    if owner is not None:
        yield fault(at, (table, name), f"the name of another entry ({owner})", "a name of its own")


def _value_faults(at: Place, table: str, name: str, value: object, tables: Tables) -> Iterator[Fault]:
    """An entry that the program cannot use."""
    contract = CONTRACTS[table]
    if table == "CATALOG":
        if (problem := tables.check_backbone(value)) is not None:
            yield fault(at, (table, name), problem, "an `Entry` of aimonk_bench.backbones.catalog")
        return
    example = f"def {name.replace('-', '_').replace('.', '_')}({', '.join(contract.data)}, *, option: float = 1.0)"
    if not inspect.isfunction(value):
        actual = f"the class {value.__name__}" if inspect.isclass(value) else f"a {type(value).__name__}"
        yield fault(at, (table, name), actual, f"a plain function, such as {example}")
        return
    if inspect.iscoroutinefunction(value) or inspect.isgeneratorfunction(value):
        yield fault(at, (table, name), "a function with `yield` or `async`", f"a plain function, such as {example}")
        return
    line = at_line(value.__code__.co_filename, value.__code__.co_firstlineno)
    for actual, expected in signature_problems(value, contract):
        yield fault(line, (table, name), actual, expected)


def signature_problems(function: Callable[..., Any], contract: Contract) -> Iterator[tuple[str, str]]:
    """(what was found, what was expected) for each parameter that the program cannot hand over or read."""
    parameters = list(inspect.signature(function).parameters.values())
    by_position = [p for p in parameters if p.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)]
    count = len(contract.data)
    data = ", ".join(contract.data)
    if len(by_position) < count:
        yield f"the parameters ({', '.join(p.name for p in by_position)})", f"({data}) first"
    for parameter in by_position[count:]:
        if parameter.name not in contract.further or parameter.kind is Parameter.POSITIONAL_ONLY:
            offered = f"; data beyond ({data}) are {', '.join(contract.further)}" if contract.further else ""
            yield (
                f"the parameter {parameter.name} after ({data})",
                f"options behind a `*`, with a type: *, {parameter.name}: float = 1.0{offered}",
            )
    options = [p for p in parameters if p.kind is Parameter.KEYWORD_ONLY]
    wrong = False
    for parameter in parameters:
        if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is Parameter.VAR_POSITIONAL else "**"
            yield f"the parameter {stars}{parameter.name}", "each option by its name"
    for parameter in options:
        if parameter.name in (*contract.data, *contract.further, "name"):
            wrong = True
            place = "an option of another name" if parameter.name == "name" else f"{parameter.name} before the `*`"
            yield f"the option {parameter.name}", place
        elif parameter.annotation is Parameter.empty:
            wrong = True
            yield f"the option {parameter.name} without a type", f"a type, such as {parameter.name}: float = 1.0"
    if not wrong:
        yield from _option_problems(function)


def _option_problems(function: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """Types that say nothing to the check of options, and defaults that are not of their type or no YAML."""
    try:
        model = registry.options_model(function)
    except Exception as error:  # of typing, and of pydantic, which has no common type for them
        yield (
            f"types of options that cannot be read ({type(error).__name__}: {str(error).splitlines()[0]})",
            "types that YAML can state, such as float, int, bool, str, list[float], Literal[...]",
        )
        return
    for option, field in model.model_fields.items():
        if field.is_required():
            continue
        try:
            written = json.loads(json.dumps(field.default))
        except (TypeError, ValueError):
            yield f"the option {option} with a default that YAML cannot state", "a number, text, list or null"
            continue
        others = {name: other.default for name, other in model.model_fields.items() if not other.is_required()}
        try:
            model.model_validate({**others, option: written})
        except ValidationError as error:
            problems = registry.problems_of(error, lambda _: ())
            for problem in problems:
                if problem.path[:1] == (option,):
                    stated = "a default that YAML can state: a number, text, true, false, null, a list or a map"
                    expected = stated if problem.expected.startswith("Input") else problem.expected
                    yield f"the option {option} with the default {registry.show(field.default)}", expected
