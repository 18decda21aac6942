# SPDX-License-Identifier: Apache-2.0
"""bareon-ironic-callback as a ramdisk starts it, against Ironic's API on loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bareon.cmd import callback
from bareon.tests.ironicapi import MAC, TOKEN, UUID, Ironic, Request, certificate, serving
from bareon.tests.test_callback import ED25519, RSA, encoded, interface

PROGRAM = (sys.executable, "-c", "import sys; from bareon.cmd.callback import main; sys.exit(main())")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The tree of a ramdisk, as far as the program looks at it."""
    for name in ("proc", "root/.ssh", "etc/ssh", "var/log", "run"):
        (tmp_path / name).mkdir(parents=True)
    interface(tmp_path / "sys/class/net", "eth0", MAC)
    (tmp_path / "etc/ssh/ssh_host_ed25519_key.pub").write_text(f"{ED25519} root@bareon\n")
    for name in ("authorized_keys", "authorized_keys2"):
        (tmp_path / "root/.ssh" / name).write_text("of the builder\n")
    return tmp_path


def told(root: Path, url: str, more: str = "") -> None:
    (root / "proc/cmdline").write_text(f"BOOT_IMAGE=x ipa-api-url={url} bareon-key={encoded(RSA)} {more}\n")


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}


def once(root: Path, *more: str) -> subprocess.CompletedProcess[str]:
    argv = [*PROGRAM, "--root", str(root), "--once", "--lookup_timeout", "0.01", *more]
    return subprocess.run(argv, env=environment(), capture_output=True, text=True, timeout=60, check=False)


def log(root: Path) -> str:
    return (root / "var/log/bareon-ironic-callback.log").read_text()


def test_one_heartbeat(root: Path) -> None:
    with serving(Ironic(), certificate(root)) as ironic:
        told(root, ironic.url, f"ipa-ca-file={root}/IP-127.0.0.1.pem")
        done = once(root, "--ssh-port", "2222")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [
        "bareon-ironic-callback: the conductor's key, and no other, may log in as root",
        f"bareon-ironic-callback: this is node {UUID} of 127.0.0.1",
        "bareon-ironic-callback: 127.0.0.1 took a heartbeat",
    ]
    (heartbeat,) = ironic.heartbeats
    assert heartbeat["callback_url"] == "https://127.0.0.1:2222"
    assert heartbeat["agent_verify_ca"] == ED25519
    assert heartbeat["agent_version"].startswith("bareon-")
    assert {path.name: path.read_text() for path in (root / "root/.ssh").iterdir()} == {
        "authorized_keys": f"{RSA} conductor\n"
    }
    assert "this is node" in log(root)


def test_the_key_is_there_before_the_first_heartbeat(root: Path) -> None:
    def look(request: Request) -> None:
        seen.append((request.method, (root / "root/.ssh/authorized_keys").read_text()))

    seen: list[tuple[str, str]] = []
    with serving(Ironic(on_request=look)) as ironic:
        told(root, ironic.url)
        assert once(root).returncode == 0
    assert seen == [("GET", f"{RSA} conductor\n"), ("POST", f"{RSA} conductor\n")]


