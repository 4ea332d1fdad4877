"""Read a label file: its lines, the images that they name, and the label that every cell means."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from aimonk_bench import registry
from aimonk_bench.config import rules
from aimonk_bench.config.faults import Fault, Place, decode
from aimonk_bench.config.fields import DataConfig, Values, unusable_attribute
from aimonk_bench.data import image_files
from aimonk_bench.data.image_files import SHOWN, relative_path
from aimonk_bench.data.importers import IMPORTERS, Row, Sheet, guess
from aimonk_bench.data.labels import LabelFile, Labels
from aimonk_bench.errors import UserError

logger = logging.getLogger(__name__)

State = bool | None
STATES: dict[str, State] = {"positive": True, "negative": False, "missing": None}
WORDS = {state: word for word, state in STATES.items()}


def load(data: DataConfig) -> LabelFile:
    """Read ``data.labels`` with the importer that the config names, or the one that fits, and check every line.

    Attributes that no image has a label for are warned about.

    Raises:
        UserError: every problem of the file as ``file:line: ...``, the first 20 of them printed. Listed images that
            cannot be read are reported with other problems, but are no reason to fail; see `image_files.locate`.
    """
    lines = _read(data.labels)
    name, note = data.importer, f"importer: {data.importer}"
    if name == "auto":
        name, reason = guess(data.labels, lines)
        note = f"importer: {name} (auto: {reason})"
    if misuse := [*rules.importer_options(data, name, IMPORTERS)]:
        raise UserError([f"data.{problem.path[0]}: {problem}" for problem in misuse])
    options = {key: getattr(data, key) for key in registry.options_model(IMPORTERS[name]).model_fields}
    sheet = IMPORTERS[name](lines, data.attributes, **options)
    unusable = ((line, unusable_attribute(name)) for name, line in sheet.attributes.items())
    sheet.problems += [(max(line, 1), f"found an attribute {problem}") for line, problem in unusable if problem]
    paths = _paths(sheet)
    unmapped = _unmapped(data.values, sheet)
    rows, states, duplicates = ([], [], []) if unmapped else _resolve(sheet, paths, data.values)
    if not sheet.rows and not sheet.problems:
        sheet.problems.append((1, "found no image, expected at least one"))
    if not unmapped and not sheet.problems and not any(state is not None for row in states for state in row):
        sheet.problems.append((1, "found no label (every value is missing), expected at least one"))
    if unmapped or sheet.problems:
        if data.importer == "auto":
            logger.warning("%s: %s; set data.importer if that is wrong", data.labels, note)
        raise _error(data, sheet, paths, unmapped)
    observed = np.array([[state is not None for state in row] for row in states])
    for attribute in np.array([*sheet.attributes])[~observed.any(axis=0)]:
        logger.warning("%s: attribute %s is missing for every image", data.labels, attribute)
    groups = tuple(row.group for row in rows)
    targets = [[state is True for state in row] for row in states]
    return LabelFile(
        path=data.labels,
        ids=tuple(row.name for row in rows),
        labels=Labels.of(targets, observed, tuple(sheet.attributes)),
        groups=groups if data.group or any(groups) else None,
        lines=np.array([row.line for row in rows]),
        notes=(note, *_notes(data, duplicates, groups)),
    )


def _read(file: Path) -> list[str]:
    """The lines of a UTF-8 file, whatever ends its lines."""
    try:
        text = decode(file.read_bytes(), Place(str(file), 0, 0, file.parent))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    except Fault as fault:
        raise UserError(str(fault)) from None
    if not text.strip():
        raise UserError(f"{file}:1: the file is empty")
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _paths(sheet: Sheet) -> list[str | None]:
    """The path of each row's image below the image folder; a name that cannot be one goes to the sheet's problems."""
    paths: list[str | None] = []
    for row in sheet.rows:
        try:
            paths.append(relative_path(row.name))
        except ValueError as error:
            sheet.problems.append((row.line, str(error)))
            paths.append(None)
    return paths


def _unmapped(values: Values | Mapping[str, Values], sheet: Sheet) -> list[str]:
    """Where ``data.values`` has a map per attribute: attributes without one, and maps without an attribute."""
    if isinstance(values, Values):
        return []
    lacking = [f"data.values: no map for the attribute {name!r}" for name in sheet.attributes if name not in values]
    unknown = [
        f"data.values: found {name!r}, which is no attribute of {', '.join(sheet.attributes)}"
        for name in values
        if name not in sheet.attributes
    ]
    return lacking + unknown


def _meanings(values: Values) -> tuple[dict[str, State], str]:
    """Token -> state, and the same declaration in words."""
    declared: dict[str, list[str]] = values.model_dump()
    words = ", ".join(f"{word} {' '.join(map(repr, tokens))}" for word, tokens in declared.items() if tokens)
    return {token: STATES[word] for word, tokens in declared.items() for token in tokens}, words


def _foreign(sheet: Sheet, meanings: Sequence[tuple[dict[str, State], str]]) -> Iterator[tuple[str, str]]:
    """(attribute, message) for the columns that hold several tokens but no declared one: they are hardly labels."""
    for column, (name, line) in enumerate(sheet.attributes.items()):
        meaning, words = meanings[column]
        tokens = [cell for row in sheet.rows if isinstance(cell := row.cells[column], str)]
        if line and len(tokens) > 1 and meaning.keys().isdisjoint(tokens):
            examples = ", ".join(repr(token[:60]) for token in list(dict.fromkeys(tokens))[:3])
            yield (
                name,
                f"attribute {name}: found none of the declared values ({words}) in {len(tokens)} rows, but {examples}; "
                "declare them in data.values, or, if these are no labels, name the column in data.group "
                "or the others in data.attributes",
            )


def _resolve(
    sheet: Sheet, paths: Sequence[str | None], values: Values | Mapping[str, Values]
) -> tuple[list[Row], list[tuple[State, ...]], list[tuple[Row, Row]]]:
    """The rows to use, their states [N][A], and the (later, first) pairs of identical duplicates.

    Undeclared tokens and contradictions go to the sheet's problems.
    """
    names = list(sheet.attributes)
    meanings = [_meanings(values if isinstance(values, Values) else values[name]) for name in names]
    foreign = dict(_foreign(sheet, meanings))
    sheet.problems += [(sheet.attributes[name], text) for name, text in foreign.items()]
    first_rows: dict[str, tuple[Row, tuple[State, ...]]] = {}
    duplicates = []
    for row, path in zip(sheet.rows, paths, strict=True):
        problems = []
        states: list[State] = []
        for name, cell, (meaning, words) in zip(names, row.cells, meanings, strict=True):
            if name in foreign:
                states.append(None)  # one message is about the whole column
            elif isinstance(cell, str) and cell not in meaning:
                problems.append(f"attribute {name}: found {cell[:60]!r}, expected one of the declared values ({words})")
            else:
                states.append(meaning[cell] if isinstance(cell, str) else cell)
        if path and not problems:
            first, first_states = first_rows.setdefault(path, (row, tuple(states)))
            if first is not row:
                duplicates.append((row, first))
                problems += _differences(row, states, first, first_states, names)
        sheet.problems += [(row.line, text) for text in problems]
    return [row for row, _ in first_rows.values()], [states for _, states in first_rows.values()], duplicates


def _differences(
    row: Row, states: Sequence[State], first: Row, first_states: Sequence[State], names: Sequence[str]
) -> list[str]:
    here, there = [WORDS[state] for state in states], [WORDS[state] for state in first_states]
    if row.group != first.group:
        names, here, there = [*names, "group"], [*here, repr(row.group)], [*there, repr(first.group)]
    unequal = [f"{name} is {a}, there {b}" for name, a, b in zip(names, here, there, strict=True) if a != b]
    return [f"image {row.name} contradicts line {first.line}: {'; '.join(unequal)}"] if unequal else []


def _error(data: DataConfig, sheet: Sheet, paths: Sequence[str | None], others: list[str]) -> UserError:
    """All problems in the order of the lines, those of images that cannot be read among them."""
    problems = list(sheet.problems)
    first = {path: row for path, row in zip(reversed(paths), reversed(sheet.rows), strict=True) if path}
    listed = [(row.name, row.line) for row in first.values()]
    try:
        unreadable = image_files.unreadable(listed, data.images)
    except UserError as error:  # there is no such folder
        others, unreadable = [*others, *error.problems], []
    if data.on_bad_image == "error":
        problems += [(item.line, image_files.message(item, data.images)) for item in unreadable]
    problems.sort(key=lambda problem: problem[0])
    return UserError([*others, *(f"{data.labels}:{line}: {text}" for line, text in problems)], limit=SHOWN)


def _notes(data: DataConfig, duplicates: Sequence[tuple[Row, Row]], groups: Sequence[str | None]) -> Iterator[str]:
    if duplicates:
        examples = [f"line {row.line} ({row.name}, as line {first.line})" for row, first in duplicates[:SHOWN]]
        more = f" and {len(duplicates) - SHOWN} more" if len(duplicates) > SHOWN else ""
        yield f"identical duplicate lines, each image used once: {', '.join(examples)}{more}"
    alone = sum(group is None for group in groups)
    if alone and (data.group or alone < len(groups)):
        yield f"{alone} of {len(groups)} images have no group value; each is a group of its own"
