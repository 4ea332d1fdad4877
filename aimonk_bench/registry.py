"""Tables of plain functions: find an entry by name, check its options, bind them.

A registry is a literal dict ``{name: function}``. The *options* of an entry are its keyword-only parameters; their
annotations (``Annotated[float, Ge(0)]`` for a range) and defaults are the only description of them, used by the option
check, by the JSON schema and by `aimonk-bench list`. Everything positional is data that the caller supplies.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from aimonk_bench.errors import UserError
from aimonk_bench.plugins import Origin

Table = Mapping[str, Callable[..., Any]]
Path = tuple[str | int, ...]

FOR = "for"  # the key beside `name` that has the entries of single attributes


@dataclass(frozen=True)
class Spec:
    """A name from a table and the options written beside it.

    Attributes:
        attributes: attribute -> the entry that it has instead of this one.
        places: attribute -> where that is written, as a message begins; empty where nobody knows.
        origin: the plug-in that has the entry; None where the program's own table has it.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Spec] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict, compare=False)
    origin: Origin | None = None

    def plain(self) -> str | dict[str, Any]:
        """The YAML form: the bare name, or ``{name: ..., option: ..., for: {attribute: ...}}``."""
        content = {"name": self.name, **self.options}
        if self.attributes:
            content[FOR] = {attribute: entry.plain() for attribute, entry in self.attributes.items()}
        return content if len(content) > 1 else self.name


@dataclass(frozen=True)
class Problem:
    """What is wrong with a value.

    Attributes:
        path: keys and indices from the checked value to the place of the problem; () is the value itself.
        found: what is there.
        expected: what should be there.
        suggestion: the nearest valid name, if one is near.
        on_key: the key, not the value, at ``path`` is wrong.
    """

    path: Path
    found: str
    expected: str
    suggestion: str | None = None
    on_key: bool = False

    def __str__(self) -> str:
        suggestion = f" (did you mean {self.suggestion}?)" if self.suggestion else ""
        return f"found {self.found}, expected {self.expected}{suggestion}"


def one_of(choices: Collection[str]) -> str:
    """The choices in words."""
    return ("one of " if len(choices) > 1 else "") + ", ".join(choices)


def nearest(name: object, choices: Iterable[str]) -> str | None:
    """The choice nearest to ``name``, or None if none is near."""
    near = difflib.get_close_matches(str(name), list(choices), n=1, cutoff=0.6)
    return near[0] if near else None


def hint(name: object, choices: Iterable[str]) -> str:
    """`` (did you mean smile?)``, or nothing if no choice is near."""
    near = nearest(name, choices)
    return f" (did you mean {near}?)" if near else ""


