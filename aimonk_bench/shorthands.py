"""Options of a verb that are short for an override: ``--executor ray`` means ``--set run.executor=ray``."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

F = TypeVar("F", bound=Callable[..., None])

OPTIONS: dict[str, Any] = {
    "executor": Annotated[
        str | None,
        typer.Option("--executor", metavar="NAME", help="Short for a last --set run.executor=NAME: where tasks run."),
    ],
    "workers": Annotated[
        str | None,
        typer.Option("--workers", metavar="COUNT", help="Short for a last --set run.workers=COUNT."),
    ],
}


def with_run_options(verb: F) -> F:
    """A verb with `OPTIONS`; their values follow the others in its parameter ``overrides``, so that they win."""

    @functools.wraps(verb)
    def extended(**arguments: Any) -> None:
        values = {name: arguments.pop(name) for name in OPTIONS}
        texts = [f"run.{name}={_yaml(value)}" for name, value in values.items() if value is not None]
        verb(**{**arguments, "overrides": [*(arguments["overrides"] or ()), *texts]})

    signature = inspect.signature(verb, eval_str=True)
    parameters = [
        *signature.parameters.values(),
        *(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
            for name, option in OPTIONS.items()
        ),
    ]
    extended.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    extended.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return extended  # type: ignore[return-value]


def _yaml(value: str) -> str:
    """A value as YAML: a plain word or number as it is, anything else as text, so that it cannot be a map or a list."""
    return value if value.replace("-", "").isalnum() else json.dumps(value)
