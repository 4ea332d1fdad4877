"""Read a label file: its lines, the images that they name, and the label that every cell means; and the truth."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aimonk_bench import registry
from aimonk_bench.config import rules
from aimonk_bench.config.faults import Fault, Place, decode
from aimonk_bench.config.fields import DataConfig, Values, unusable_attribute
from aimonk_bench.data import image_files
from aimonk_bench.data.image_files import SHOWN, relative_path
from aimonk_bench.data.importers import IMPORTERS, Sheet, guess
from aimonk_bench.data.labels import LabelFile, Labels
from aimonk_bench.errors import UserError

logger = logging.getLogger(__name__)

STATES = {"positive": True, "negative": False, "missing": None}


def load(data: DataConfig, columns: Sequence[str] = ()) -> LabelFile:
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
    first_rows, later_rows = _images(sheet)
    if not sheet.rows and not sheet.problems:
        sheet.problems.append((1, "found no image, expected at least one"))
    unmapped = _unmapped(data.values, sheet)
    if not unmapped:
        labels, legible = _labels(sheet, data.values)
        duplicates = [pair for pair in later_rows if legible[[*pair]].all()]
        sheet.problems += _contradictions(sheet, labels, duplicates)
        if not sheet.problems and not labels.observed.any():
            sheet.problems.append((1, "found no label (every value is missing), expected at least one"))
    if unmapped or sheet.problems:
        if data.importer == "auto":
            logger.warning("%s: %s; set data.importer if that is wrong", data.labels, note)
        raise _error(data, sheet, first_rows, unmapped)
    labels = labels[first_rows]
    for attribute in np.array(labels.attributes)[~labels.observed.any(axis=0)]:
        logger.warning("%s: attribute %s is missing for every image", data.labels, attribute)
    rows = [sheet.rows[row] for row in first_rows]
    groups = tuple(row.group for row in rows)
    return LabelFile(
        path=data.labels,
        ids=tuple(row.name for row in rows),
        labels=labels,
        groups=groups if data.group or any(groups) else None,
        lines=np.array([row.line for row in rows]),
        notes=(note, *_notes(data, sheet, duplicates, groups)),
    )


def load_truth(data: DataConfig, listed: LabelFile) -> Labels | None:
    """The truth about the images of a label file.

    The truth has the format of a label file, and the same keys of ``data`` say how to read it; its attributes are those
    of the label file. It may leave images out, and values missing. It needs no group column: groups are those of the
    label file.

    Args:
        data: whose ``truth`` is read.
        listed: N images and A attributes.

    Returns:
        [N, A], observed where the truth is stated; None where ``data`` names no truth.

    Raises:
        UserError: every problem of the file as ``file:line: ...``, an image that the label file does not list among
            them.
    """
    if data.truth is None:
        return None
    attributes = list(listed.labels.attributes)
    changed = {"labels": data.truth, "truth": None, "attributes": attributes, "group": None, "on_bad_image": "skip"}
    truth = load(data.model_copy(update=changed))
    row_of = {relative_path(name): row for row, name in enumerate(listed.ids)}
    rows = [row_of.get(relative_path(name)) for name in truth.ids]
    unlisted = [
        f"{data.truth}:{line}: image {name} is not listed in {listed.path}"
        for name, line, row in zip(truth.ids, truth.lines, rows, strict=True)
        if row is None
    ]
    if unlisted:
        raise UserError(unlisted, limit=SHOWN)
    targets, observed = np.zeros((2, *listed.labels.shape), bool)
    places = np.array(rows, np.intp)
    targets[places], observed[places] = truth.labels.targets, truth.labels.observed
    return Labels.of(targets, observed, attributes)


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


def _images(sheet: Sheet) -> tuple[list[int], list[tuple[int, int]]]:
    """Row numbers: the first row of every image, and (later row, first row) of the same image.

    A name that cannot be a path below the image folder goes to the sheet's problems; its row is in neither list.
    """
    first: dict[str, int] = {}
    later = []
    for number, row in enumerate(sheet.rows):
        try:
            first_row = first.setdefault(relative_path(row.name), number)
        except ValueError as error:
            sheet.problems.append((row.line, str(error)))
            continue
        if first_row != number:
            later.append((number, first_row))
    return list(first.values()), later


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


def _labels(sheet: Sheet, values: Values | Mapping[str, Values]) -> tuple[Labels, NDArray[np.bool_]]:
    """The labels of all rows of the sheet [N, A], and whether `data.values` declares every token of a row [N].

    An undeclared token goes to the sheet's problems; its label counts as not observed. A column with several tokens and
    no declared one is hardly a column of labels: it gives one problem, not one per row.
    """
    targets, observed = np.zeros((2, len(sheet.rows), len(sheet.attributes)), bool)
    legible = np.ones(len(sheet.rows), bool)
    for column, (name, line) in enumerate(sheet.attributes.items()):
        declared = (values if isinstance(values, Values) else values[name]).model_dump()
        words = ", ".join(f"{word} {' '.join(map(repr, tokens))}" for word, tokens in declared.items() if tokens)
        meaning = {token: STATES[word] for word, tokens in declared.items() for token in tokens}
        cells = [row.cells[column] for row in sheet.rows]
        states = [meaning.get(cell) if isinstance(cell, str) else cell for cell in cells]
        targets[:, column] = [state is True for state in states]
        observed[:, column] = [state is not None for state in states]
        tokens = {row: cell for row, cell in enumerate(cells) if isinstance(cell, str)}
        undeclared = {row: token[:60] for row, token in tokens.items() if token not in meaning}
        if line and len(undeclared) == len(tokens) > 1:
            examples = ", ".join(map(repr, list(dict.fromkeys(undeclared.values()))[:3]))
            text = (
                f"attribute {name}: found none of the declared values ({words}) in {len(tokens)} rows, but {examples}; "
                "declare them in data.values, or, if these are no labels, name the column in data.group "
                "or the others in data.attributes"
            )
            sheet.problems.append((line, text))
            continue
        legible[[*undeclared]] = False
        for row, token in undeclared.items():
            text = f"attribute {name}: found {token!r}, expected one of the declared values ({words})"
            sheet.problems.append((sheet.rows[row].line, text))
    return Labels.of(targets, observed, tuple(sheet.attributes)), legible


def _contradictions(sheet: Sheet, labels: Labels, pairs: Sequence[tuple[int, int]]) -> Iterator[tuple[int, str]]:
    """(line, message) of every pair (later row, first row) of the same image that differs in a label or the group."""
    for pair in pairs:
        row, first = (sheet.rows[number] for number in pair)
        here, there = ([*_words(labels, number), repr(sheet.rows[number].group)] for number in pair)
        names = [*labels.attributes, "group"]
        unequal = [f"{name} is {a}, there {b}" for name, a, b in zip(names, here, there, strict=True) if a != b]
        if unequal:
            yield row.line, f"image {row.name} contradicts line {first.line}: {'; '.join(unequal)}"


def _words(labels: Labels, row: int) -> list[str]:
    """The states of a row, in words."""
    states = zip(labels.targets[row], labels.observed[row], strict=True)
    return [("positive" if target else "negative") if observed else "missing" for target, observed in states]


def _error(data: DataConfig, sheet: Sheet, first_rows: Sequence[int], others: list[str]) -> UserError:
    """All problems in the order of the lines, those of images that cannot be read among them."""
    problems = list(sheet.problems)
    if data.on_bad_image == "error":
        listed = [(sheet.rows[row].name, sheet.rows[row].line) for row in first_rows]
        problems += image_files.unreadable(listed, data.images)
    problems.sort(key=lambda problem: problem[0])
    return UserError([*others, *(f"{data.labels}:{line}: {text}" for line, text in problems)], limit=SHOWN)


def _notes(
    data: DataConfig, sheet: Sheet, duplicates: Sequence[tuple[int, int]], groups: Sequence[str | None]
) -> Iterator[str]:
    if duplicates:
        pairs = [(sheet.rows[row], sheet.rows[first]) for row, first in duplicates[:SHOWN]]
        examples = [f"line {row.line} ({row.name}, as line {first.line})" for row, first in pairs]
        more = f" and {len(duplicates) - SHOWN} more" if len(duplicates) > SHOWN else ""
        yield f"identical duplicate lines, each image used once: {', '.join(examples)}{more}"
    alone = sum(group is None for group in groups)
    if alone and (data.group or alone < len(groups)):
        yield f"{alone} of {len(groups)} images have no group value; each is a group of its own"