def show(value: object) -> str:
    """A value as an error message quotes it: YAML-like, at most 60 characters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr([*value] if isinstance(value, tuple) else value)
    return text if len(text) <= 60 else text[:57] + "..."


@functools.cache
def options_model(function: Callable[..., Any]) -> type[BaseModel]:
    """The keyword-only parameters of ``function`` as a strict pydantic model (unknown keys and NaN are errors)."""
    parameters = inspect.signature(function).parameters
    fields: dict[str, Any] = {}
    for name, hint in _hints(function).items():
        default = parameters[name].default
        fields[name] = (hint, ... if default is inspect.Parameter.empty else default)
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    return create_model(function.__name__, __config__=config, **fields)


def stand_in(name: str, options: Mapping[str, Any]) -> Callable[..., Any]:
    """An entry that has these options, of any value and with these defaults, and that cannot be called."""

    def entry(*data: object, **values: object) -> Any:
        raise UserError(f"{name}: an entry of a plug-in, which is not executed here")

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(key, keyword, default=value, annotation=Any) for key, value in options.items()]
    entry.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return entry


def numeric_options(function: Callable[..., Any]) -> list[str]:
    """The options of ``function`` that are floats: each head of a stack can have another value of them."""
    hints = _hints(function, include_extras=False)
    return [name for name, hint in hints.items() if float in (hint, *typing.get_args(hint))]


def _hints(function: Callable[..., Any], *, include_extras: bool = True) -> dict[str, Any]:
    """The types of the keyword-only parameters alone: those of the data may name what is not imported yet."""
    parameters = inspect.signature(function).parameters.values()
    written = {p.name: p.annotation for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    holder = types.SimpleNamespace(__annotations__=written)
    return typing.get_type_hints(holder, inspect.unwrap(function).__globals__, include_extras=include_extras)


_EXPECTED = {  # pydantic's error type -> what a user reads; {...} is filled from the error's context
    "missing": "a value, which is required",
    "float_type": "a number",
    "finite_number": "a finite number",
    "int_type": "an integer",
    "bool_type": "true or false",
    "string_type": "text (in quotes, if it looks like something else)",
    "list_type": "a list",
    "dict_type": "a map",
    "model_type": "a map",
    "path_type": "a path",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "too_short": "at least {min_length} item(s)",
    "too_long": "at most {max_length} item(s)",
    "value_error": "{error}",
}


def problems_of(error: ValidationError, keys_at: Callable[[Path], Iterable[str]]) -> list[Problem]:
    """A pydantic error as problems.

    Args:
        keys_at: the keys allowed in the map at a location, for the message about an unknown one.
    """
    problems = []
    for item in error.errors():
        path: Path = tuple(item["loc"])
        kind, context = item["type"], item.get("ctx", {})
        shown = "nothing" if kind == "missing" else show(item["input"])
        if kind == "extra_forbidden":
            names = sorted(keys_at(path[:-1]))
            expected = one_of(names) if names else "no options"
            problems.append(Problem(path, f"unknown key {path[-1]!r}", expected, nearest(path[-1], names), on_key=True))
        elif kind == "literal_error":
            names = re.findall(r"'([^']*)'", context["expected"])
            expected = one_of(names) if len(names) > 1 else context["expected"]
            problems.append(Problem(path, shown, expected, nearest(item["input"], names)))
        else:
            problems.append(Problem(path, shown, _EXPECTED.get(kind, item["msg"]).format(**context)))
    return problems


def check(kind: str, table: Table, value: object, further: Iterable[str] = ()) -> tuple[Spec | None, list[Problem]]:
    """Read ``value`` (a name, or a map with ``name`` and options) as an entry of ``table``.

    Args:
        kind: what an entry is called in messages, such as "loss".
        further: keys that may stand beside the options; the caller has read them.

    Returns:
        The entry with *all* its options, defaults filled in, and no problem; or None and every problem of ``value``.
    """
    options: dict[Any, Any] = {}
    name = value
    path: Path = ()
    if isinstance(value, Mapping):
        if "name" not in value:
            return None, [Problem((), "a map without 'name'", f"the name of a {kind} under 'name'")]
        options = {key: item for key, item in value.items() if key != "name"}
        name, path = value["name"], ("name",)
    if not isinstance(name, str):
        return None, [Problem(path, show(name), f"the name of a {kind}, or a map with 'name'")]
    if name not in table:
        return None, [Problem(path, f"unknown {kind} {name!r}", one_of(table), nearest(name, table))]
    model = options_model(table[name])
    try:
        checked = model.model_validate(options)
    except ValidationError as error:
        problems = problems_of(error, lambda _: [*model.model_fields, *further])
        return None, [_with_owners(problem, kind, name, table) for problem in problems]
    return Spec(name, {key: getattr(checked, key) for key in model.model_fields}), []


def _with_owners(problem: Problem, kind: str, name: str, table: Table) -> Problem:
    """The same problem; at an unknown key it names the entry that lacks it, and those that have such an option."""
    if not problem.on_key:
        return problem
    owners = [other for other in table if problem.path[-1] in options_model(table[other]).model_fields]
    others = f", or another {kind} ({', '.join(owners)})" if owners else ""
    return replace(problem, found=f"{problem.found} of {name}", expected=f"{problem.expected}{others}")


def check_by_attribute(kind: str, table: Table, value: object) -> tuple[Spec | None, list[Problem]]:
    """`check` of an entry that single attributes may replace: ``{name: ..., for: {attribute: entry}}``."""
    if not isinstance(value, Mapping) or FOR not in value:
        return check(kind, table, value, (FOR,))
    spec, problems = check(kind, table, {key: item for key, item in value.items() if key != FOR}, (FOR,))
    listed = value[FOR]
    if not isinstance(listed, Mapping):
        expected = f"a map: the name of an attribute, then its {kind}, as in {{name: ..., for: {{smile: ...}}}}"
        return None, [*problems, Problem((FOR,), show(listed), expected)]
    entries = {}
    for attribute, item in listed.items():
        entries[attribute], wrong = check(kind, table, item)
        problems += [replace(problem, path=(FOR, attribute, *problem.path)) for problem in wrong]
    if spec is None or problems:
        return None, problems
    return replace(spec, attributes={attribute: entry for attribute, entry in entries.items() if entry}), []


def entry(table: Table, spec: Spec) -> Callable[..., Any]:
    """The function of an entry: of a plug-in or, where that is nobody's, of the program's own table."""
    function: Callable[..., Any] = table[spec.name] if spec.origin is None else spec.origin.entry(spec.name)
    return function


def build(kind: str, table: Table, spec: Spec | str) -> functools.partial[Any]:
    """The function named by ``spec`` with its checked options bound.

    Raises:
        UserError: unknown name or bad option.
    """
    if isinstance(spec, Spec) and spec.origin is not None:
        table = {spec.name: entry(table, spec)}
    checked, problems = check(kind, table, spec if isinstance(spec, str) else spec.plain())
    if checked is None:
        raise UserError([f"{kind}: {problem}" for problem in problems])
    return functools.partial(table[checked.name], **checked.options)


def label(table: Table, spec: Spec) -> str:
    """The name plus what differs from the defaults: ``focal(gamma=1.0)``, ``pooled(smile: target_precision)``."""
    fields = options_model(entry(table, spec)).model_fields
    differing = [f"{key}={value}" for key, value in spec.options.items() if value != fields[key].default]
    attributes: dict[str, list[str]] = {}  # label of another entry -> the attributes that have it
    for attribute, other in spec.attributes.items():
        attributes.setdefault(label(table, other), []).append(attribute)
    parts = [", ".join(differing)] if differing else []
    parts += [f"{', '.join(names)}: {text}" for text, names in attributes.items()]
    return f"{spec.name}({'; '.join(parts)})" if parts else spec.name