@contextlib.contextmanager
def running(root: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([*PROGRAM, "--root", str(root)], env=environment(), stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_until_sigterm(root: Path) -> None:
    """SIGUSR1, sent to the process that the file names, is a heartbeat at once. The token is seen nowhere."""

    def count(request: Request) -> None:
        if request.method == "POST":
            came.release()

    came = threading.Semaphore(0)
    with serving(Ironic(on_request=count)) as ironic:
        told(root, ironic.url)
        with running(root) as process:
            assert came.acquire(timeout=60)
            file = root / "run/bareon-ironic-callback.pid"
            assert int(file.read_text()) == process.pid
            os.kill(process.pid, signal.SIGUSR1)  # the next one were due in 50 to 100 seconds
            assert came.acquire(timeout=30)
            for name in ("cmdline", "environ"):
                assert TOKEN.encode() not in Path(f"/proc/{process.pid}/{name}").read_bytes()
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=30)
    assert process.returncode == 143
    assert not file.exists()
    assert said.endswith("bareon-ironic-callback: ended by SIGTERM\n")
    assert TOKEN not in said and TOKEN not in log(root)
    assert ironic.requests[0].method == "GET" and len(ironic.heartbeats) == 2


def test_started_anew(root: Path) -> None:
    with serving(Ironic()) as ironic:
        told(root, ironic.url)
        assert [once(root).returncode for _ in range(2)] == [0, 0]
        assert [heartbeat["agent_token"] for heartbeat in ironic.heartbeats] == [TOKEN, TOKEN]
        (root / "run/bareon/ironic-token.json").unlink()
        done = once(root)
    assert done.returncode == 6
    assert done.stderr.splitlines()[-1] == (
        f"bareon-ironic-callback: no node was found within 0.01 s: 127.0.0.1 has told the token of node {UUID}"
        " before, and tells it once: boot the node by Ironic again"
    )


def test_an_insecure_api_is_warned_of(root: Path) -> None:
    with serving(Ironic(), certificate(root)) as ironic:
        told(root, ironic.url, "ipa-insecure=1")
        done = once(root)
    assert done.returncode == 0
    assert "ipa-insecure: the API's certificate is not checked, so whoever answers may be anybody" in done.stderr


@pytest.mark.parametrize(
    ("url", "more", "code", "line"),
    [
        ("ironic", "", 3, "ipa-api-url: ironic must begin with http:// or https://"),
        (
            "http://a",
            "bareon-key=x",
            3,
            "bareon-key: is there twice on the kernel's command line, with two values: leave one",
        ),
        ("http://a", "ipa-agent-token=hush\x07", 3, "ipa-agent-token: must be printable ASCII without blanks"),
        ("https://a", "ipa-ca-file=/nowhere", 4, "ipa-ca-file: /nowhere cannot be read: No such file or directory"),
        (
            "https://a",
            "ipa-ca-file=/etc/hostname",
            3,
            "ipa-ca-file: /etc/hostname has no certificate that can be read (PEM)",
        ),
    ],
)
def test_wrong_parameters(root: Path, url: str, more: str, code: int, line: str) -> None:
    told(root, url, more)
    done = once(root)
    assert (done.returncode, done.stderr) == (code, f"bareon-ironic-callback: {line}\n")
    assert list((root / "root/.ssh").iterdir()) == []  # not the builder's key either
    assert "hush" not in log(root)


def test_a_machine_that_ironic_has_not_booted_keeps_its_keys(root: Path) -> None:
    """Whoever calls the program by mistake is not shut out."""
    (root / "proc/cmdline").write_text("root=/dev/sda1 quiet\n")
    assert once(root).returncode == 3
    assert (root / "root/.ssh/authorized_keys").read_text() == "of the builder\n"


def test_no_host_key(root: Path) -> None:
    told(root, "http://127.0.0.1:1")
    (root / "etc/ssh/ssh_host_ed25519_key.pub").unlink()
    done = once(root)
    assert done.returncode == 4
    assert "ssh-keygen -A makes them" in done.stderr


@pytest.mark.parametrize(
    "option", ["--ssh_port=0", "--ssh_port=65536", "--ssh_port=x", "--lookup_timeout=nan", "--lookup_timeout=-1", "x"]
)
def test_wrong_options(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert callback.main([option]) == 2
    assert "usage: bareon-ironic-callback" in capsys.readouterr().err


def test_nothing_slow_is_loaded() -> None:
    """It runs beside the deployment for as long as that takes, in the memory of the ramdisk."""
    script = (
        "import sys; from bareon.cmd import callback;"
        "from bareon.callback import api, caller, connection, key, network, parameter, source;"
        "print(*{name.split('.')[0] for name in sys.modules} & {'oslo_config', 'oslo_log', 'stevedore', 'requests',"
        " 'urllib3', 'jsonschema', 'tenacity', 'yaml'})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
