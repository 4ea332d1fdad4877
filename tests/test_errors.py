"""Exceptions in one sentence, with what the user can do."""

from __future__ import annotations

import errno
import gc
import tempfile
import weakref
from pathlib import Path

import pytest

from aimonk_bench.errors import RunFailed, UserError, release, sentence, traceback_of, write_traceback


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UserError(["a.csv:3: found x", "a.csv:4: found y"]), ["a.csv:3: found x; a.csv:4: found y"]),
        (RunFailed("loss is not finite"), ["loss is not finite"]),
        (
            OSError(errno.ENOSPC, "No space left on device", "/out/a.npz"),
            ["/out/a.npz", "output folder", "AIMONK_BENCH_CACHE"],
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), ["quota", "output folder"]),
        (MemoryError(), ["MemoryError", "train.batch_size"]),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), ["CUDA", "train.batch_size"]),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), ["CUBLAS", "train.batch_size"]),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), ["CUDA", "start the command again"]),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), ["CPUAllocator", "train.batch_size"]),
        (ZeroDivisionError("planted"), ["ZeroDivisionError: planted"]),
        (KeyError(), ["KeyError"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_exception_is_one_line_with_its_fix(error: Exception, expected: list[str]) -> None:
    line = sentence(error)
    assert len(line.splitlines()) == 1
    assert all(part in line for part in expected)
    assert line.count("(fix: ") == (len(expected) > 1)


@pytest.mark.parametrize("kind", [UserError, RunFailed, ValueError])
def test_control_characters_of_files_and_plugins_are_escapes(kind: type[Exception]) -> None:
    """In what is printed, in the reason of a failed run, and in the table that shows it."""
    error = kind("caf\udce9\x1b[31m: wrong\nexpected ö")
    assert sentence(error).encode().decode().replace("ValueError: ", "") in (
        "caf\\udce9\\x1b[31m: wrong\nexpected ö",
        "caf\\udce9\\x1b[31m: wrong expected ö",
    )
    if kind is not ValueError:
        assert str(error) == "caf\\udce9\\x1b[31m: wrong\nexpected ö"


def test_what_was_being_done_stands_in_the_line_and_a_long_text_is_one_line() -> None:
    error = RuntimeError("Given\n  input\n size")
    error.add_note("while encoding")
    assert sentence(error) == "RuntimeError: Given input size, while encoding"


def test_a_traceback_is_written_or_it_is_said_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    message = write_traceback(ZeroDivisionError("planted"))
    (log,) = tmp_path.iterdir()
    assert message == f"traceback: {log}"
    assert log.read_text() == "ZeroDivisionError: planted\n"
    assert "could not be written" in write_traceback(ZeroDivisionError(), tmp_path / "no" / "folder.txt")


def test_what_a_failed_run_had_in_memory_is_released(tmp_path: Path) -> None:
    class Tensor:
        pass

    held: list[weakref.ref[Tensor]] = []

    def compute() -> None:
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        raise MemoryError

    def run() -> None:
        activations = Tensor()
        held.append(weakref.ref(activations))
        try:
            compute()
        except MemoryError as error:
            raise RunFailed("no memory") from error

    with pytest.raises(RunFailed) as failed:
        run()
    assert all(tensor() is not None for tensor in held)
    release(failed.value)
    gc.collect()
    assert [tensor() for tensor in held] == [None, None]
    write_traceback(failed.value, tmp_path / "traceback.txt")
    text = (tmp_path / "traceback.txt").read_text()
    assert "in compute" in text
    assert "in run" in text


def test_a_message_that_cannot_be_formatted_or_is_too_long_is_said() -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    assert sentence(Unprintable()) == "Unprintable: its message cannot be formatted (ValueError)"
    text = sentence(ValueError("x" * 5000))
    assert len(text) < 1100
    assert text.endswith(" ... (5,000 characters)")


class Ending(BaseException):
    """No `Exception`."""

    def __str__(self) -> str:
        raise SystemExit(3)


def test_what_somebody_else_put_into_an_exception_ends_nothing() -> None:
    assert sentence(Ending()) == "Ending: its message cannot be formatted (SystemExit)"
    assert "Ending" in traceback_of(Ending())
    error = ValueError("planted")
    error.__notes__ = [1, object(), "in\n\x1b[31mb"]  # type: ignore[list-item]
    assert sentence(error) == "ValueError: planted, in \\x1b[31mb"
    error.__notes__ = "text"  # type: ignore[assignment]
    assert sentence(error) == "ValueError: planted"
    assert sentence(OSError([], "planted")) == "OSError: [Errno []] planted"
