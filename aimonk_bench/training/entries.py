"""Facts that an entry of a table declares, and the arguments that its caller passes for its parameters.

The *options* of an entry are its keyword-only parameters (`aimonk_bench.registry`). Positional parameters are data;
data beyond the fixed arguments of the table is passed by name: a loss or a policy with a parameter ``positives`` gets
the counts. Facts that parameters cannot express are declared above the entry with `declares`. Nothing else lists
entries by name, so a new entry is one function and one line of its table.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Gt, Le, Lt

from aimonk_bench import registry
from aimonk_bench.registry import Spec, Table

Entry = TypeVar("Entry", bound=Callable[..., Any])

# types of options
AboveZero = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
OpenFraction = Annotated[float, Gt(0), Lt(1)]


def declares(**facts: Any) -> Callable[[Entry], Entry]:
    """Attach facts to an entry; the docstring of each table's module says which facts are read."""

    def attach(entry: Entry) -> Entry:
        entry.__dict__["declared"] = facts
        return entry

    return attach


def declared(entry: Callable[..., Any], fact: str, default: Any = None) -> Any:
    """A fact that the entry declares, or the default."""
    return getattr(entry, "declared", {}).get(fact, default)


def takes(entry: Callable[..., Any], name: str) -> bool:
    """Whether the entry has a parameter of this name."""
    return name in inspect.signature(entry).parameters


def bind(entry: Callable[..., Any], **values: Any) -> functools.partial[Any]:
    """The entry with those values bound that it has a parameter for."""
    return functools.partial(entry, **{name: value for name, value in values.items() if takes(entry, name)})


def check_options(kind: str, table: Table, spec: Spec, **facts: Any) -> None:
    """Call the function that the entry declares as its ``check``, with its options and the facts that it names.

    Raises:
        UserError: the options exclude each other, or do not fit the facts.
    """
    options = registry.build(kind, table, spec).keywords
    check = declared(registry.entry(table, spec), "check")
    if check is not None:
        bind(check, **options, **facts)()
