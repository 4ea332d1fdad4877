"""`--offline`: whatever asks the network is refused, in this process and in those that it starts."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from aimonk_bench import cli, offline
from aimonk_bench.backbones import weights
from aimonk_bench.config.fields import BackboneConfig
from aimonk_bench.errors import UserError

SOMEWHERE = "192.0.2.1"  # TEST-NET-1: no machine has this address
FAST = 0.2  # seconds


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, as `--offline` makes it, for one test."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv(offline.SETTING, "0")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")  # which would pass connections on
    assert cli.main(["--offline", "list", "schedules"]) == 0
    assert (os.environ["HF_HUB_OFFLINE"], os.environ[offline.SETTING]) == ("1", "1")
    assert "HTTPS_PROXY" not in os.environ


def send() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", (SOMEWHERE, 9))


def send_message() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendmsg([b"x"], [], 0, (SOMEWHERE, 9))


def connect_by_ipv6() -> None:
    with socket.socket(socket.AF_INET6) as one:
        one.connect(("2001:db8::1", 80))


@pytest.mark.parametrize(
    "ask",
    [
        lambda: socket.create_connection((SOMEWHERE, 80), FAST),
        lambda: socket.create_connection(("example.com", 80), FAST),
        lambda: socket.getaddrinfo("example.com", 443),
        lambda: socket.gethostbyname("example.com"),
        lambda: socket.gethostbyaddr(SOMEWHERE),
        lambda: socket.getnameinfo((SOMEWHERE, 80), 0),
        lambda: urllib.request.urlopen("http://example.com", timeout=FAST),
        connect_by_ipv6,
        send,
        send_message,
    ],
)
@pytest.mark.usefixtures("forbidden")
def test_no_connection_leaves_the_machine(ask: Callable[[], object]) -> None:
    with pytest.raises(OSError, match="--offline forbids a connection to"):
        ask()


@pytest.mark.usefixtures("forbidden")
def test_the_machine_itself_is_reached(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 5):
        pass
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))
    assert socket.getaddrinfo("localhost", 80)


def test_without_the_flag_nothing_is_refused(forbidden: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(offline.SETTING)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        error = one.connect_ex((SOMEWHERE, 9))  # sends nothing; an exception of the hook would pass through
    assert error in (0, errno.ENETUNREACH)


@pytest.mark.usefixtures("forbidden")
def test_a_process_that_is_started_obeys_too() -> None:
    code = "import aimonk_bench, socket; socket.create_connection(('192.0.2.1', 80), 0.2)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "--offline forbids a connection to 192.0.2.1" in done.stderr


@pytest.mark.usefixtures("forbidden")
def test_weights_that_are_elsewhere_are_named_and_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*arguments: object) -> None:
        raise AssertionError(f"connected to {arguments}")

    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # read when the hub is imported
    weights._ask.cache_clear()
    for name in ("resnet18", "efficientnet_b0"):
        with pytest.raises(UserError) as failure:
            weights.resolve(BackboneConfig(name=name))
        assert "--offline" in str(failure.value) or "HF_HUB_OFFLINE" in str(failure.value)
    weights._ask.cache_clear()
