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


PICKLES = {  # what may execute what a file holds -> the keyword that makes it safe, and its value; None: nothing does
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "read_array": ("allow_pickle", False),
    "torch.jit.load": None,
    "torch.export.load": None,
    "torch.hub.load": None,
    "pickle.load": None,
    "pickle.loads": None,
    "pickle.Unpickler": None,
    "cloudpickle.load": None,
    "cloudpickle.loads": None,
    "joblib.load": None,
    "read_pickle": None,
    "marshal.loads": None,
    "marshal.load": None,
    "shelve.open": None,
    "dill.load": None,
    "yaml.load": None,
    "yaml.load_all": None,
    "yaml.unsafe_load": None,
    "yaml.full_load": None,
}
FROM_PROCESSES = {  # what unpickles bytes of a process that it started itself, through a pipe or Ray, and of no file
    "aimonk_bench/suite/pool.py pickle.loads",
    "aimonk_bench/suite/replies.py pickle.loads",
    "aimonk_bench/suite/ray_workers.py pickle.Unpickler",
    "aimonk_bench/suite/workers.py pickle.loads",
    "experiments/benchmarks/competent.py pickle.load",
}


ENDINGS = {name.rpartition(".")[2] for name in PICKLES}


def unsafe_calls(code: str) -> list[str]:
    """The calls of `PICKLES` that lack the keyword which makes them safe, and those imported under a bare name."""
    names = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [name for alias in node.names if (name := f"{node.module}.{alias.name}") in PICKLES]
        if not isinstance(node, ast.Call) or getattr(node.func, "attr", None) not in ENDINGS:
            continue
        name = ast.unparse(node.func)
        for entry, safe in PICKLES.items():
            if f".{name}".endswith(f".{entry}"):
                values = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
                names += [] if safe and values.get(safe[0]) is safe[1] else [entry]
    return names


def test_an_unsafe_call_is_recognised():
    assert (
        unsafe_calls("torch.load(f)\ntorch.load(f, weights_only=False)\nx.torch.load(f, weights_only=w)")
        == ["torch.load"] * 3
    )
    assert unsafe_calls("torch.load(f, weights_only=True)\nnp.load(f, allow_pickle=False)\nyaml.safe_load(f)") == []
    assert unsafe_calls("np.load(f)\nyaml.load(f, Loader=yaml.Loader)\npd.read_pickle(f)\nimport pickle") == [
        "np.load",
        "yaml.load",
        "read_pickle",
    ]
    assert unsafe_calls("from torch import load\nfrom yaml import safe_load") == ["torch.load"]


def test_no_file_is_unpickled():
    root = PACKAGE.parent
    files = [*MODULES, *sorted((root / "experiments").rglob("*.py"))]
    calls = {f"{file.relative_to(root)} {name}" for file in files for name in unsafe_calls(file.read_text("utf-8"))}
    assert calls == FROM_PROCESSES
