"""Files that fail: the n-th operation that writes below a folder raises, or ends the process.

An operation is a call of `open` for writing, a write, a flush to the disk, a rename, a deletion, a new folder, a
truncation, a change of times, or a statement of SQLite that writes. What would change nothing, such as the deletion of
what is not there, is no operation. SQLite, torch and safetensors write by themselves, so there a call is one operation;
SQLite's own are tested by its authors.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["ENOSPC", "EIO", "EROFS", "kill"]
KINDS: tuple[Kind, ...] = ("ENOSPC", "EIO", "EROFS", "kill")
LASTING = ("ENOSPC", "EROFS")  # a disk that is full or read-only stays so
FREEING = ("unlink", "remove", "rmdir", "utime")  # what works on a full disk
SQLITE = {
    "ENOSPC": "database or disk is full",
    "EIO": "disk I/O error",
    "EROFS": "attempt to write a readonly database",
}
PATHS = ("mkdir", "unlink", "remove", "rmdir", "replace", "rename", "link", "symlink", "truncate", "utime")
NEEDLESS: dict[str, Callable[[Any], bool]] = {
    "mkdir": lambda path: os.path.lexists(path) or not os.path.lexists(Path(path).parent),
    **{name: lambda path: not os.path.lexists(path) for name in ("unlink", "remove", "rmdir")},
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass
class Faults:
    """Counts operations below a folder, and makes one of them fail.

    Attributes:
        root: the folder.
        kind: of the failure.
        at: the number of the operation, from 1; 0 for none.
        each_write: every write is an operation; else the writes to one file in a row are one.
        count: operations so far.
        failed: the operation that failed.
    """

    root: Path
    kind: Kind
    at: int
    each_write: bool = False
    count: int = 0
    failed: str | None = None
    _last: tuple[str, str] | None = None

    def is_due(self, operation: str, path: object) -> bool:
        """Count an operation; whether it has to fail."""
        if not self._is_below(path) or (operation in NEEDLESS and NEEDLESS[operation](path)):
            return False
        last, self._last = self._last, (operation, str(path))
        if self.failed is not None:
            return self.kind in LASTING and not (self.kind == "ENOSPC" and operation in FREEING)
        self.count += operation != "write" or self.each_write or self._last != last
        if self.count == self.at:
            self.failed = f"{operation} {path}"
        return self.failed is not None

    def fail(self, path: object) -> None:
        """Raise the error, or end the process."""
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        number = getattr(errno, self.kind)
        raise OSError(number, os.strerror(number), str(path))

    def check(self, operation: str, path: object) -> None:
        """Count an operation, which fails if it has to."""
        if self.is_due(operation, path):
            self.fail(path)

    def _is_below(self, path: object) -> bool:
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        return isinstance(path, (str, os.PathLike)) and Path(path).absolute().is_relative_to(self.root)

    def install(self) -> None:
        """Replace the functions that write, for the rest of this process."""
        real_open, real_os_open, faults = io.open, os.open, self

        class Raw(io.FileIO):
            def write(self, content: Any) -> int:
                if faults.is_due("write", self.name):
                    super().write(bytes(content)[: len(content) // 2])
                    faults.fail(self.name)
                return super().write(content)

            def truncate(self, size: int | None = None) -> int:
                faults.check("truncate", self.name)
                return super().truncate(size)

        def faulty_open(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **options: Any) -> Any:
            writes = set(mode) & set("wax+") and not isinstance(file, int)
            if not writes or not faults._is_below(file) or options.get("opener") or "opener" in rest:
                return real_open(file, mode, buffering, *rest, **options)
            faults.check("open", file)
            raw = Raw(file, mode.replace("b", "").replace("t", ""))
            if buffering == 0:
                return raw
            buffered: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, *rest, **options)

        def faulty_os_open(path: Any, flags: int, *rest: Any, **options: Any) -> int:
            if flags & WRITING and options.get("dir_fd") is None:
                faults.check("open", path)
            return real_os_open(path, flags, *rest, **options)

        def on_paths(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def faulty(path: Any, *rest: Any, **options: Any) -> Any:
                folder = options.get("dir_fd")
                whole = path if folder is None else Path(os.readlink(f"/proc/self/fd/{folder}")) / path
                faults.check(name, whole)
                return real(path, *rest, **options)

            return faulty

        builtins.open = io.open = faulty_open  # type: ignore[assignment]
        os.open = faulty_os_open
        for name in (*PATHS, "fsync", "ftruncate", "write"):
            setattr(os, name, on_paths(name, getattr(os, name)))
        self._install_sqlite()
        self._install_native_writers()

    def _install_sqlite(self) -> None:
        real, faults = sqlite3.connect, self

        class Connection(sqlite3.Connection):
            place = ""

            def _check(self, operation: str) -> None:
                try:
                    faults.check(operation, self.place)
                except OSError as error:
                    raise sqlite3.OperationalError(SQLITE[faults.kind]) from error

            def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
                if not sql.startswith("SELECT"):
                    self._check("execute")
                return super().execute(sql, *rest)

            def executemany(self, sql: str, *rest: Any) -> sqlite3.Cursor:
                self._check("executemany")
                return super().executemany(sql, *rest)

            def __exit__(self, kind: Any, *rest: Any) -> Any:
                if kind is None:
                    try:
                        self._check("commit")
                    except sqlite3.OperationalError:
                        self.rollback()
                        raise
                return super().__exit__(kind, *rest)

        def connect(place: Any, *rest: Any, **options: Any) -> sqlite3.Connection:
            connection = real(place, *rest, factory=Connection, **options)
            connection.place = str(place)
            return connection

        sqlite3.connect = connect  # type: ignore[assignment]

    def _install_native_writers(self) -> None:
        """What writes by code that is not Python's: half a file, where it has to fail."""
        import torch

        from aimonk_bench.records import weights

        def halved(real: Callable[..., Any]) -> Callable[..., Any]:
            def faulty(content: Any, path: Any, *rest: Any, **options: Any) -> None:
                due = self.is_due("save", path)
                real(content, path, *rest, **options)
                if due:
                    os.truncate(path, os.stat(path).st_size // 2)
                    self.fail(path)

            return faulty

        torch.save, weights.save_file = halved(torch.save), halved(weights.save_file)  # type: ignore[assignment]
