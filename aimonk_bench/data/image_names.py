"""Image names: which file of the image folder each name in a label file means.

A name that is there as written costs one look at the file system. Only where one is not there, the folder is walked,
once, and the name is compared with the files by the end of its path, whatever their letter case and Unicode form. A
name without suffix fits the image files of that stem.
"""

from __future__ import annotations

import collections
import functools
import os
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from aimonk_bench.data.tokens import is_image_file
from aimonk_bench.remote import RemotePath

EXAMPLES = 3  # in a message
OUTSIDE = "the file is outside the image folder; set data.images to a folder that holds all images"


@dataclass(frozen=True)
class ImagePaths:
    """The files that N image names mean.

    Attributes:
        paths: [N] normal path below the image folder, with ``/``. Names of one file have equal paths. A name without
            a file has the path that it states, a name in ``problems`` None.
        problems: (line, message) of the names that cannot be a path below the folder, and of those that fit several
            files.
        notes: at most one: how many names are not written as their files, and in what they differ.
    """

    paths: list[str | None]
    problems: list[tuple[int, str]]
    notes: list[str]


def resolve(names: Sequence[str], lines: Sequence[int], folder: Path, suffix: str | None = None) -> ImagePaths:
    """The files that the names of a label file mean.

    Args:
        names: [N], as the label file writes them; blanks at both ends mean nothing.
        lines: [N] of the label file, for messages.
        folder: the image folder. If it does not exist, every name has the path that it states.
        suffix: of the files, where names may lack it or have another one (``data.suffix``).
    """
    resolution = _Resolution(_Folder(folder), suffix)
    first: dict[str, int] = {}  # a name that stands in many rows is resolved once
    for name, line in zip(names, lines, strict=True):
        if name not in first:
            first[name] = len(first)
            resolution.add(name.strip(), line)
    result = resolution.result()
    return replace(result, paths=[result.paths[first[name]] for name in names])


@dataclass(frozen=True)
class _Match:
    """A file that fits a name.

    Attributes:
        path: of the file, below the folder.
        differences: in what the name differs from it.
        loose: only the ends of both paths agree; their folders contradict each other.
    """

    path: str
    differences: tuple[str, ...] = ()
    loose: bool = False


class _Folder:
    """The image folder; its files are listed when they are first asked for."""

    def __init__(self, root: Path) -> None:
        self.root, self._prefix = root, str(root)
        self._listed = isinstance(root, RemotePath)  # one request lists many files
        self._roots = os.path.abspath(root), os.path.realpath(root)
        self.name = _folded(os.path.basename(self._roots[0]))
        self._real = functools.cache(os.path.realpath)
        self.holds_folder = functools.cache(lambda path: (root / path).is_dir())

    def holds(self, path: str) -> bool:
        """Whether there is a file at this path below the folder; once the files are listed, no longer asked on disk."""
        return path in self._files if self._listed else os.path.isfile(f"{self._prefix}/{path}")

    @functools.cached_property
    def by_name(self) -> dict[str, list[str]]:
        """The paths of all files by their folded last part."""
        return self._grouped(posixpath.basename)

    @functools.cached_property
    def by_stem(self) -> dict[str, list[str]]:
        """The paths of the image files by their folded last part without suffix."""
        return self._grouped(lambda path: _stem(posixpath.basename(path)), images_only=True)

    def _grouped(self, key: Callable[[str], str], *, images_only: bool = False) -> dict[str, list[str]]:
        groups = collections.defaultdict(list)
        for path in self._files:
            if not images_only or is_image_file(path):
                groups[_folded(key(path))].append(path)
        return groups

    @functools.cached_property
    def _files(self) -> dict[str, None]:
        self._listed = True
        return dict.fromkeys(files_below(self.root))

    def _inside(self, place: str) -> str | None:
        """An absolute path as one below the folder; None if it is elsewhere."""
        for path in (place, os.path.join(self._real(os.path.dirname(place)), os.path.basename(place))):
            for root in self._roots:
                if path.startswith(root + os.sep):
                    return path[len(root) + 1 :].replace(os.sep, "/")
        return None

    def below(self, name: str) -> tuple[str, bool]:
        """A name as a normal path below the folder, ``a/../b.jpg`` as ``b.jpg``; links are not followed.

        Of an absolute path in another place, such as another machine, that is the path without its root: its end may
        fit a file.

        Returns:
            the path, and whether it is such an absolute one.

        Raises:
            ValueError: the path leaves the folder or is the folder itself, or an existing file elsewhere.
        """
        path = posixpath.normpath(name)
        drive = path[:2] if re.match("[A-Za-z]:", path) else ""
        if drive or path.startswith(("/", "..")):
            place = os.path.normpath(os.path.join(self._roots[0], path))
            if not (drive and os.sep == "/") and (inside := self._inside(place)):
                return inside, False
            if os.path.isabs(path) and os.path.exists(path):
                raise ValueError(OUTSIDE)
        absolute = bool(drive) or path.startswith("/")
        path = path.removeprefix(drive).lstrip("/")
        if path.partition("/")[0] in ("", ".", ".."):
            raise ValueError("the path leaves the image folder or is the folder itself")
        return path, absolute


