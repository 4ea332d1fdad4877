"""What an unknown label file and its image folder probably are: keys of `data` and `split` that read them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from aimonk_bench import registry
from aimonk_bench.config.fields import KFold, Values, value_of
from aimonk_bench.data import frames, image_files, importers, label_file, merging, splits
from aimonk_bench.data.cells import counts_of, first_rows
from aimonk_bench.data.columns import column, label_columns, parts_of
from aimonk_bench.data.draft import Guess
from aimonk_bench.data.group_checks import common_stem, groups_by_name
from aimonk_bench.data.guess_images import fit
from aimonk_bench.data.guess_table import guess_parts, guess_table
from aimonk_bench.data.image_files import SHOWN, problems_in
from aimonk_bench.data.importers import IMPORTERS
from aimonk_bench.data.labels import LabelFile
from aimonk_bench.data.merging import Rows
from aimonk_bench.data.sheets import Sheet, Source
from aimonk_bench.data.text import likely_encodings, line_in, read_text
from aimonk_bench.data.tokens import decimal_of, is_image_file, is_missing
from aimonk_bench.data.values import STATES, likely_states, listed, meaning_of, no_token_means_no, read_labels
from aimonk_bench.errors import UserError, count

DOCUMENTS = ("coco", "mat", "jsonl")  # importers of files that are no tables
NO_TEXT = (*frames.SUFFIXES, ".mat")  # suffixes of label files that are no text
FEW_IMAGES = 1000  # of so many the duplicate groups are counted, to see whether they fill the folds
FEWEST_GROUPS = 3  # for training, validation and test rows
OTHER_POLICY = {"any_positive": "agree_or_missing", "agree_or_missing": "any_positive"}
PATIENT = re.compile(r"(^|[/_-])((?:patient|subject|person|participant|case|video)[_-]?)\d+([/_-])", re.IGNORECASE)


def guess(labels: Path, images: Path) -> Guess:
    """Guess how a label file is to be read, and read it that way.

    Raises:
        UserError: the file or the folder does not exist, cannot be read, or holds no images with labels.
    """
    _check_places(labels, images)
    draft = Guess(labels, images)
    if labels.suffix.lower() not in NO_TEXT:
        _encoding(draft)
    source = Source(labels)
    importer, reason = importers.guess(source, draft.config, None)
    if importer in DOCUMENTS:
        draft.set("importer", importer, reason)
        _document(draft, source)
    else:
        guess_table(source, draft)
    source.columns = (draft.split["column"],) if draft.split else ()
    source.missing = frozenset(draft.values.missing)
    sheet = _sheet(draft, source)
    _values(draft, sheet)
    _images(draft, sheet)
    _group_in_names(draft, sheet)
    read = label_file.load(draft.config, source.columns)
    present = [row for row, path in enumerate(read.paths) if os.path.isfile(images / path)]
    _folds(draft, read.subset(present))
    meaning = meaning_of(draft.values)
    draft.understood, draft.listed, draft.present = sheet.understood, len(read.ids), len(present)
    draft.states = {name: _states(cells, meaning) for name, cells in sheet.columns.items()}
    return draft


def _check_places(labels: Path, images: Path) -> None:
    places = (
        ("--labels", labels, "a file", os.path.isfile(labels)),
        ("--images", images, "a folder", os.path.isdir(images)),
    )
    problems = [
        f"{option}: found {path}, expected {kind} that exists" for option, path, kind, there in places if not there
    ]
    if problems:
        raise UserError(problems)


def _encoding(draft: Guess) -> None:
    """The encoding, where the file is neither UTF-8 nor has a byte order mark."""
    try:
        read_text(draft.labels)
    except UserError:
        content = draft.labels.read_bytes()
        likely = likely_encodings(content)
        if not likely:
            raise
        read_text(draft.labels, likely[0])
        lines = [f"{name} as {line_in(content, name)!r}" for name in likely]
        text = f"the file is no UTF-8; the first line with other letters reads in {', in '.join(lines)}"
        draft.set("encoding", likely[0], f"{text}; if the letters are wrong, write another encoding", doubt=True)


def _document(draft: Guess, source: Source) -> None:
    """What is guessed of a file that is no table, before it is read."""
    if draft.data["importer"] == "coco":
        text = "a category without an annotation is negative; write missing if not every image was searched for it"
        draft.set("absent", "negative", text, doubt=True)
    if draft.data["importer"] == "mat":
        source.columns = ("split",)
        if parts := parts_of(column("split", _sheet(draft, source).others["split"])):
            guess_parts(draft, "split", parts)


def _sheet(draft: Guess, source: Source) -> Sheet:
    """The label file as its importer reads it.

    Raises:
        UserError: the importer finds problems.
    """
    sheet = importers.read_sheet(source, draft.config)
    if not sheet.problems and not len(sheet.names):
        sheet.problems.append((1, "found no image, expected at least one"))
    if sheet.problems:
        raise problems_in(draft.labels, sheet.problems)
    return sheet


def _values(draft: Guess, sheet: Sheet) -> None:
    """What the tokens mean, where `data.values` does not know them by itself."""
    columns = [
        column(name, cells.remove_categories(False) if False in cells.categories else cells)  # no row of a long table
        for name, cells in sheet.columns.items()
        if True not in cells.categories
    ]
    words = label_columns(columns)
    if problems := [
        f"{draft.labels}: attribute {item.name!r}: found {item.kind}, such as {item.examples}, "
        "expected yes, no and missing, such as 1, 0 and NA"
        for item in columns
        if item.kind not in ("labels", "empty") and item not in words
    ]:
        raise UserError(problems, limit=SHOWN)
    states, guessed, blank = likely_states([item.counts for item in columns], {})
    if "negative" not in states.values() and states and draft.data["importer"] != "long_csv":
        text = "no token means no: every label is positive or missing, and nothing can be learned"
        if blank is not None:
            states[blank] = "negative"
            text = f"{no_token_means_no(blank)}; else move {json.dumps(blank)} to missing"
        draft.doubt("data.values", text)
    defaults = meaning_of(Values())
    if all(defaults.get(value_of(token)) == state for token, state in states.items()):
        return
    lists: dict[str, list[str]] = {"positive": [], "negative": [], "missing": []}
    lists |= {"missing": [*draft.data.get("values", {}).get("missing", [])]}
    for token, state in states.items():
        if value_of(token) not in map(value_of, lists[state]):
            lists[state].append(token)
    for state, tokens in Values().model_dump().items():
        if not lists[state] or state == "missing":
            lists[state] += [token for token in tokens if token not in states and token not in lists[state]]
    draft.set("values", lists)
    for text in _doubtful_tokens(states, guessed):
        draft.doubt("data.values", text)
    uncertain = {token for token, state in states.items() if decimal_of(token) == -1 and state == "missing"}
    if lacking := [
        item.name
        for item in columns
        if not uncertain.isdisjoint(item.counts) and "negative" not in {states[token] for token in item.counts}
    ]:
        text = "no negative label is left where -1 is missing; to read it as negative there, write a map per attribute"
        draft.doubt("data.values", f"{listed(lacking)}: {text}")


def _doubtful_tokens(states: Mapping[str, str], guessed: Mapping[str, str]) -> Iterator[str]:
    """What may be wrong about the states of tokens."""
    if guessed:
        reads = [f"{token!r} is read as {'a missing label' if s == 'missing' else s}" for token, s in guessed.items()]
        yield (f"{listed(reads)}, by what stands beside it and how often; move what is wrong to another list")
    for token in (token for token in states if token not in guessed):
        number = decimal_of(token)
        if number == -1 and states[token] == "missing":
            yield (
                f"{token} is read as uncertain, a missing label, because other tokens are negative; if it means "
                "negative and 0 missing, swap them"
            )
        elif number == -1:
            yield f"{token} is read as negative, because no other token beside it is; else move it to missing"


def _images(draft: Guess, sheet: Sheet) -> None:
    """What is to be written about names without suffix, images that are not there, and images in several rows."""
    names, lines = sheet.names.tolist(), sheet.lines.tolist()
    located, there, suffix = fit(names, lines, draft.images)
    if located.problems:
        raise problems_in(draft.labels, located.problems)
    if suffix is not None:
        name, path = next(pair for pair in zip(names, located.paths, strict=True) if pair[1] is not None)
        other = is_image_file(name)
        text = (
            f"the files have another suffix than their names: {name} is {path}"
            if other
            else f"names lack it: {name} is {path}"
        )
        draft.set("suffix", suffix, text, doubt=other)
    if not any(there):
        rows = zip(names, map(str, located.paths), lines, strict=True)
        raise problems_in(draft.labels, image_files.unreadable(rows, draft.images, skip=False))
    absent = [name for name, present in zip(names, there, strict=True) if not present]
    if absent:
        absent = list(dict.fromkeys(absent))  # an image may stand in several rows
        text = f"{len(absent)} of {len(set(names))} listed images are not in the folder: {', '.join(absent[:3])}"
        draft.set("on_bad_image", "skip", text, doubt=True)
    labels, _ = read_labels(sheet.columns, draft.values)
    first = first_rows(located.paths)
    label_rows = Rows(sheet.names, sheet.lines, labels, {}, np.ones(len(names), bool))
    if merging.merge(label_rows, first, "error")[1]:
        repeated = np.isin(first, first[first != np.arange(len(first))])  # rows of images that stand in several rows
        single = len(labels.attributes) > 1 and (labels.positive[repeated].sum(axis=1) == 1).all()
        policy = "any_positive" if single else "agree_or_missing"
        text = "each row names one attribute: a label is positive where any row of the image says so"
        text = text if single else "rows of the same image differ: where they do, the label is missing"
        draft.set("duplicates", policy, f"{text}; the other choice is {OTHER_POLICY[policy]}", doubt=True)


def _group_in_names(draft: Guess, sheet: Sheet) -> None:
    """Patients, videos and the like in the names of images, where no column has them."""
    has_groups = sheet.groups is not None and not all(map(is_missing, sheet.groups.categories))
    if "group" in draft.data or has_groups:
        return
    names: list[str] = sheet.names.tolist()
    if match := PATIENT.search(names[0].replace("\\", "/")):
        in_folder = "/" in match.string[match.end() - 1 :]
        pattern = f"({match[2]}\\d+){'/' if match[3] == '/' else '[^/]*/' if in_folder else ''}"
        groups = groups_by_name(pattern, names)
        if None not in groups and FEWEST_GROUPS <= len({*groups}) < len(groups):
            text = f"{groups[0]} and {len({*groups}) - 1} more in the image names: each stays on one side of the split"
            draft.set("group", {"regex": pattern}, text, doubt=True)
            return
    if stem := common_stem(names):
        text = f"several image names share a stem, such as {' and '.join(stem.examples)}; if such images show the same "
        draft.doubt("data.group", f"{text}thing, write `group: {{regex: {json.dumps(stem.pattern)}}}`")


def _folds(draft: Guess, there: LabelFile) -> None:
    """The split that the images in the folder allow."""
    if draft.split and not _drop_split(draft, there):
        return
    few = len(there.ids) < FEW_IMAGES
    if not few and there.groups is None:
        return
    hashes: list[str | None] = [None] * len(there.ids)
    if few:
        hashes = [file.sha256 if file else None for file in image_files.locate(there, draft.images, "skip")[0]]
    groups = int(splits.components(hashes, there.groups).max()) + 1
    if groups < KFold().folds:
        draft.split = {"scheme": "holdout", "val": 0.25, "test": 0.25}
        number = f"{count(groups, 'group')} of images (equal bytes, or equal group values)"
        text = f"found {number}: too few for folds"
        if groups < FEWEST_GROUPS:
            text = (
                f"found {number} in {count(len(there.ids), 'image')}: they cannot be split, and `validate` refuses "
                f"them, until there are at least {FEWEST_GROUPS}, for training, validation and test rows"
            )
        draft.doubt("split", text)


def _drop_split(draft: Guess, there: LabelFile) -> bool:
    """Drop an official split of which a part has no image in the folder; and whether it is dropped."""
    tokens = {*there.columns[draft.split["column"]]}
    lists = {part: listed for part, listed in draft.split.items() if isinstance(listed, list)}  # a share is no list
    empty = [part for part in ("train", "val", "test") if part in lists and tokens.isdisjoint(lists[part])]
    if not empty:
        return False
    draft.notes[:] = [note for note in draft.notes if note.key.partition(".")[0] != "split"]
    name = draft.split["column"]
    draft.doubt(
        "split", f"the split of column {name!r} is not used: no image of {' and '.join(empty)} is in the folder"
    )
    if "ignore" in registry.options_model(IMPORTERS[draft.data["importer"]]).model_fields:
        draft.data["ignore"] = [*draft.data.get("ignore", []), name]
    draft.split = {}
    return True


def _states(cells: pd.Categorical, meaning: Mapping[str | float, str]) -> dict[str | bool | None, tuple[str, int]]:
    """Token -> (state, rows) of an attribute; a cell without a category is the token None."""
    states: dict[str | bool | None, tuple[str, int]] = {}
    for token, rows in counts_of(cells).items():
        states[token] = (meaning[value_of(token)] if isinstance(token, str) else STATES[token]), rows
    if empty := int((cells.codes < 0).sum()):
        states[None] = "missing", empty
    return states
