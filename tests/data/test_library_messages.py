"""What libraries print while they decode: caught, and told once with the name of an image."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from aimonk_bench.data import library_messages
from aimonk_bench.data.images import decode
from aimonk_bench.data.library_messages import LibraryMessages


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "JPEG")
    return file.getvalue()


def noisy_jpeg() -> bytes:
    """libjpeg: "Corrupt JPEG data: 9 extraneous bytes before marker 0xd9"."""
    data = jpeg()
    return data[:-2] + b"\1" * 9 + data[-2:]


def noisy_png() -> bytes:
    """libpng: "warning: iCCP: ..."; the image itself is whole."""
    file = io.BytesIO()
    Image.effect_noise((16, 16), 50).save(file, "PNG")
    data, body = file.getvalue(), b"ICC\0\0" + zlib.compress(b"no profile")
    chunk = struct.pack(">I", len(body)) + b"iCCP" + body + struct.pack(">I", zlib.crc32(b"iCCP" + body))
    return data[:33] + chunk + data[33:]


def noisy_tiff() -> bytes:
    """libtiff: an unknown field; OpenCV logs it."""
    file = io.BytesIO()
    Image.effect_noise((16, 16), 50).save(file, "TIFF", tiffinfo={65000: "private"})
    return file.getvalue()


@pytest.fixture(autouse=True)
def unprinted(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Our own messages go to `caplog` alone, whatever command an earlier test has run."""
    package = logging.getLogger("aimonk_bench")
    monkeypatch.setattr(package, "handlers", [])
    monkeypatch.setattr(package, "propagate", True)
    caplog.set_level(logging.INFO, "aimonk_bench")


NOISY = {"a.jpg": noisy_jpeg, "b.png": noisy_png, "c.tif": noisy_tiff}


def decoding(data: bytes) -> Callable[[], np.ndarray]:
    return lambda: decode(data, 16, "bilinear")


@pytest.mark.parametrize("name", NOISY)
def test_a_message_is_told_with_the_name_of_its_image(
    name: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    data = NOISY[name]()
    decode(data, 16, "bilinear")
    noise = capfd.readouterr().err
    assert noise.strip()  # or there is nothing to catch
    with LibraryMessages() as messages:
        for image in ("quiet.jpg", name, "quiet.jpg"):
            messages.of(image, decoding(jpeg() if image == "quiet.jpg" else data))
    assert capfd.readouterr().err == ""
    assert caplog.messages
    assert all(text.startswith(f"{name}: ") for text in caplog.messages)
    assert len(caplog.messages) == len(set(caplog.messages)) <= len(noise.splitlines())


def test_each_kind_is_told_once_by_many_threads(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    quiet, loud = jpeg(), noisy_jpeg()
    with LibraryMessages() as messages, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: messages.of(f"{n}.jpg", decoding(loud if n % 10 == 3 else quiet)), range(200)))
    assert capfd.readouterr().err == ""
    (text,) = caplog.messages
    assert text.partition(".")[0].endswith("3")
    assert "Corrupt JPEG data" in text
    assert "20 such messages" in text


def test_an_image_that_is_refused_anyway_is_not_told_twice(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def refused() -> None:
        os.write(2, b"libsomething: broken\n")
        raise ValueError

    with LibraryMessages() as messages, pytest.raises(ValueError):  # noqa: PT011
        messages.of("a.jpg", refused)
    assert (capfd.readouterr().err, caplog.messages) == ("", [])


def test_what_no_image_explains_is_printed_as_it_was(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with LibraryMessages() as messages:
        os.write(2, b"from elsewhere\n")
        messages.of("a.jpg", decoding(jpeg()))
    assert (capfd.readouterr().err, caplog.messages) == ("from elsewhere\n", [])


def test_nothing_is_lost_when_the_block_fails(capfd: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        os.write(2, b"before the end\n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), LibraryMessages() as messages:
        messages.of("a.jpg", interrupted)
    assert capfd.readouterr().err == "before the end\n"
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_python_warnings_belong_to_the_image_that_a_thread_decodes(caplog: pytest.LogCaptureFixture) -> None:
    shown = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: shown.append(str(message))
        with LibraryMessages() as messages:
            thread = threading.Thread(target=lambda: messages.of("a.tif", lambda: warnings.warn("odd", stacklevel=1)))
            thread.start()
            thread.join()
            warnings.warn("ours", stacklevel=1)
            with contextlib.suppress(ZeroDivisionError):
                messages.of("b.tif", lambda: warnings.warn("huge", stacklevel=1) or 1 / 0)
    assert caplog.messages == ["a.tif: UserWarning: odd"]
    assert shown == ["ours"]


def test_notes_of_one_kind_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    with LibraryMessages() as messages:
        for n in range(5):
            messages.add(f"{n}.tif", f"decoded at 1/{n + 2}")
    assert caplog.messages == ["0.tif: decoded at 1/2 (5 such messages)"]


def test_sys_stderr_keeps_the_terminal_while_descriptor_two_is_caught() -> None:
    program = """
import os, sys
from aimonk_bench.data.library_messages import LibraryMessages
with LibraryMessages() as messages:
    print("ours", file=sys.stderr)
    messages.of("a.jpg", lambda: os.write(2, b"noise\\n"))
    os.write(2, b"unexplained\\n")
    print("ours too", file=sys.stderr)
1 / 0
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    assert lines[:4] == ["ours", "ours too", "unexplained", "a.jpg: noise"]
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_a_process_without_stderr() -> None:
    program = "import os; os.close(2); from aimonk_bench.data.library_messages import LibraryMessages as M\n"
    program += "with M() as messages: print(messages.of('a.jpg', lambda: 7))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "7\n")


def test_of_a_million_noisy_images_the_first_are_remembered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(library_messages, "MAX_SUSPECTS", 3)
    data = noisy_jpeg()
    with LibraryMessages() as messages:
        for n in range(20):
            messages.of(f"{n}.jpg", decoding(data))
        assert len(messages._suspects) == 3
    [message] = caplog.messages
    assert message.startswith("0.jpg: Corrupt JPEG data")
    assert message.endswith("(20 such messages)")


def test_outside_its_block_it_collects_what_is_added(caplog: pytest.LogCaptureFixture) -> None:
    """As for predictions that a program draws one by one: nothing may be redirected between them."""
    messages = LibraryMessages()
    assert messages.of("a.jpg", decoding(jpeg())).shape == (16, 16, 3)
    messages.add("a.jpg", "CMYK")
    messages.tell()
    assert caplog.messages == ["a.jpg: CMYK"]
