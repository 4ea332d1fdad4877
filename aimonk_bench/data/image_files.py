"""Image files: find and hash the images that a label file lists."""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from aimonk_bench.data.image_names import EXAMPLES, files_below
from aimonk_bench.data.labels import LabelFile, Labels
from aimonk_bench.data.tokens import is_image_file
from aimonk_bench.errors import UserError, count

SHOWN = 20  # problems of a label file, or items of a note, that are printed; the rest is counted


@dataclass(frozen=True)
class ImageFile:
    """A listed image that exists: its name in the label file, its file, the hash of its bytes, its line."""

    image_id: str
    path: Path
    sha256: str
    line: int


@dataclass(frozen=True)
class Skipped:
    """A listed image that cannot be read, and the reason."""

    image_id: str
    line: int
    reason: str


def problems_in(path: Path, problems: Iterable[tuple[int, str]], others: Sequence[str] = ()) -> UserError:
    """The error about (line, message) of a label file in the order of the lines, one for each message.

    Args:
        others: messages without a line.
    """
    lines_of: dict[str, list[int]] = {}
    for line, text in sorted(problems, key=lambda problem: problem[0]):
        lines_of.setdefault(text, []).append(line)
    texts = (f"{path}:{lines[0]}: {text}{_more(lines)}" for text, lines in lines_of.items())
    return UserError([*others, *texts], limit=SHOWN)


def _more(lines: Sequence[int]) -> str:
    """Where the same problem stands too."""
    if len(lines) == 1:
        return ""
    shown = ", ".join(map(str, lines[1:4])) + (", ..." if len(lines) > 4 else "")
    return f" (and in {count(len(lines) - 1, 'more line')}: {shown})"


def locate(
    listed: LabelFile, folder: Path, on_bad_image: Literal["error", "skip"]
) -> tuple[list[ImageFile | None], list[Skipped]]:
    """Find and hash every listed image.

    Returns:
        [N] the file of each row, None where it cannot be read; and the rows that cannot, with their reasons.

    Raises:
        UserError: the folder does not exist, or none of its images can be read; under "error" also every image that
            is missing or unreadable, with file and line.
    """
    rows = zip(listed.ids, listed.paths, listed.lines.tolist(), strict=True)
    files = _examine(rows, folder, _sha256)
    skipped = [file for file in files if isinstance(file, Skipped)]
    if skipped and (on_bad_image == "error" or len(skipped) == len(files)):
        raise problems_in(listed.path, _problems(skipped, len(files), folder, skip=on_bad_image == "skip"))
    return [file if isinstance(file, ImageFile) else None for file in files], skipped


def by_reason(skipped: Iterable[Skipped]) -> list[list[Skipped]]:
    """Images in groups of one message each: those of a reason that many share are one group, the others stand alone.

    Reasons that differ in numbers alone, such as the value of a pixel, are the same.
    """
    groups = collections.defaultdict(list)
    for item in skipped:
        groups[re.sub("[0-9.]+", "#", item.reason)].append(item)
    parts = ([items] if len(items) > EXAMPLES else [[item] for item in items] for items in groups.values())
    return sorted(itertools.chain.from_iterable(parts), key=lambda items: items[0].line)


def unreadable(listed: Iterable[tuple[str, str, int]], folder: Path, *, skip: bool) -> list[tuple[int, str]]:
    """(line, message) of the images that are missing or no regular files, see `by_reason`; nothing is opened.

    Args:
        listed: (name, path below the folder, line) of each image.
        folder: the image folder.
        skip: they are left out anyway (``data.on_bad_image``).

    Raises:
        UserError: the folder does not exist.
    """
    files = _examine(listed, folder, lambda path: "")
    return _problems([file for file in files if isinstance(file, Skipped)], len(files), folder, skip=skip)


def others(items: Sequence[Skipped]) -> str:
    """Which further images share the reason of the first."""
    if len(items) == 1:
        return ""
    examples = ", ".join(f"line {item.line} ({item.image_id})" for item in items[1:EXAMPLES])
    return f" (and {len(items) - 1} further images, such as {examples})"


