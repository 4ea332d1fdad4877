"""Read a label file: its lines, the images that they name, and the label that every cell means; and the truth."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from aimonk_bench.config import rules
from aimonk_bench.config.fields import DataConfig, Values, unusable_attribute
from aimonk_bench.config.split_fields import GroupRegex
from aimonk_bench.data import image_files, image_names
from aimonk_bench.data.cells import each_row, first_rows
from aimonk_bench.data.group_checks import groups_by_name
from aimonk_bench.data.image_files import SHOWN
from aimonk_bench.data.image_names import ImagePaths
from aimonk_bench.data.importers import IMPORTERS, Sheet, Source, guess, read_sheet
from aimonk_bench.data.labels import LabelFile, Labels
from aimonk_bench.data.merging import Rows, merge, texts_of_images
from aimonk_bench.data.values import blank_as_no, read_labels
from aimonk_bench.data.values import problems as value_problems
from aimonk_bench.errors import UserError, printable

logger = logging.getLogger(__name__)


def load(data: DataConfig, columns: Sequence[str] = ()) -> LabelFile:
    """Read ``data.labels`` with the importer that the config names, or the one that fits, and check every line.

    Attributes that no image has a label for are warned about.

    Args:
        columns: further columns of the file that are to be read; they are no attributes.

    Raises:
        UserError: every problem of the file as ``file:line: ...``, the first 20 of them printed. Listed images that
            cannot be read are reported with other problems, but are no reason to fail; see `image_files.locate`.
    """
    missing = _missing_tokens(data.values)
    sheet, understood = _import(data, Source(data.labels, missing, tuple(columns)))
    located = image_names.resolve(sheet.names.tolist(), sheet.lines.tolist(), data.images, data.suffix)
    sheet.problems += located.problems
    if not len(sheet.names) and not sheet.problems:
        sheet.problems.append((1, "found no image, expected at least one"))
    first = first_rows(located.paths)
    is_image = np.array([path is not None for path in located.paths], bool)
    images = np.flatnonzero(is_image & (first == np.arange(len(first))))
    others = {}
    for name, column in sheet.others.items():
        stated = texts_of_images(column, (), first)  # an official split may name a token such as NA, which is none here
        written = each_row(column, (text or None for text in column.categories), None)
        others[name] = np.where([text is None for text in stated], written, stated)
    groups, unmatched = _groups(data, sheet, missing, first)
    unmapped = [*_unmapped(data.values, sheet), *unmatched]
    if not unmapped and sheet.columns:
        labels, undeclared = read_labels(sheet.columns, data.values)
        sheet.problems += value_problems(undeclared, sheet.columns, data.values, sheet.lines, sheet.attributes)
        legible = ~np.any([item.rows for item in undeclared], axis=0) if undeclared else np.ones(len(first), bool)
        rows = Rows(sheet.names, sheet.lines, labels, {"group": groups, **others}, legible)
        labels, contradictions, merged = merge(rows, first, data.duplicates)
        sheet.problems += contradictions
    if not unmapped and not sheet.problems and not (sheet.columns and labels.observed.any()):
        sheet.problems.append((1, "found no label (every value is missing), expected at least one"))
    failed = bool(unmapped or sheet.problems)
    if failed and data.importer == "auto":
        sheet.warnings.insert(0, f"{understood}; set data.importer if that is wrong")
    if not failed and not labels[images].negative.any():
        sheet.warnings += blank_as_no(sheet.columns.values(), data.values)
    for warning in sheet.warnings:
        logger.warning("%s: %s", data.labels, warning)
    if failed:
        raise _error(data, sheet, located, images, unmapped)
    labels, groups = labels[images], groups[images]
    grouped = data.group is not None or any(groups)
    return LabelFile(
        path=data.labels,
        ids=tuple(sheet.names[row].strip() for row in images),
        paths=tuple(str(located.paths[row]) for row in images),
        labels=labels,
        groups=tuple(groups) if grouped else None,
        lines=sheet.lines[images],
        columns={name: tuple(texts[images]) for name, texts in others.items()},
        notes=(understood, *sheet.notes, *located.notes, *merged, *_group_notes(groups, data.group, grouped=grouped)),
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
    changed = {
        "labels": data.truth,
        "truth": None,
        "attributes": attributes,
        "group": None,
        "ignore": None,
        "on_bad_image": "skip",
    }
    truth = load(data.model_copy(update=changed))
    row_of = {path: row for row, path in enumerate(listed.paths)}
    rows = [row_of.get(path) for path in truth.paths]
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


def _import(data: DataConfig, source: Source) -> tuple[Sheet, str]:
    """The sheet of the importer that the config names, or of the one that fits; and one line of what was understood.

    Raises:
        UserError: the file cannot be read, or the config has keys that the importer does not read.
    """
    understood, chosen = f"importer: {data.importer}", ""
    if data.importer == "auto":
        name, reason = guess(source, data, data.group if isinstance(data.group, str) else None)
        understood = f"importer: {name} (auto: {reason})"
        data = data.model_copy(update={"importer": name})
        chosen = f"; {understood}; set data.importer if that is wrong"
    if misuse := [*rules.importer_options(data, data.importer, IMPORTERS)]:
        raise UserError([f"data.{problem.path[0]}: {problem}{chosen}" for problem in misuse])
    sheet = read_sheet(source, data)
    unusable = ((line, unusable_attribute(name)) for name, line in sheet.attributes.items())
    sheet.problems += [(max(line, 1), f"found an attribute {problem}") for line, problem in unusable if problem]
    return sheet, printable("; ".join(filter(None, [understood, sheet.understood])))


def _groups(
    data: DataConfig, sheet: Sheet, missing: frozenset[str], first: NDArray[np.intp]
) -> tuple[NDArray[np.object_], list[str]]:
    """The group of each row [R], None where it has none; and what is wrong with the pattern of `data.group`."""
    groups = np.full(len(first), None, object)
    if sheet.groups is not None:
        groups = texts_of_images(sheet.groups, missing, first)
    if not isinstance(data.group, GroupRegex) or not len(sheet.names):
        return groups, []
    if any(groups):
        sheet.notes.append("the groups in the file are not used, because data.group is a pattern for names")
    groups = np.array(groups_by_name(data.group.regex, sheet.names.tolist()), object)
    if any(groups):
        return groups, []
    pattern, example = repr(data.group.regex), sheet.names[0]
    return groups, [f"data.group.regex: {pattern} matches none of {len(groups)} names, such as {example}"]


def _missing_tokens(values: Values | Mapping[str, Values]) -> frozenset[str]:
    """The tokens that mean missing for any attribute."""
    maps = [values] if isinstance(values, Values) else values.values()
    return frozenset(token for declared in maps for token in declared.missing)


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


def _error(
    data: DataConfig, sheet: Sheet, located: ImagePaths, images: NDArray[np.intp], others: list[str]
) -> UserError:
    """All problems in the order of the lines, those of images that cannot be read among them; one for each kind."""
    problems = list(sheet.problems)
    if data.on_bad_image == "error":
        listed = [(str(sheet.names[row]), str(located.paths[row]), int(sheet.lines[row])) for row in images]
        problems += image_files.unreadable(listed, data.images, skip=False)
    return image_files.problems_in(data.labels, problems, others)


def _group_notes(groups: NDArray[np.object_], named: str | GroupRegex | None, *, grouped: bool) -> Iterator[str]:
    alone = sum(group is None for group in groups)
    if isinstance(named, GroupRegex):
        values = dict.fromkeys(group for group in groups if group is not None)
        yield f"groups by the names of images: {len(values)}, such as {', '.join([*values][:3])}"
    if grouped and alone:
        lack = "a name that data.group.regex does not match" if isinstance(named, GroupRegex) else "no group value"
        yield f"{alone} of {len(groups)} images have {lack}; each is a group of its own"
