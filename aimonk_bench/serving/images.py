"""The images that a command line means: files, folders, globs and names on standard input, one after another.

Nothing is collected: a folder of a million images is read while its first images are predicted.
"""

from __future__ import annotations

import collections
import glob
import itertools
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import BinaryIO

import numpy as np

from aimonk_bench.data.tokens import is_image_file
from aimonk_bench.errors import UserError, count

STDIN = "-"
PATIENCE = 0.05  # seconds without a name on standard input, after which those that have come are predicted
SHOWN = 5  # suffixes in a message


@dataclass(frozen=True, eq=False)
class Item:
    """One image to predict.

    Attributes:
        name: in the row of its prediction.
        path: its file, or
        pixels: uint8 [size, size, 3], or
        error: why there is nothing to predict.
    """

    name: str
    path: Path | None = None
    pixels: np.ndarray | None = None
    error: str | None = None


@dataclass
class Listing:
    """The image files that the words of a command line mean, in order; iterate it once.

    A file is itself, whatever its suffix. A folder is all image files below it, by name, without hidden files and
    folders; links are followed, but into no folder twice. A glob that is no file is what it matches, by name. ``-`` is
    the names on standard input, one a line, with a None where the next name has not come yet. A file that does not
    exist is an item, too: its row says so.

    Attributes:
        words: of the command line.
        stdin: where ``-`` reads; None if that is not among the words.
        ignored: suffix -> number of files in folders that are no image files.
        empty: words that mean no image, and what was found there instead.
        total: images so far.

    Raises:
        UserError: ``-`` stands there twice.
    """

    words: Sequence[str]
    stdin: BinaryIO | None = None
    ignored: collections.Counter[str] = field(default_factory=collections.Counter)
    empty: list[str] = field(default_factory=list)
    total: int = 0

    def __post_init__(self) -> None:
        if list(self.words).count(STDIN) > 1:
            raise UserError("PATH: found - twice, expected it once: standard input can be read once")

    def __iter__(self) -> Iterator[Item | None]:
        """The images."""
        for word in self.words:
            before, ignored = self.total, self.ignored.total()
            for item in self._items(word):
                self.total += item is not None
                yield item
            if self.total == before:
                self.empty.append(_nothing(word, self.ignored.total() - ignored))

    @property
    def note(self) -> str | None:
        """Which files in folders were ignored; None for none."""
        if not self.ignored:
            return None
        kinds = ", ".join(f"{suffix} {number}" for suffix, number in self.ignored.most_common(SHOWN))
        more = ", ..." if len(self.ignored) > SHOWN else ""
        return f"{count(self.ignored.total(), 'file')} in folders ignored, as no image files: {kinds}{more}"

    def _items(self, word: str) -> Iterator[Item | None]:
        if word == STDIN:
            assert self.stdin is not None
            return _arriving(self.stdin)
        if os.path.isdir(word):
            return self._below(word, set())
        if os.path.lexists(word) or not glob.has_magic(word):
            return iter([Item(word, Path(word))])
        return self._matching(word)

    def _matching(self, pattern: str) -> Iterator[Item]:
        """What a glob matches, each path once: ``**/a*`` may match a folder and a file in it."""
        everything = pattern.endswith(("**", os.path.join("**", "*")))  # what is in the folders is matched, too
        yielded = set()
        for path in sorted(_matches(pattern), key=lambda path: PurePath(path).parts):
            is_folder = os.path.isdir(path)
            if is_folder and everything:
                continue
            for item in self._below(path, set()) if is_folder else [Item(path, Path(path))]:
                if item.name not in yielded:
                    yielded.add(item.name)
                    yield item

    def _below(self, folder: str, seen: set[tuple[int, int]]) -> Iterator[Item]:
        """The image files below a folder, if it is not one of those that were seen: a link may lead back to one."""
        try:
            state = os.stat(folder)
            with os.scandir(folder) as entries:
                listed = sorted((entry.name, entry.is_dir()) for entry in entries)
        except OSError as error:
            yield Item(folder, error=f"this folder cannot be read: {error.strerror}")
            return
        if (state.st_dev, state.st_ino) in seen:
            self.ignored["a folder that is linked twice"] += 1
            return
        seen.add((state.st_dev, state.st_ino))
        for name, is_folder in listed:
            path = os.path.join(folder, name)
            if name.startswith("."):
                self.ignored["hidden"] += 1
            elif is_folder:
                yield from self._below(path, seen)
            elif is_image_file(name):
                yield Item(path, Path(path))
            else:
                self.ignored[os.path.splitext(name)[1].lower() or "no suffix"] += 1