@dataclass
class _Resolution:
    """The names of one label file, one after the other."""

    folder: _Folder
    suffix: str | None
    paths: list[str | None] = field(default_factory=list)
    unusable: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    completed: int = 0
    differing: dict[tuple[str, ...], list[tuple[str, str]]] = field(default_factory=dict)
    ambiguous: list[tuple[int, str, list[str]]] = field(default_factory=list)
    loose: dict[str, list[tuple[int, int, str, _Match]]] = field(default_factory=dict)

    def add(self, name: str, line: int) -> None:
        """Find the file of one name."""
        row = len(self.paths)
        self.paths.append(None)
        try:
            matches, stated = self._matches(name)
        except ValueError as error:
            self.unusable.setdefault(str(error), []).append((line, name))
            return
        self.paths[row] = stated
        if len(matches) > 1:
            self.paths[row] = None
            self.ambiguous.append((line, name, [match.path for match in matches]))
        elif matches and matches[0].loose:
            self.loose.setdefault(matches[0].path, []).append((row, line, name, matches[0]))
        elif matches:
            self._take(row, name, matches[0])

    def result(self) -> ImagePaths:
        """The paths, once all names are added."""
        taken = set(self.paths) if self.loose else set()
        problems = [problem for reason, rows in self.unusable.items() for problem in _told(reason, rows)]
        for path, fits in self.loose.items():
            if path in taken:  # another name states that file: those that merely resemble it are missing
                continue
            if len({_folded(str(self.paths[row])) for row, *_ in fits}) > 1:
                names = " and ".join(f"{name} (line {line})" for _, line, name, _ in fits[:EXAMPLES])
                problems.append((fits[0][1], f"images {names}: only one file resembles them, {path}"))
                for row, *_ in fits:
                    self.paths[row] = None
                continue
            for row, _, name, match in fits:
                self._take(row, name, match)
        if self.ambiguous:
            problems.append(self._ambiguity())
        return ImagePaths(self.paths, problems, [*self._notes()])

    def _take(self, row: int, name: str, match: _Match) -> None:
        self.paths[row] = match.path
        if match.differences:
            self.differing.setdefault(match.differences, []).append((name, match.path))

    def _matches(self, name: str) -> tuple[list[_Match], str]:
        """The files that fit a name, one unless it is missing or ambiguous, and the path that it states."""
        if not name:
            raise ValueError("the name of the image is empty")
        if not name.isprintable() and any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name):
            raise ValueError("the name contains a control character")
        differences: tuple[str, ...] = ()
        if "\\" in name and not self.folder.holds(name):
            name, differences = name.replace("\\", "/"), ("backslashes",)
        stated, absolute = self.folder.below(name)
        if absolute:
            differences += ("an absolute path",)
        matches = self._matching(stated, differences)
        if absolute and not matches:
            raise ValueError(f"the path is absolute, and no file in {self.folder.root} fits it")
        return matches, stated

    def _matching(self, stated: str, differences: tuple[str, ...]) -> list[_Match]:
        """The files that fit a path."""
        if self.suffix and self.folder.holds(stated + self.suffix):
            self.completed += 1
            return [_Match(stated + self.suffix, differences)]
        if self.folder.holds(stated):
            return [_Match(stated, differences)]
        if not self.folder.holds_folder(""):
            return []
        last = _folded(posixpath.basename(stated))
        if self.suffix and (candidates := self.folder.by_name.get(last + _folded(self.suffix))):
            self.completed += 1
            return self._best(stated + self.suffix, candidates, differences)
        if candidates := self.folder.by_name.get(last):
            return self._best(stated, candidates, differences)
        if self.suffix and is_image_file(stated):
            replaced = _stem(stated) + self.suffix
            candidates = self.folder.by_name.get(_folded(posixpath.basename(replaced)), [])
            return self._best(replaced, candidates, (*differences, "suffix")) if candidates else []
        if self.suffix is None and (candidates := self.folder.by_stem.get(last)):
            return self._best(stated, candidates, (*differences, "a missing suffix"), stems=True)
        return []

    def _best(
        self, stated: str, candidates: Sequence[str], differences: tuple[str, ...], *, stems: bool = False
    ) -> list[_Match]:
        """Of files with the same last part those that agree best with the whole path."""
        scores: dict[str, tuple[bool, bool, int, bool]] = {}
        parts = stated.split("/")
        folded = [_folded(part) for part in parts]
        for path in candidates:
            other = (_stem(path) if stems else path).split("/")
            common = _common_end(folded, [_folded(part) for part in other])
            whole_name, whole_file = common == len(parts), common == len(other)
            close = whole_name or (whole_file and folded[-common - 1] == self.folder.name)
            exact = _composed(parts[-common:]) == _composed(other[-common:])
            scores[path] = (whole_name and whole_file, close, common, exact)
        highest = max(scores.values())
        if not highest[0] and len(parts) > 1 and self.folder.holds_folder(posixpath.dirname(stated)):
            return []  # the folder that the name states is there, and the file is not in it
        matches = []
        for path, score in scores.items():
            if score == highest:
                same_folder, close, common, exact = score
                other = (_stem(path) if stems else path).split("/")
                signs = () if parts[-common:] == other[-common:] else ("Unicode form" if exact else "letter case",)
                matches.append(_Match(path, (*differences, *signs, *(() if same_folder else ("folder",))), not close))
        return matches

    def _ambiguity(self) -> tuple[int, str]:
        """One problem for all names that fit several files."""
        texts = [f"{name} is {' or '.join(paths[:EXAMPLES])} (line {line})" for line, name, paths in self.ambiguous]
        more = f" and {len(texts) - EXAMPLES} more" if len(texts) > EXAMPLES else ""
        line, name, paths = self.ambiguous[0]
        suffix = posixpath.splitext(paths[0])[1]
        lacks_suffix = self.suffix is None and not _folded(name).endswith(_folded(suffix))
        fix = f' or, because names lack their suffix, say `data: {{suffix: "{suffix}"}}`' if lacks_suffix else ""
        text = f"image {name} fits several files: {' or '.join(paths[:EXAMPLES])}"
        if len(texts) > 1:
            text = f"image {name}: {len(texts)} names fit several files: {'; '.join(texts[:EXAMPLES])}{more}"
        return line, f"{text}; write the path below {self.folder.root}{fix}"

    def _notes(self) -> Iterator[str]:
        """What is said once about all names that are not written as their files."""
        parts = [
            f"{len(names)} in {' and '.join(differences)} ({names[0][0]} is {names[0][1]})"
            for differences, names in self.differing.items()
        ]
        if parts:
            total = sum(map(len, self.differing.values()))
            yield f"{total} of {len(self.paths)} image names differ from their files: {', '.join(parts)}"
        if self.suffix and not self.completed and not parts:
            yield f"data.suffix {self.suffix} completes no image name: the key can go"


