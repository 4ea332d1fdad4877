"""Tokens of label columns to labels, by `data.values`, and what to write there for tokens that it does not declare."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from aimonk_bench.config.fields import Values, value_of
from aimonk_bench.data.cells import counts_of, each_row, first_row
from aimonk_bench.data.labels import Labels
from aimonk_bench.data.tokens import (
    CROSSES,
    MOST_WORDS,
    decimal_of,
    guessed_states,
    is_missing,
    likely_state,
    spelling_of,
    state_of,
    states_in_context,
)
from aimonk_bench.errors import count

STATES = {True: "positive", False: "negative"}  # of labels that an importer knows
MOST_TOKENS = 12  # tokens that a message lists, or proposes to declare
MOST_GUESSES = 50  # words of a file that a message proposes to declare
LONGEST_TOKEN = 60


@dataclass(frozen=True, eq=False)
class Undeclared:
    """The tokens of one attribute that `data.values` does not declare.

    Attributes:
        column: [R] of the attribute.
        counts: token -> rows, in the order of the file.
        nothing_declared: no token of the column is declared as positive or negative.
    """

    attribute: str
    column: pd.Categorical
    counts: dict[str, int]
    nothing_declared: bool

    @cached_property
    def rows(self) -> NDArray[np.bool_]:
        """Where the tokens stand [R]."""
        return np.asarray(self.column.isin([*self.counts]))

    @cached_property
    def words(self) -> list[str]:
        """The tokens that are neither a common spelling nor a soft label."""
        return [token for token in self.counts if state_of(token) is None and not _is_soft(token)]


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
        meaning = meaning_of(values if isinstance(values, Values) else values[name])
        states = [meaning.get(value_of(cell)) if isinstance(cell, str) else STATES[cell] for cell in column.categories]
        targets[:, place] = each_row(column, (state == "positive" for state in states), False)
        observed[:, place] = each_row(column, (state in STATES.values() for state in states), False)
        counts = counts_of(column)
        unknown = {cell: n for cell, n in counts.items() if isinstance(cell, str) and value_of(cell) not in meaning}
        if unknown:
            nothing_declared = not {*states}.intersection(STATES.values()) and sum(counts.values()) > 1
            undeclared.append(Undeclared(name, column, unknown, nothing_declared))
    return Labels.of(targets, observed, tuple(columns)), undeclared


def problems(
    undeclared: Sequence[Undeclared],
    columns: Mapping[str, pd.Categorical],
    values: Values | Mapping[str, Values],
    lines: NDArray[np.int64],
    attribute_lines: Mapping[str, int],
) -> list[tuple[int, str]]:
    """(line, message): one for the file, with the YAML line that declares its tokens; none where all are declared.

    Args:
        columns: the A columns [R] of the file.
        lines: [R].
        attribute_lines: where an attribute is named; a column without a declared token is reported there.
    """
    if not undeclared:
        return []
    soft = [item for item in undeclared if sum(map(_is_soft, item.counts)) > MOST_TOKENS]
    rest = [item for item in undeclared if item not in soft]
    unread = {item.attribute for item in undeclared}
    others = {token for name, column in columns.items() if name not in unread for token in column.categories}
    understood = not all(map(is_missing, map(str, others))) or not all(map(_is_strange, rest))
    uses = Counter(word for item in rest for word in item.words)
    few = [item for item in rest if _is_few(item, uses)] or [item for item in rest if len(item.words) <= MOST_WORDS]
    few = few if len({word for item in few for word in item.words}) <= MOST_GUESSES else []
    likely = [item for item in few if not (understood and _is_strange(item))]
    hardly = [item for item in rest if item not in likely]
    doubtful = [item.attribute for item in undeclared if item not in likely]
    parts = []
    if rest:
        parts.append(_found(likely or hardly, values))
        labels = {name: column for name, column in columns.items() if name not in doubtful}
        parts += _template(few, labels, values, lines)
        parts += _case_variants({token for item in few for token in columns[item.attribute].categories})
    if soft:
        names = json.dumps([item.attribute for item in soft], ensure_ascii=False)
        parts.append(
            f"{_attributes(soft)}: soft labels such as {next(filter(_is_soft, soft[0].counts))} are not supported: "
            f"round them, in pandas by `table[{names}] = table[{names}].round()`"
        )
    if doubtful:
        shown = listed([f"{item.attribute} ({listed([*map(_quoted, [*item.counts][:3])])})" for item in hardly])
        parts.append(
            f"if {shown if likely and hardly else 'these'} are no labels, write under data: "
            f"`ignore: {json.dumps(doubtful, ensure_ascii=False)}`, or name the column in data.group, or the others in "
            "data.attributes"
        )
    reported = likely or hardly or soft
    named = [attribute_lines[item.attribute] for item in reported if item.nothing_declared]
    line = next(filter(None, named), min(int(lines[item.rows].min()) for item in reported))
    return [(line, "; ".join(parts))]


def meaning_of(declared: Values) -> dict[str | float, str]:
    """The state of each declared token, by what tokens are compared by."""
    return {value_of(token): state for state, tokens in declared.model_dump().items() for token in tokens}


def _found(items: Sequence[Undeclared], values: Values | Mapping[str, Values]) -> str:
    """Which tokens were found in which attributes, and which were expected."""
    counts = sum((Counter(item.counts) for item in items), Counter[str]())
    counted = [f"{_quoted(token)} ({count(number, 'row')})" for token, number in counts.most_common()]
    declared = (values if isinstance(values, Values) else values[items[0].attribute]).model_dump()
    expected = ", ".join(f"{word} {' '.join(map(repr, tokens))}" for word, tokens in declared.items() if tokens)
    return f"{_attributes(items)}: found {listed(counted)}, expected one of the declared values ({expected})"


def _attributes(items: Sequence[Undeclared]) -> str:
    names = [item.attribute for item in items]
    return f"attribute {names[0]}" if len(names) == 1 else f"{len(names)} attributes ({listed(names)})"


def _template(
    items: Sequence[Undeclared],
    columns: Mapping[str, pd.Categorical],
    values: Values | Mapping[str, Values],
    lines: NDArray[np.int64],
) -> Iterator[str]:
    """The YAML line that declares the tokens of attributes, then what is doubtful about it.

    Args:
        columns: of all attributes that are probably labels: what else stands there says what a token means.
    """
    if not items:
        yield "if they are labels, declare each token in data.values as positive, negative or missing"
    elif isinstance(values, Values):
        lists, doubts = _declared(items, columns, values, lines)
        yield f"write under data: `values: {lists}`"
        yield from doubts
    else:
        maps, doubts = [], []
        for name, declared in values.items():
            of_name = [item for item in items if item.attribute == name]
            lists, more = _declared(of_name, {key: columns[key] for key in columns if key == name}, declared, lines)
            maps.append(f"{json.dumps(name, ensure_ascii=False)}: {lists}")
            doubts += more
        yield f"write under data: `values: {{{', '.join(maps)}}}`"
        yield from dict.fromkeys(doubts)


def _declared(
    items: Sequence[Undeclared], columns: Mapping[str, pd.Categorical], declared: Values, lines: NDArray[np.int64]
) -> tuple[str, list[str]]:
    """The map of `data.values` that declares the tokens of attributes too, as YAML; and what is doubtful about it."""
    counts = sum((Counter(item.counts) for item in items), Counter[str]())
    of_columns = [{str(token): rows for token, rows in counts_of(column).items()} for column in columns.values()]
    of_columns += [item.counts for item in items if item.attribute not in columns]
    states, guessed, blank = likely_states(of_columns, meaning_of(declared))
    lists = declared.model_dump()
    for token in counts:
        lists[states[token]].append(token)
    doubts = []
    if guessed := {token: state for token, state in guessed.items() if token in counts}:
        shown = [f"{_quoted(token)} {state}{_place(token, items, lines)}" for token, state in guessed.items()]
        doubts.append(f"in that line, what is guessed has to be checked: {listed(shown)}")
    minus_one = {states[token] for token in counts if decimal_of(token) == -1}
    if minus_one == {"missing"}:
        doubts.append("if -1 means negative and 0 missing, swap them in that line")
    elif minus_one and any(decimal_of(token) == 0 for token in states):
        doubts.append("if -1 means that a label is not known, move it to missing in that line")
    if soft := [token for token in counts if _is_soft(token)]:
        doubts.append(
            f"soft labels such as {soft[0]} are not supported: that line takes 1 for more than 0.5, 0 for less"
        )
    if blank is not None and "missing" not in declared.model_fields_set:
        lists = _with_token_as_no(lists, blank)
        doubts.append(f"{no_token_means_no(blank)} in that line; else move {json.dumps(blank)} to missing")
    return _yaml(lists), doubts


def blank_as_no(columns: Iterable[pd.Categorical], values: Values | Mapping[str, Values]) -> Iterator[str]:
    """What to write where an empty cell may mean no; nothing where none is empty, or the config says what it means."""
    if not isinstance(values, Values) or "missing" in values.model_fields_set or "" in values.negative:
        return
    if any("" in column.categories for column in columns):
        lists = _yaml(_with_token_as_no(values.model_dump(), ""))
        yield f"no label is negative; if an empty cell means no, write under data: `values: {lists}`"


def no_token_means_no(blank: str) -> str:
    """What is said about a column of which no token means no, but this one may."""
    return f"no token means no, so {repr(blank) if blank else 'an empty cell'} is negative"


def _with_token_as_no(lists: Mapping[str, list[str]], blank: str) -> dict[str, list[str]]:
    missing = [token for token in lists["missing"] if token != blank]
    return {**lists, "negative": [*lists["negative"], blank], "missing": missing}


def _yaml(lists: Mapping[str, Sequence[str]]) -> str:
    return f"{{{', '.join(f'{word}: {json.dumps(tokens, ensure_ascii=False)}' for word, tokens in lists.items())}}}"


def likely_states(
    columns: Sequence[Mapping[str, int]], declared: Mapping[str | float, str]
) -> tuple[dict[str, str], dict[str, str], str | None]:
    """What tokens probably mean: their states; those of them that are only guessed; and a missing token.

    The last is the one that may mean no, a dash or an empty cell; None where other tokens mean no.

    Args:
        columns: token -> rows of all columns that are probably labels: what else stands there says what a token means.
        declared: the states of declared tokens, as `meaning_of` gives them.
    """
    likely = {token: _likely(token, declared) for tokens in columns for token in tokens}
    states = {token: state for token, state in likely.items() if state is not None}
    guessed: dict[str, str] = {}
    for token, state, is_guess in [*states_in_context(columns, states)]:
        if value_of(token) not in declared:
            states[token] = state
            guessed |= {token: state} if is_guess else {}
    guessed |= guessed_states(columns, states)
    states |= guessed
    blanks = () if "negative" in states.values() else (*CROSSES, "--", "")
    return states, guessed, next((token for token in blanks if states.get(token) == "missing"), None)


def _likely(token: str, declared: Mapping[str | float, str]) -> str | None:
    """The state of a token that is declared, a common spelling or a soft label."""
    if (state := declared.get(value_of(token))) is not None:
        return state
    if _is_soft(token):
        number = decimal_of(token) or 0.0
        return "missing" if number == 0.5 else "positive" if number > 0.5 else "negative"
    return spelling_of(token)


def _place(token: str, items: Sequence[Undeclared], lines: NDArray[np.int64]) -> str:
    """Where a token that only one attribute has stands first."""
    holders = [item for item in items if token in item.counts]
    return f" ({holders[0].attribute}, line {lines[first_row(holders[0].column, token)]})" if len(holders) == 1 else ""


def _case_variants(tokens: Collection[str | bool]) -> Iterator[str]:
    """The tokens that differ only in case."""
    alike: dict[str, list[str]] = {}
    for token in tokens:
        alike.setdefault(str(token).casefold(), []).append(str(token))
    if variants := [" and ".join(map(repr, sorted(words))) for words in alike.values() if len(words) > 1]:
        yield f"{listed(sorted(variants))} differ only in case: each spelling has to be declared"


def listed(texts: Sequence[str]) -> str:
    """The first texts, and how many more there are."""
    more = len(texts) - MOST_TOKENS
    return ", ".join(texts) if more <= 0 else f"{', '.join(texts[:MOST_TOKENS])} and {more} more"


def _is_strange(item: Undeclared) -> bool:
    """Whether no token is declared, and half of them are no common spelling."""
    return item.nothing_declared and 2 * len(item.words) >= len(item.counts)


def _is_few(item: Undeclared, uses: Mapping[str, int]) -> bool:
    """Whether an attribute has two words, or a few beside declared tokens, or a few that others use too, or counts."""
    words = [word for word in item.words if decimal_of(word) is None or not _holds_counts(item)]
    words = [word for word in words if likely_state(word) != "missing"]
    if len(item.words) > MOST_TOKENS:
        return False
    shared = not _is_strange(item) or all(uses[word] > 1 for word in words)
    return len(words) <= 2 or (len(words) <= MOST_WORDS and shared)


def _holds_counts(item: Undeclared) -> bool:
    """Whether a column repeats a few numbers, 0 among them."""
    numbers = [decimal_of(str(token)) for token in item.column.categories]
    return 0 in numbers and len(item.column) >= 2 * len(numbers)


def _quoted(token: str) -> str:
    return repr(token if len(token) <= LONGEST_TOKEN else f"{token[:LONGEST_TOKEN]}...")


def _is_soft(token: str) -> bool:
    number = decimal_of(token)
    return number is not None and 0 < number < 1
