"""What libraries say while they decode images: caught, and told once with the name of an image.

libpng, libjpeg, libtiff and OpenCV write to file descriptor 2, from whichever thread decodes. The descriptor is
redirected to a file for as long as images are decoded; Python's own ``sys.stderr`` keeps the terminal. A decode during
which that file grows is a suspect. Afterwards each kind of message is told once, with an image that causes it again
when it is decoded alone. Whatever no image explains is printed as it was.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, BinaryIO, Self, TextIO, TypeVar

from aimonk_bench.errors import printable

logger = logging.getLogger(__name__)

STDERR = 2
MAX_SUSPECTS = 10_000  # images that are remembered, of a million
MAX_TRIES = 8  # images that are decoded again for one kind of message
# "[ WARN:0@0.032] global grfmt_tiff.cpp:123 TIFF_Warning " before a message of OpenCV
_PREFIX = re.compile(r"^\[ *\w+:\d+@[\d.]+\] global \S+ \S+ ")
_NUMBER = re.compile(r"0x[0-9a-f]+|\d+")
_TURN = threading.RLock()  # there is one descriptor 2
T = TypeVar("T")


class LibraryMessages:
    """A block in which images are decoded, by any number of threads.

    Args:
        tell: False where the same images are decoded before or afterwards too, and their messages told there.

    Attributes:
        told: kind of message -> (text, name of the first image, number of such messages).
    """

    def __init__(self, *, tell: bool = True) -> None:
        self._tell = tell
        self.told: dict[str, tuple[str, str, int]] = {}
        self._suspects: list[tuple[str, Callable[[], object], int, int]] = []
        self._decoding = threading.local()
        self._lock = threading.Lock()
        self._open = contextlib.ExitStack()
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        self._open.enter_context(_TURN)
        self._file = self._open.enter_context(_redirected())
        show, warnings.showwarning = warnings.showwarning, self._warned
        self._show = show
        self._open.callback(setattr, warnings, "showwarning", show)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        file, text = self._file, b""
        if file is not None:
            file.seek(0)
            text = file.read()
        with self._open:
            self._file = None
        # `text` outlives the file
        self._explain(text, again=kind is None)
        if self._tell:
            self.tell()

    def tell(self) -> None:
        """Log what is told of the images; the end of the block does it."""
        for message, name, count in self.told.values():
            logger.warning("%s: %s%s", printable(name), message, f" ({count} such messages)" if count > 1 else "")

    def of(self, name: str, decode: Callable[[], T]) -> T:
        """Decode an image; ``decode`` may be called once more, when the block ends."""
        before, self._decoding.warnings = self._size(), []
        try:
            result = decode()
            for text in self._decoding.warnings:  # of an image that is refused, the reason is enough
                self.add(name, text)
            return result
        finally:
            self._decoding.warnings = None
            if (after := self._size()) > before and len(self._suspects) < MAX_SUSPECTS:
                self._suspects.append((name, decode, before, after))

    def add(self, name: str, message: str, number: int = 1) -> None:
        """Tell something about an image; of the same kind of message, numbers aside, only the first is told."""
        with self._lock:
            text, first, count = self.told.get(_kind(message), (message, name, 0))
            self.told[_kind(message)] = text, first, count + number

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size if self._file else 0

    def _warned(self, message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        """A Python warning: of the image that this thread decodes, else shown as usual."""
        caught = getattr(self._decoding, "warnings", None)
        if caught is None:
            self._show(message, category, *place, **more)
        else:
            caught.append(f"{category.__name__}: {message}")

    def _explain(self, text: bytes, *, again: bool) -> None:
        """Find an image for each kind of message in ``text``; print the others."""
        explained: dict[str, str | None] = {}  # kind of message -> the image; None if that image is refused anyway
        lines = [_line(line) for line in text.splitlines()]
        suspects: dict[str, list[tuple[str, Callable[[], object]]]] = {}
        for name, decode, start, end in self._suspects if again else ():
            for kind in {_kind(_line(line)) for line in text[start:end].splitlines()}:
                suspects.setdefault(kind, []).append((name, decode))
        for kind, images in suspects.items():
            for name, decode in images[:MAX_TRIES]:
                if kind in explained:
                    break
                kinds, refused = _alone(decode)
                explained |= {other: None if refused else name for other in kinds if explained.get(other) is None}
        unexplained: list[bytes] = []
        for raw, line in zip(text.splitlines(keepends=True), lines, strict=True):
            if _kind(line) not in explained:
                unexplained.append(raw)
            elif cause := explained[_kind(line)]:
                self.add(cause, line)
        if any(raw.strip() for raw in unexplained):
            os.write(STDERR, b"".join(unexplained))


@contextlib.contextmanager
def _redirected() -> Iterator[BinaryIO | None]:
    """Send descriptor 2 to a temporary file, and ``sys.stderr`` to where descriptor 2 led; None if there is none."""
    try:
        terminal = os.dup(STDERR)
    except OSError:  # a service without stderr, where nobody would read a message
        yield None
        return
    before = sys.stderr
    try:
        with tempfile.TemporaryFile() as file:
            apart = stderr_apart()
            os.dup2(file.fileno(), STDERR)
            try:
                if apart is not None:
                    sys.stderr = apart
                yield file
            finally:
                if apart is not None:
                    sys.stderr = before
                    apart.close()
                os.dup2(terminal, STDERR)
    finally:
        os.close(terminal)


def stderr_apart() -> TextIO | None:
    """A stream to where ``sys.stderr`` leads, on a descriptor of its own; None if ``sys.stderr`` is not on 2."""
    stream = sys.stderr
    try:
        if stream.fileno() != STDERR:
            return None
    except (OSError, ValueError, AttributeError):  # a test or a notebook has put something else there
        return None
    stream.flush()
    return os.fdopen(os.dup(STDERR), "w", buffering=1, encoding=stream.encoding, errors=stream.errors)


def _alone(decode: Callable[[], object]) -> tuple[set[str], bool]:
    """The kinds of messages that a decode causes alone, and whether it fails."""
    refused = False
    with _redirected() as file:
        try:
            decode()
        except Exception:  # its reason was reported when it failed for the first time
            refused = True
        assert file is not None
        file.seek(0)
        return {_kind(_line(line)) for line in file.read().splitlines()}, refused


def _line(line: bytes) -> str:
    return _PREFIX.sub("", line.decode(errors="replace")).strip()


def _kind(message: str) -> str:
    return _NUMBER.sub("#", message)