def files_below(folder: Path) -> Iterator[str]:
    """The paths of all files below a folder, with ``/``, in the order of the directory; links to folders are followed.

    A folder that may not be read, such as ``lost+found``, holds nothing that could be used.
    """
    if isinstance(folder, RemotePath):
        yield from folder.files_below()
        return
    seen = set()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(folder / below) as entries:
                for entry in entries:
                    path = below + entry.name
                    if not entry.is_dir():
                        yield path
                        continue
                    state = entry.stat()
                    if (state.st_dev, state.st_ino) not in seen:  # a link may lead back to a folder above
                        seen.add((state.st_dev, state.st_ino))
                        waiting.append(path + "/")
        except PermissionError:
            continue


def _told(reason: str, rows: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """(line, message) of names that share a reason: one of each if they are few, else one of all."""
    texts = [(line, name if name.isprintable() else repr(name)) for line, name in rows]
    if len(rows) <= EXAMPLES:
        return [(line, f"image {name}: {reason}" if name else reason) for line, name in texts]
    line, name = texts[0]
    examples = ", ".join(f"line {line} ({name})" for line, name in texts[1:EXAMPLES])
    return [(line, f"{f'image {name}: ' if name else ''}{reason}; so it is in {len(rows)} rows, such as {examples}")]


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _composed(parts: Sequence[str]) -> list[str]:
    return [unicodedata.normalize("NFC", part) for part in parts]


def _stem(path: str) -> str:
    return posixpath.splitext(path)[0]


def _common_end(one: Sequence[str], other: Sequence[str]) -> int:
    """How many parts at the end of two paths are equal."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
