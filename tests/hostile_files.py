"""Files that somebody damaged or made up: mutations of real ones, and limits for what reads them."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FULL = bool(os.environ.get("AIMONK_BENCH_FULL"))
SECONDS = 2.0  # of processor time that one file may take
BYTES = 2 << 30  # of address space that one file may take: 4 times what the largest image that is decoded needs
HOSTILE = settings(
    max_examples=int(os.environ.get("AIMONK_BENCH_EXAMPLES", 20_000)) if FULL else 200,
    deadline=None,
    derandomize=not FULL,  # the check must not depend on chance
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
# Numbers that lengths, counts and offsets in files do not expect.
ODD = [
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\0" * 4,
    b"\xff" * 4,
    b"\xff\xff\xff\x7f",
    b"\x7f\xff\xff\xff",
    b"\xff" * 8,
]
ODD_TEXTS = [
    *(b"\n", b"\r", b"\t", b",", b";", b'"', b"'", b"{", b"}", b"[", b"]", b":", b"|", b" ", b"-", b"0", b"1", b"NA"),
    *(b"nan", b"1e999", b"-1", b"9" * 400, b"null", b"true", b"~", b"&a", b"*a", b"!!python/object", b"<<: *a", b"#"),
    *("\ufeff".encode(), "\u2028".encode(), "\xe9".encode("latin-1"), b"[" * 60, b"{" * 60, b"../" * 9, b"\x1b[31m"),
]


class TookTooLong(BaseException):
    """A file took more than `SECONDS`; no handler of the code that reads it catches this."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Limit the processor time and the address space of the block.

    Raises:
        AssertionError: it took too long; Hypothesis looks for the smallest such file.
    """

    def stop(number: int, frame: object) -> None:
        raise TookTooLong

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, stop)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, before[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    except TookTooLong:
        raise AssertionError(f"took more than {SECONDS} s") from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGPROF, handler)


@st.composite
def mutated(draw: st.DrawFn, originals: Mapping[str, bytes], text: bool = False) -> tuple[str, bytes]:
    """The name of one of these files, and its content with one to eight changes.

    Args:
        text: changes are made of what stands in texts. Of an archive (.xlsx) a member is changed, too.
    """
    name = draw(st.sampled_from(sorted(originals)))
    content = originals[name]
    if content.startswith(b"PK") and draw(st.booleans()):
        return name, draw(_repacked(content))
    return name, draw(_changed(content, ODD_TEXTS if text else ODD))


@st.composite
def _changed(draw: st.DrawFn, content: bytes, odd: list[bytes]) -> bytes:
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 8))):
        start = draw(st.integers(0, max(0, len(changed) - 1)))
        end = min(len(changed), start + draw(st.sampled_from([1, 1, 1, 2, 4, 8, 30, 1 << 20])))
        match draw(st.sampled_from(["replace", "replace", "odd", "odd", "insert", "delete", "repeat", "move", "cut"])):
            case "replace":
                changed[start : start + 1] = bytes([draw(st.integers(0, 255))])
            case "odd":
                number = draw(st.sampled_from(odd))
                changed[start : start + len(number)] = number
            case "insert":
                changed[start:start] = draw(st.sampled_from(odd))
            case "delete":
                del changed[start:end]
            case "repeat":
                changed[start:start] = bytes(changed[start : min(end, start + 4096)]) * draw(
                    st.sampled_from([1, 2, 50])
                )
            case "move":
                place = draw(st.integers(0, len(changed)))
                changed[place:place] = changed[start : min(end, start + 4096)]
            case "cut":
                del changed[start:]
    return bytes(changed)


@st.composite
def _repacked(draw: st.DrawFn, content: bytes) -> bytes:
    """An archive with a member changed, so that its checksums are right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = draw(st.sampled_from(sorted(members)))
    members[name] = draw(_changed(members[name], ODD_TEXTS))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return packed.getvalue()
