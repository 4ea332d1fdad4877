"""Files that fsspec reaches, such as ``s3://bucket/images``, as paths: they are read by bytes and never written.

A URL is a `RemotePath` where a local file is a `Path`, so that what reads images and labels need not know which it is.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PosixPath
from typing import IO, Any, TypeVar

T = TypeVar("T")

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # of two letters at least, as C:// is a drive
MODES = {"file": stat.S_IFREG, "directory": stat.S_IFDIR}


def path_of(text: str) -> Path:
    """The path that a text means: a URL of fsspec, ``file://`` included, or a local path."""
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return RemotePath(text) if URL.match(text) else Path(text)


class RemotePath(PosixPath):
    """A file or a folder that fsspec reaches; its first part is the scheme of the URL."""

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    def _reached(self) -> tuple[Any, str]:
        """The file system, and the path on it.

        Raises:
            OSError: fsspec or a package that it needs is not installed, the scheme is unknown, or what opens it fails.
        """
        import fsspec

        try:
            system, path = fsspec.core.url_to_fs(str(self))
        except (ImportError, ValueError) as error:  # of fsspec, in words
            raise OSError(f"{error}") from error
        except OSError:
            raise
        except Exception as error:  # each file system of fsspec has exceptions of its own
            raise OSError(f"{type(error).__name__}: {error}") from error
        return system, path

    def _ask(self, question: Callable[[Any, str], T]) -> T:
        """The answer of the file system.

        Raises:
            OSError: it cannot be reached, or refuses.
        """
        system, path = self._reached()
        try:
            return question(system, path)
        except FileNotFoundError as error:
            cause = error.__cause__  # over HTTP a file is not found, either, where there is no connection
            if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
                raise OSError(f"{type(cause).__name__}: {cause}") from error
            raise
        except OSError:
            raise
        except Exception as error:  # each file system of fsspec has exceptions of its own
            raise OSError(f"{type(error).__name__}: {error}") from error

    def _kind(self) -> str | None:
        """ "file" or "directory"; None where there is nothing."""
        try:
            return self._ask(lambda system, path: str(system.info(path)["type"]))
        except FileNotFoundError:
            return None

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Kind and size; everything else is 0."""
        facts = self._ask(lambda system, path: system.info(path))
        return os.stat_result((MODES.get(facts["type"], 0), 0, 0, 0, 0, 0, int(facts.get("size") or 0), 0, 0, 0))

    def exists(self, **options: Any) -> bool:
        """Whether it is there."""
        return self._kind() is not None

    def is_dir(self, **options: Any) -> bool:
        """Whether it is a folder; in an object store, whether an object lies below it; over HTTP, whether it has links.

        Over HTTP everything that is there is a file, and some of these are folders.
        """
        kind = self._kind()
        return kind == "directory" or (kind == "file" and self._ask(lambda system, path: bool(system.isdir(path))))

    def is_file(self, **options: Any) -> bool:
        """Whether it is a file."""
        return self._kind() == "file"

    def open(self, mode: str = "r", *arguments: Any, **options: Any) -> IO[Any]:  # type: ignore[override]
        """Open it for reading bytes.

        Raises:
            OSError: it cannot be read, or ``mode`` is another one.
        """
        if mode != "rb":
            raise OSError(f"{self}: found the mode {mode!r}, expected 'rb'")
        file: IO[Any] = self._ask(lambda system, path: system.open(path, "rb"))
        return file

    def read_bytes(self) -> bytes:
        """Its content."""
        content: bytes = self._ask(lambda system, path: system.cat_file(path))
        return content

    def files_below(self) -> Iterator[str]:
        """The paths of all files below it, with ``/``, in the order of the names."""
        root = self._reached()[1].rstrip("/") + "/"
        for name in self._ask(lambda system, path: system.find(path)):
            if name.startswith(root):
                yield name[len(root) :]
