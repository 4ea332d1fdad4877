"""The key `plugins`: the plug-ins of a config are hashed, executed and checked, and their entries join the tables."""

from __future__ import annotations

import importlib
import os
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aimonk_bench import plugins, registry
from aimonk_bench.config.faults import Fault, Place, fault, user_error
from aimonk_bench.config.nodes import Node
from aimonk_bench.config.plugin_entries import CONTRACTS, Entries, Text, at_line, entries_of, shown
from aimonk_bench.config.tables import Tables
from aimonk_bench.errors import UserError, printable, text_of
from aimonk_bench.plugins import KEY, Origin, Plugin

FLAG = "--allow-plugins"  # in Python `allow_plugins=True`
MODULE = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
MODULE_OR_FILE = "a .py file, such as my_losses.py, or an installed module, such as package.module"


def plug(tree: Node, tables: Tables, faults: list[Fault]) -> tuple[Node, Tables]:
    """The tree of a config without the plug-ins that it names, and the tables with the entries of these.

    Args:
        faults: what else is wrong with the config, for the message about plug-ins.

    Raises:
        UserError: with those faults and all that is wrong with plug-ins; or plug-ins are not allowed, and nothing was
            executed.
    """
    node = tree.child(KEY)
    if node is None:
        return tree, tables
    wrong: list[Fault] = []
    sources = _sources(node, wrong, exist=not tables.name_plugins)
    if tables.name_plugins:
        tables = replace(tables, plugins=tuple(Plugin(source, source, None) for source in sources))
    elif sources and not tables.allow_plugins:
        actual = f"code that would be executed: {', '.join(map(shown, sources))}"
        expected = f"{FLAG} on the command line (in Python allow_plugins=True), if you trust that code"
        wrong.append(fault(node.key or node.at, (KEY,), actual, expected))
    elif not wrong:
        tables = extend(tables, sources, wrong)
    if wrong:
        raise user_error([*faults, *wrong])
    return tree.without(KEY), tables


def _sources(node: Node, faults: list[Fault], *, exist: bool = True) -> dict[str, Place]:
    """Each plug-in, as the absolute path of a file or the name of a module, and where it is named.

    Args:
        exist: a file must exist.
    """
    if not isinstance(node.value, list):
        name = node.value if isinstance(node.value, str) else "my_losses.py"
        expected = f"a list of files and modules, as in {KEY}: [{name}]"
        faults.append(fault(node.at, (KEY,), registry.show(node.plain()), expected))
    sources: dict[str, Place] = {}
    for number, item in enumerate(node.items):
        path: registry.Path = (KEY, number)
        is_file = isinstance(item.value, str) and plugins.is_file(item.value)
        source = os.path.abspath(item.at.folder / str(item.value)) if is_file else str(item.value)
        if not isinstance(item.value, str) or not (is_file or re.fullmatch(MODULE, source)):
            faults.append(fault(item.at, path, registry.show(item.plain()), MODULE_OR_FILE))
        elif source in sources:
            faults.append(fault(item.at, path, f"{item.value} again", f"it once; it stands at {sources[source]}"))
        elif is_file and not (source.endswith(".py") and (os.path.isfile(source) or not exist)):
            faults.append(fault(item.at, path, source, "a .py file that exists"))
        else:
            sources[source] = item.at
    return sources


def named(sources: Sequence[str], tables: Tables) -> Tables:
    """The tables with the entries of plug-ins that the user named on the command line, which allows them.

    Raises:
        UserError: all that is wrong with them.
    """
    at, faults = Place("--plugin", 0, 0, Path.cwd()), list[Fault]()
    places = _sources(Node([Node(source, at) for source in sources], at), faults)
    tables = tables if faults else extend(tables, places, faults)
    if faults:
        raise user_error(faults)
    return tables


def extend(tables: Tables, sources: Mapping[str, Place], faults: list[Fault]) -> Tables:
    """Tables with the entries of plug-ins, which are executed.

    Args:
        sources: absolute paths of files and names of modules, and where each is named.
        faults: receives what is wrong with them.
    """
    taken: dict[tuple[str, str], str] = {}  # (field of tables, name) -> the place in the plug-in that has it
    for source, named_at in sources.items():
        plugin = None
        try:
            plugin = plugins.read(source)
            text = Text.of(plugin)
            imports = [*text.forbidden_imports(is_file=plugins.is_file(source))]
            content = {} if imports else plugin.names
        except UserError as error:
            faults += [Fault(named_at, problem) for problem in error.problems]
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever the code of the plug-in does
            faults.append(_raised(error, plugin, source, named_at))
        else:
            entries, wrong = ({}, imports) if imports else entries_of(text, content, tables, taken)
            faults += wrong
            tables = _joined(tables, plugin, entries)
    return tables


def _raised(error: BaseException, plugin: Plugin | None, source: str, named_at: Place) -> Fault:
    """What executing a plug-in raised, at the line of the plug-in that it came from, and the lines before that.

    Args:
        plugin: None where the packages around a module raised.
    """
    if isinstance(error, SyntaxError) and error.filename and os.path.exists(error.filename):
        at = replace(at_line(error.filename, error.lineno or 1), column=error.offset or 1)
        return Fault(at, f"found a {type(error).__name__} ({error.msg}), expected Python code")
    if isinstance(error, ModuleNotFoundError) and f"{source}.".startswith(f"{error.name}."):
        near = f"; a file is written {source}.py" if os.path.exists(named_at.folder / f"{source}.py") else ""
        return fault(named_at, (KEY,), source, f"a module that is installed here{near}")
    ours = (str(Path(__file__).parents[1]), os.path.dirname(importlib.__file__), "<")
    others = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    lines = (plugin.lines(error) if plugin else []) or others[:1]
    message = printable(" ".join(text_of(error).split()))[:300]
    actual = ": ".join(filter(None, (type(error).__name__, message)))
    way = f" (lines {', '.join(str(frame.lineno) for frame in lines)})" if len(lines) > 1 else ""
    at = at_line(lines[-1].filename, lines[-1].lineno or 1) if lines else named_at
    where = f" at `{lines[-1].line}`" if lines else ""
    return Fault(at, f"{KEY}: found {actual}{where}{way}, expected a plug-in that can be imported")


def _joined(tables: Tables, plugin: Plugin, entries: Entries) -> Tables:
    """Tables with the entries of one more plug-in."""
    origins = {field: dict(names) for field, names in tables.origins.items()}
    joined: dict[str, Any] = {}
    for table, of_table in entries.items():
        field = CONTRACTS[table].field
        joined[field] = {**joined.get(field, getattr(tables, field)), **of_table}
        origins.setdefault(field, {}).update(dict.fromkeys(of_table, Origin(plugin, table)))
    joined |= _backbone_facts(tables, entries.get("CATALOG", {}))
    return replace(tables, **joined, origins=origins, plugins=(*tables.plugins, plugin))


def _backbone_facts(tables: Tables, catalog: Mapping[str, Any]) -> dict[str, Any]:
    """What tables say of backbones; of those of a plug-in, what their entries state.

    A plug-in's network is not built to read a config: what its entry does not state is found when it is tried.
    """
    if not catalog:
        return {}
    return {
        "stages": lambda name: catalog[name].stages if name in catalog else tables.stages(name),
        "multiple": lambda name: catalog[name].multiple or 1 if name in catalog else tables.multiple(name),
        "native_size": lambda name: catalog[name].size if name in catalog else tables.native_size(name),
    }