def _problems(skipped: Sequence[Skipped], listed: int, folder: Path, *, skip: bool) -> list[tuple[int, str]]:
    """(line, message) of the images that cannot be read, by reason; one message if that is every image listed."""
    hint = _suffix_hint(skipped, folder)
    if len(skipped) < max(listed, 2):
        groups = by_reason(skipped)
        texts = [f"image {i[0].image_id} is {i[0].reason} (looked in {folder}){others(i)}" for i in groups]
        fix = "" if skip else "; copy such files there, or leave them out: write under data: `on_bad_image: skip`"
        place = next((n for n, items in enumerate(groups) if hint and items[0].reason == "missing"), 0)
        texts[place : place + 1] = [text + (hint or fix) for text in texts[place : place + 1]]
        return [(items[0].line, text) for items, text in zip(groups, texts, strict=True)]
    names = ", ".join(item.image_id for item in skipped[:EXAMPLES])
    files = ", ".join(itertools.islice(files_below(folder), EXAMPLES))
    fix = "set data.images to the folder that the names are relative to, or data.id to the column of the names"
    text = (
        f"none of the {listed} images can be read in {folder}: the label file names {names}; "
        f"the folder holds {f'files such as {files}' if files else 'no file'}"
        f"{hint or f'; {fix}'}"
    )
    reasons = collections.Counter(item.reason for item in skipped)
    if set(reasons) != {"missing"}:
        text += f" ({', '.join(f'{number} {reason}' for reason, number in reasons.items())})"
    return [(skipped[0].line, text)]


def _suffix_hint(skipped: Iterable[Skipped], folder: Path) -> str:
    """The line of YAML that finds images under another suffix; empty if there are none."""
    names = (PurePosixPath(item.image_id.replace("\\", "/")) for item in skipped if item.reason == "missing")
    stems = {name.stem for name in names if is_image_file(name.name) or not name.suffix}
    paths = map(PurePosixPath, files_below(folder)) if stems else ()
    suffixes = collections.Counter(path.suffix for path in paths if path.stem in stems and is_image_file(path.name))
    if not suffixes:
        return ""
    suffix, number = suffixes.most_common(1)[0]
    names_there = "one of these names is" if number == 1 else f"{number} of these names are"
    return f'; {names_there} there as {suffix}: if those are the images, write `data: {{suffix: "{suffix}"}}`'


def fingerprint(listed: LabelFile, files: Sequence[ImageFile | None], truth: Labels | None = None) -> str:
    """The SHA-256 (hex) of a data set.

    It covers the attributes, the truth if there is one, and of each row the id, the observed targets, the group and the
    hash of the image, or "missing". It covers neither values under NA, paths, line numbers nor the label format.

    Args:
        listed: N rows.
        files: [N] the image of each row, None where it cannot be read.
        truth: [N, A], observed where it is stated.
    """
    digest = hashlib.sha256(json.dumps(listed.labels.attributes).encode())
    groups = listed.groups or (None,) * len(listed.ids)
    rows = zip(listed.labels.targets.tolist(), listed.labels.observed.tolist(), strict=True)
    for name, (targets, observed), group, file in zip(listed.ids, rows, groups, files, strict=True):
        states = [target if seen else None for target, seen in zip(targets, observed, strict=True)]
        digest.update(json.dumps([name, states, group, file.sha256 if file else "missing"]).encode())
    if truth is None:
        return digest.hexdigest()
    stated = np.where(truth.observed, truth.targets, -1).astype(np.int8)
    return hashlib.sha256(digest.hexdigest().encode() + stated.tobytes()).hexdigest()


def _examine(
    listed: Iterable[tuple[str, str, int]], folder: Path, read: Callable[[Path], str]
) -> list[ImageFile | Skipped]:
    if not folder.is_dir():
        raise UserError(f"data.images: found {folder}, expected a folder that exists")

    def examined(item: tuple[str, str, int]) -> ImageFile | Skipped:
        name, path_below, line = item
        path = folder / path_below
        try:
            # opening a named pipe would wait for ever
            if not stat.S_ISREG(path.stat().st_mode):
                return Skipped(name, line, "not a regular file")
            return ImageFile(name, path, read(path), line)
        except FileNotFoundError:
            return Skipped(name, line, "missing")
        except OSError as error:
            return Skipped(name, line, f"unreadable: {error.strerror or error}")

    with ThreadPoolExecutor() as pool:
        return list(pool.map(examined, listed))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
