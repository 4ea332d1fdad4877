"""Tokens of label columns to labels, by `data.values`, and what to write there for tokens that it does not declare."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aimonk_bench.config.fields import Values, value_of
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.tokens import decimal_of, spelling_of

STATES = {"positive": True, "negative": False, "missing": None}
MOST_TOKENS = 12  # tokens that a message lists, or proposes to declare
LONGEST_TOKEN = 60


@dataclass(frozen=True, eq=False)
class Undeclared:
    """The tokens of one attribute that `data.values` does not declare.

    Attributes:
        counts: token -> rows, in the order of the file.
        rows: [R] where they stand.
        nothing_declared: no token of the column is declared.
    """

    attribute: str
    counts: dict[str, int]
    rows: NDArray[np.bool_]
    nothing_declared: bool


def read_labels(
    columns: Mapping[str, pd.Categorical], values: Values | Mapping[str, Values]
) -> tuple[Labels, list[Undeclared]]:
    """The labels [R, A] of A columns [R], and the undeclared tokens; their labels are not observed.

    A category of a column is a token, or the label itself: True or False. A cell without a category is missing.
    """
    rows = len(next(iter(columns.values()), ()))
    targets, observed = np.zeros((2, rows, len(columns)), bool)
    undeclared = []
    for place, (name, column) in enumerate(columns.items()):
        declared = values if isinstance(values, Values) else values[name]
        meaning = _meaning(declared)
        tokens = [*column.categories]
        unknown = [isinstance(token, str) and value_of(token) not in meaning for token in tokens]
        states = [meaning.get(value_of(token)) if isinstance(token, str) else token for token in tokens]
        codes = np.asarray(column.codes)  # no category is -1, the last entry of these lists
        targets[:, place] = np.array([*(state is True for state in states), False])[codes]
        observed[:, place] = np.array([*(state is not None for state in states), False])[codes]
        if any(unknown):
            counts = np.bincount(codes[codes >= 0], minlength=len(tokens))
            undeclared_counts = {token: int(counts[n]) for n, token in enumerate(tokens) if unknown[n]}
            nothing_declared = all(unknown) and int(counts.sum()) > 1
            undeclared.append(Undeclared(name, undeclared_counts, np.array([*unknown, False])[codes], nothing_declared))
    return Labels.of(targets, observed, tuple(columns)), undeclared


def problems(
    undeclared: Sequence[Undeclared],
    columns: Mapping[str, pd.Categorical],
    values: Values | Mapping[str, Values],
    lines: NDArray[np.int64],
    attribute_lines: Mapping[str, int],
) -> list[tuple[int, str]]:
    """(line, message): one for all attributes with the same undeclared tokens, with the YAML line that declares them.

    Args:
        columns: the A columns [R] of the file.
        lines: [R].
        attribute_lines: where an attribute is named; a column without a declared token is reported there.
    """
    alike: dict[tuple[tuple[str, ...], bool], list[Undeclared]] = {}
    for item in undeclared:
        alike.setdefault((tuple(sorted(item.counts)), item.nothing_declared), []).append(item)
    doubtful = [item.attribute for item in undeclared if _is_doubtful(item)]
    texts = {str(token) for name, column in columns.items() if name not in doubtful for token in column.categories}
    sure = [item for item in undeclared if item.attribute not in doubtful]
    minus_one: Literal["missing", "negative"] = "missing" if 0.0 in map(decimal_of, texts) else "negative"
    fix = _fix(sure, values, minus_one=minus_one)
    messages = []
    for (_, nothing_declared), items in alike.items():
        line = min(int(lines[item.rows][0]) for item in items)
        if nothing_declared:
            line = attribute_lines[items[0].attribute] or line
        text = _message(items, values, fix, doubtful)
        if fix is not None and minus_one == "missing" and -1 in map(decimal_of, items[0].counts):
            text += "; if -1 means negative and 0 missing, swap them in that line"
        messages.append((line, text))
    return messages


def _meaning(declared: Values) -> dict[str | float, bool | None]:
    """The state of each declared token."""
    lists = declared.model_dump()
    return {value_of(token): STATES[word] for word, tokens in lists.items() for token in tokens}


def _message(
    items: Sequence[Undeclared], values: Values | Mapping[str, Values], fix: str | None, doubtful: Sequence[str]
) -> str:
    """The message about attributes with the same undeclared tokens.

    Args:
        fix: the YAML line that declares the tokens of all attributes, as far as they are commonly understood.
        doubtful: the attributes that are hardly any.
    """
    names = [item.attribute for item in items]
    where = f"attribute {names[0]}" if len(names) == 1 else f"{len(names)} attributes ({listed(names)})"
    counts = {token: sum(item.counts[token] for item in items) for token in items[0].counts}
    tokens = sorted(counts, key=lambda token: -counts[token])
    declared = (values if isinstance(values, Values) else values[names[0]]).model_dump()
    words = ", ".join(f"{word} {' '.join(map(repr, known))}" for word, known in declared.items() if known)
    shown = listed(
        [f"{_quoted(token)} ({counts[token]} {'row' if counts[token] == 1 else 'rows'})" for token in tokens]
    )
    parts = [f"{where}: found {shown}, expected one of the declared values ({words})"]
    if soft := [token for token in tokens if _is_soft(token)]:
        parts.append(f"soft labels such as {soft[0]} are not supported: each number has to mean yes, no or missing")
    strange = [_quoted(token) for token in tokens if not _is_common(token) and not _is_soft(token)]
    if fix is not None and names[0] not in doubtful and len(strange) < len(tokens):
        parts.append(f"write under data: `{fix}`")
    if strange:
        parts.append(f"declare {listed(strange)} in data.values as positive, negative or missing")
    if names[0] in doubtful:
        ignored = json.dumps(doubtful, ensure_ascii=False)
        parts.append(
            f"if these are no labels, write under data: `ignore: {ignored}`, or name the column in data.group, "
            "or the others in data.attributes"
        )
    return "; ".join(parts)


def listed(texts: Sequence[str]) -> str:
    """The first texts, and how many more there are."""
    more = len(texts) - MOST_TOKENS
    return ", ".join(texts) if more <= 0 else f"{', '.join(texts[:MOST_TOKENS])} and {more} more"


def _is_doubtful(item: Undeclared) -> bool:
    """Whether the tokens of an attribute are hardly labels: most of them, or several, are not commonly understood."""
    strange = sum(not _is_common(token) and not _is_soft(token) for token in item.counts)
    soft = sum(map(_is_soft, item.counts))
    return soft > MOST_TOKENS or strange > 3 or (item.nothing_declared and 2 * strange >= len(item.counts))


def _quoted(token: str) -> str:
    return repr(token if len(token) <= LONGEST_TOKEN else f"{token[:LONGEST_TOKEN]}...")


def _is_soft(token: str) -> bool:
    number = decimal_of(token)
    return number is not None and 0 < number < 1


def _is_common(token: str) -> bool:
    """Whether a token commonly spells a state; of -1 the other tokens of the file say which."""
    return spelling_of(token) is not None or decimal_of(token) == -1


def _fix(
    undeclared: Sequence[Undeclared],
    values: Values | Mapping[str, Values],
    *,
    minus_one: Literal["missing", "negative"],
) -> str | None:
    """The YAML line that declares every token that is commonly understood; None if there is none.

    Args:
        minus_one: missing where 0 occurs too (an uncertain label of CheXpert), else negative.
    """

    def extended(declared: Values, tokens: Collection[str]) -> str:
        lists = declared.model_dump()
        soft = [token for token in tokens if _is_soft(token)]
        for token in tokens:
            state = minus_one if decimal_of(token) == -1 else spelling_of(token)
            if _is_soft(token) and len(soft) <= MOST_TOKENS:
                number = decimal_of(token) or 0.0
                state = "missing" if number == 0.5 else "positive" if number > 0.5 else "negative"
            if state is not None:
                lists[state].append(token)
        return ", ".join(f"{word}: {json.dumps(tokens, ensure_ascii=False)}" for word, tokens in lists.items())

    if isinstance(values, Values):
        proposal = extended(values, dict.fromkeys(token for item in undeclared for token in item.counts))
        return f"values: {{{proposal}}}" if proposal != extended(values, ()) else None
    tokens_of = {item.attribute: item.counts for item in undeclared}
    proposals = {name: extended(declared, tokens_of.get(name, ())) for name, declared in values.items()}
    if all(proposal == extended(values[name], ()) for name, proposal in proposals.items()):
        return None
    maps = (f"{json.dumps(name, ensure_ascii=False)}: {{{proposal}}}" for name, proposal in proposals.items())
    return f"values: {{{', '.join(maps)}}}"
