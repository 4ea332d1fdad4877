"""Files that fsspec reaches, such as ``s3://bucket/images``, as paths: they are read by bytes and never written.

A URL is a `RemotePath` where a local file is a `Path`, so that what reads images and labels need not know which it is.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PosixPath
from typing import IO, Any

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
            OSError: fsspec or a package that it needs is not installed, or the scheme is unknown.
        """
        import fsspec

        try:
            system, path = fsspec.core.url_to_fs(str(self))
        except (ImportError, ValueError) as error:
            raise OSError(f"{error}") from error
        return system, path

    def _kind(self) -> str | None:
        """ "file" or "directory"; None where there is nothing."""
        system, path = self._reached()
        try:
            kind: str = system.info(path)["type"]
        except FileNotFoundError:
            return None
        return kind

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Kind and size; everything else is 0."""
        system, path = self._reached()
        facts = system.info(path)
        return os.stat_result((MODES.get(facts["type"], 0), 0, 0, 0, 0, 0, int(facts.get("size") or 0), 0, 0, 0))

    def exists(self, **options: Any) -> bool:
        """Whether it is there."""
        return self._kind() is not None

    def is_dir(self, **options: Any) -> bool:
        """Whether it is a folder; in an object store, whether an object lies below it."""
        return self._kind() == "directory"

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
        system, path = self._reached()
        file: IO[Any] = system.open(path, "rb")
        return file

    def read_bytes(self) -> bytes:
        """Its content."""
        system, path = self._reached()
        content: bytes = system.cat_file(path)
        return content

    def files_below(self) -> Iterator[str]:
        """The paths of all files below it, with ``/``, in the order of the names."""
        system, path = self._reached()
        root = path.rstrip("/") + "/"
        for name in system.find(path):
            if name.startswith(root):
                yield name[len(root) :]