def _matches(pattern: str) -> Iterator[str]:
    """The paths that a glob matches. As in `glob`, ``**`` is any number of folders that are not hidden.

    Unlike `glob`, it enters no folder twice: there, links to a folder above multiply the paths without end.
    """
    before, recursive, after = _parted(pattern)
    if not recursive:
        yield from glob.iglob(pattern)
        return
    for start in glob.iglob(before) if before else [""]:
        for folder in _folders(start, set()):
            if after:
                yield from _matches(os.path.join(glob.escape(folder), after))
            else:
                yield from glob.iglob(os.path.join(glob.escape(folder), "*"))


def _parted(pattern: str) -> tuple[str, bool, str]:
    """What stands before the first ``**`` of a glob, whether there is one, and what stands after it."""
    parts = pattern.split(os.sep)
    if "**" not in parts:
        return pattern, False, ""
    place = parts.index("**")
    before = os.sep.join(parts[:place]) or (os.sep if place else "")
    after = itertools.dropwhile("**".__eq__, parts[place + 1 :])  # several in a row are one
    return before, True, os.sep.join(part for part in after if part)


def _folders(folder: str, seen: set[tuple[int, int]]) -> Iterator[str]:
    """A folder and those below it, without hidden ones and those that were seen; one that cannot be read is the end."""
    try:
        state = os.stat(folder or os.curdir)
        with os.scandir(folder or os.curdir) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError:  # not a folder, or not to be read: `glob` matches nothing there either
        return
    if (state.st_dev, state.st_ino) not in seen:
        seen.add((state.st_dev, state.st_ino))
        yield folder
        for name in names:
            yield from _folders(os.path.join(folder, name), seen)


def number_of_images(words: Sequence[str]) -> int | None:
    """How many images the words mean; None where standard input is among them."""
    if STDIN in words:
        return None
    return sum(1 for _ in Listing(words))


def _nothing(word: str, ignored: int) -> str:
    """What stands in the place of images."""
    if word == STDIN:
        return "standard input: found no name, expected names of images, one a line"
    if not os.path.isdir(word):
        return f"{word}: found no file that it matches"
    return f"{word}: found {count(ignored, 'file')}, none of them an image file by its suffix (.jpg, .png, .tif ...)"


def unreadable(error: OSError | None) -> UserError:
    """The error about standard input that cannot be read; None if it is closed."""
    return UserError(f"-: standard input cannot be read: {error.strerror if error else 'it is closed'}")


def _arriving(stdin: BinaryIO) -> Iterator[Item | None]:
    """The names on standard input; None where the next one has not come within `PATIENCE`."""
    lines: queue.Queue[bytes | OSError | None] = queue.Queue(maxsize=1000)

    def read() -> None:
        try:
            for line in stdin:
                lines.put(line)
            lines.put(None)
        except OSError as error:
            lines.put(error)

    # a daemon: nobody can wake a thread that waits for a line, and the process must be able to end
    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=PATIENCE)
        except queue.Empty:
            yield None  # the results of the names so far are handed over before the wait begins
            line = lines.get()
        if isinstance(line, OSError):
            raise unreadable(line) from line
        if line is None:
            return
        if name := os.fsdecode(line.rstrip(b"\r\n")):
            yield Item(name, Path(name))
