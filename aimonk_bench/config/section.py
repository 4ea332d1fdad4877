"""What every section of a config is, and the types of fields that several sections share."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Values = TypeVar("Values", bound=Collection[object])


class Section(BaseModel):
    """A map of the config: no unknown keys, no conversion of types, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def distinct(values: Values) -> Values:
    """The values, if no two are equal; users read the ValueError as "found VALUE, expected MESSAGE"."""
    if len(set(values)) < len(values):
        raise ValueError("no value twice")
    return values


Seed = Annotated[int, Field(ge=0, lt=2**32)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


def matching(pattern: str, expected: str) -> AfterValidator:
    """Text that the whole pattern matches."""

    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(expected)
        return value

    return AfterValidator(check)
