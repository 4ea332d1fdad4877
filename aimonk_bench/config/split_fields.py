"""The section `split`, which divides images into training, validation and test rows, and groups by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator

from aimonk_bench.config.section import Fraction, Section, Seed, distinct

# Users read a ValueError raised below as "found VALUE, expected MESSAGE".


def _kfold(value: Any) -> Any:
    if value != "kfold":
        raise ValueError("one of kfold, holdout, column")
    return value


def _tokens(value: Any) -> Any:
    if isinstance(value, list | tuple) and value and all(isinstance(token, str) for token in value):
        return distinct(tuple(value))
    raise ValueError("a list of at least one token (in quotes, if it looks like a number)")


def _val(value: Any) -> Any:
    if isinstance(value, float) and 0 < value < 1:
        return value
    try:
        return _tokens(value)
    except ValueError as error:
        raise ValueError(
            f"{error}, or a number between 0 and 1: the fraction of the training images to draw for validation"
        ) from None


NearDuplicates = Annotated[
    Literal["report", "keep_together"],
    Field(description="What to do with different images that look alike: count those that the split cuts, or cut none"),
]
Tokens = Annotated[tuple[str, ...], BeforeValidator(_tokens, json_schema_input_type=list[str])]


class Holdout(Section):
    """One split into training, validation and test images; fractions of all images."""

    scheme: Literal["holdout"] = "holdout"
    val: Fraction = 0.15
    test: Fraction = 0.15
    seed: Seed = 0
    near_duplicates: NearDuplicates = "report"


class KFold(Section):
    """k folds: every image is a test row once; ``val`` is the fraction of what is left after the test fold."""

    scheme: Annotated[Literal["kfold"], BeforeValidator(_kfold)] = "kfold"
    folds: Annotated[int, Field(ge=2)] = 5
    val: Fraction = 0.15
    seed: Seed = 0
    near_duplicates: NearDuplicates = "report"


class OfficialSplit(Section):
    """The split that a column of the label file states: one fold.

    ``train``, ``val`` and ``test`` are tokens of that column. A number as ``val`` is the fraction of the training
    images that is drawn for validation, with ``seed``, where the column names no validation images.
    """

    scheme: Literal["column"] = "column"
    column: str
    train: Tokens = ("train",)
    val: Annotated[tuple[str, ...] | float, BeforeValidator(_val, json_schema_input_type=list[str] | float)] = ("val",)
    test: Tokens = ("test",)
    seed: Seed = 0
    near_duplicates: NearDuplicates = "report"

    def lists(self) -> dict[str, tuple[str, ...]]:
        """Key -> the tokens of that part, in the order of training, validation and test."""
        return {"train": self.train, "val": self.val if isinstance(self.val, tuple) else (), "test": self.test}


def _form(value: Any) -> str:
    scheme = value.get("scheme") if isinstance(value, Mapping) else getattr(value, "scheme", None)
    return {"holdout": "Holdout", "column": "OfficialSplit"}.get(str(scheme), "KFold")


SPLIT_TAGS = ("Holdout", "KFold", "OfficialSplit", "GroupColumn", "GroupRegex")
Split = Holdout | KFold | OfficialSplit
SplitConfig = Annotated[
    Annotated[Holdout, Tag("Holdout")]
    | Annotated[KFold, Tag("KFold")]
    | Annotated[OfficialSplit, Tag("OfficialSplit")],
    Discriminator(_form),
]


class GroupRegex(Section):
    """Groups by the names of images: the group is what the first pair of parentheses that matches contains.

    The pattern is searched for in the file name; in the whole name of the label file, folders included, where the
    pattern contains a ``/``.
    """

    regex: str

    @field_validator("regex")
    @classmethod
    def _with_a_group(cls, pattern: str) -> str:
        try:
            groups = re.compile(pattern).groups
        except re.error as error:
            raise ValueError(f"a regular expression ({error})") from error
        if not groups:
            raise ValueError('parentheses around the part of the name that is the group, such as "^(.*?)_"')
        return pattern


def _group_form(value: Any) -> str:
    return "GroupRegex" if isinstance(value, Mapping | GroupRegex) else "GroupColumn"


Group = Annotated[
    Annotated[str, Tag("GroupColumn")] | Annotated[GroupRegex, Tag("GroupRegex")], Discriminator(_group_form)
]
