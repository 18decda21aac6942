# SPDX-License-Identifier: Apache-2.0
"""Who may log in to the ramdisk, and its clock."""

from __future__ import annotations

import base64
import hashlib
import os
import pty
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.cmd import trust
from bareon.network import answers
from bareon.tests.imageserver import dripping, serving
from bareon.tests.ironicapi import certificate
from bareon.tests.test_callback import ED25519, RSA
from bareon.trust import authorities, clock, keys
from bareon.trust.prepare import prepare

BUILT = 1_700_000_000.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The tree of a ramdisk that was built in 2023."""
    for name in ("proc", "etc", "root", "run/bareon-network"):
        (tmp_path / name).mkdir(parents=True)
    release = tmp_path / "etc/bareon-release"
    release.write_text("bareon==1\n")
    os.utime(release, (BUILT, BUILT))
    return tmp_path


def prepared(root: Path, words: str) -> tuple[bool, list[str], list[float]]:
    """What is found by a command line: whether all is sound, what is said, and the times that the clock is set to."""
    (root / "proc/cmdline").write_text(f"quiet {words}\n")
    said: list[str] = []
    times: list[float] = []
    return prepare(root, said.append, times.append), said, times


def admitted(root: Path) -> list[str]:
    file = root / "root/.ssh/authorized_keys"
    return file.read_text().splitlines() if file.exists() else []


def test_without_a_word_nobody_is_admitted(root: Path) -> None:
    assert prepared(root, "") == (True, [], [])
    assert admitted(root) == []


def test_keys_in_both_forms_beside_that_of_the_build(root: Path) -> None:
    (root / "root/.ssh").mkdir()
    (root / "root/.ssh/authorized_keys").write_text(f"{RSA} build\n")
    encoded = base64.urlsafe_b64encode(RSA.encode()).decode().rstrip("=")
    assert prepared(root, f'bareon.sshkey="{ED25519} me@home" bareon.sshkey={encoded}') == (True, [], [])
    assert admitted(root) == [f"{RSA} build", ED25519, RSA]
    assert prepared(root, f'"bareon.sshkey={ED25519}"')[0]
    assert admitted(root).count(ED25519) == 1


def test_the_file_is_for_root_alone(root: Path) -> None:
    prepared(root, f'bareon.sshkey="{ED25519}"')
    assert (root / "root/.ssh/authorized_keys").stat().st_mode & 0o777 == 0o600
    assert (root / "root/.ssh").stat().st_mode & 0o777 == 0o700


WRONG = {
    "bareon.sshkey=https://example.org/me.keys": "bareon.sshkey: must be the key itself, and not where it is",
    "bareon.sshkey=": "bareon.sshkey: must be base64url of a line of authorized_keys",
    f'bareon.sshkey="command=/bin/sh {ED25519}"': "bareon.sshkey: must begin with the type of the key",
    "bareon.ca=http://example.org/ca.pem": "bareon.ca: http://example.org/ca.pem could come from anybody",
    "bareon.ca=ftp://example.org/ca.pem": "bareon.ca: ftp://example.org/ca.pem must be a URL that begins with http",
    "bareon.ca=https://example.org/ca.pem#sha256=12": "bareon.ca: what stands behind # must be sha256= and 64",
    "bareon.ntp=a,,b": "bareon.ntp=a,,b: nothing is neither the name nor the address of a server",
    "bareon.ntp=-x": "bareon.ntp=-x: -x is neither the name nor the address of a server",
    'bareon.ntp="a iburst"': "bareon.ntp=a iburst: a iburst is neither the name nor the address of a server",
}


@pytest.mark.parametrize("word", WRONG)
def test_a_wrong_word_is_said_and_opens_nothing(root: Path, word: str) -> None:
    sound, (said,), _ = prepared(root, word)
    assert not sound
    assert said.startswith(WRONG[word])
    assert admitted(root) == []


def test_a_wrong_key_leaves_the_others(root: Path) -> None:
    sound, said, _ = prepared(root, f'bareon.sshkey=rubbish! bareon.sshkey="{ED25519}"')
    assert (sound, len(said)) == (False, 1)
    assert admitted(root) == [ED25519]


@pytest.mark.parametrize(
    ("clock_shows", "said"), [(86400.0, "1970-01-02 00:00:00"), (BUILT + 21 * 365.25 * 86400, "2044-11-14 04:13:20")]
)
def test_a_clock_that_cannot_be_right_shows_the_time_of_the_build(
    root: Path, monkeypatch: pytest.MonkeyPatch, clock_shows: float, said: str
) -> None:
    shown = time.gmtime(clock_shows)
    monkeypatch.setattr(time, "time", lambda: clock_shows)
    monkeypatch.setattr(time, "gmtime", lambda: shown)
    sound, lines, times = prepared(root, "")
    assert (sound, times) == (True, [BUILT])
    why = "before this ramdisk was built or 20 years after; it shows the time of that now"
    assert lines == [f"the clock showed {said}, {why}"]


def test_a_clock_that_may_be_right_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: BUILT + 19 * 365.25 * 86400)
    assert prepared(root, "") == (True, [], [])


def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    found: list[list[str]] = []

    def run(argv: list[str], timeout: float) -> None:
        found.append(argv)
        assert timeout > clock.LIMIT

    monkeypatch.setattr(clock, "run", run)
    return found


def test_servers_of_the_command_line_come_before_those_of_dhcp(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = answers.to_text((answers.Answer("eth0", "dhcp", "192.0.2.9", ntp=("192.0.2.123",)),))
    (root / "run/bareon-network/answers.json").write_text(learned)
    found = asked(monkeypatch)
    assert prepared(root, "") == (True, [], [])
    assert prepared(root, "bareon.ntp=ntp.example.org,[2001:db8::123]") == (True, [], [])
    start = ["chronyd", "-q", "-t", "10"]
    assert found == [
        [*start, "server 192.0.2.123 iburst maxsamples 4", "cmdport 0"],
        [
            *start,
            "server ntp.example.org iburst maxsamples 4",
            "server 2001:db8::123 iburst maxsamples 4",
            "cmdport 0",
        ],
    ]


def test_no_answer_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(root))  # no chronyd
    sound, (said,), _ = prepared(root, "bareon.ntp=192.0.2.123")
    assert sound
    assert "and was not set by 192.0.2.123: " in said
    assert "chronyd" in said


def test_the_program(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "proc/cmdline").write_text("bareon.sshkey=x bareon.ntp=-\n")
    assert trust.main(["--root", str(root)]) == 3
    assert [line.partition(": ")[0] for line in capsys.readouterr().err.splitlines()] == ["bareon-ramdisk-trust"] * 2
    (root / "proc/cmdline").write_text("quiet\n")
    assert trust.main(["--root", str(root)]) == 0


def test_a_key_without_quotes_is_base64url() -> None:
    assert keys.parse(base64.urlsafe_b64encode(ED25519.encode()).decode()) == ED25519


def test_an_authority_with_its_digest_is_added_to_the_others(root: Path, tmp_path: Path) -> None:
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True)
    bundle.write_text("the others\n")
    pem = certificate(tmp_path).read_bytes()
    public = pem[pem.index(b"-----BEGIN CERTIFICATE") :]
    digest = hashlib.sha256(public).hexdigest()
    with serving(public) as server:
        assert prepared(root, f"bareon.ca={server.url}#sha256={digest.upper()}") == (True, [], [])
        assert bundle.read_bytes() == b"the others\n\n" + public
        assert prepared(root, f"bareon.ca={server.url}#sha256={digest}") == (True, [], [])  # nothing changes
        sound, (said,), _ = prepared(root, f"bareon.ca={server.url}#sha256={'0' * 64}")
    assert sound
    assert said.startswith("the authority of bareon.ca is not trusted: ")
    assert f"has the SHA-256 {digest}, and not 000" in said
    assert bundle.read_bytes() == b"the others\n\n" + public


def test_what_has_no_certificate_is_not_added(root: Path) -> None:
    digest = hashlib.sha256(b"<html>").hexdigest()
    with serving(b"<html>") as server:
        _, (said,), _ = prepared(root, f"bareon.ca={server.url}#sha256={digest}")
    assert "has no certificate that can be read (PEM)" in said
    assert not (root / "etc/ssl").exists()


def test_what_is_said_is_on_every_console_and_on_none_twice(root: Path) -> None:
    """A console is a terminal; standard error is one of them, as init has it, or another one."""
    (root / "proc/cmdline").write_text("bareon.ntp=-x\n")
    (root / "sys/class/tty/console").mkdir(parents=True)
    (root / "sys/class/tty/console/active").write_text("one two gone\n")
    (root / "dev").mkdir()
    terminals = {}
    for name in ("one", "two", "other"):
        terminals[name], end = pty.openpty()
        (root / "dev" / name).symlink_to(os.ttyname(end))
    for error in ("two", "other"):
        with (root / "dev" / error).open("w") as stream:
            argv = [
                sys.executable,
                "-c",
                "import sys; from bareon.cmd import trust; sys.exit(trust.main())",
                "--root",
                str(root),
            ]
            assert subprocess.run(argv, stderr=stream, timeout=60, check=False).returncode == 3
        for name in {"one", "two", error}:
            said = os.read(terminals[name], 4096).decode()
            assert said.count("bareon-ramdisk-trust: bareon.ntp=-x: -x is neither") == 1, (error, name, said)


def test_authorities_share_a_time_that_no_server_can_lengthen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorities, "SETTINGS", replace(authorities.SETTINGS, total_timeout=2.0))
    started = time.monotonic()
    with dripping(b"HTTP/1.1 200 OK\r\n", b"X") as url:
        words = " ".join(f"bareon.ca={url}{number}#sha256={'0' * 64}" for number in range(9))
        sound, said, _ = prepared(root, words)
    assert sound and time.monotonic() - started < 15
    assert "took longer than " in said[0]
    assert all(line.endswith(" is not asked for: the time for all of them is over") for line in said[1:])


def test_the_ssh_server_waits_for_no_program_that_hangs(tmp_path: Path) -> None:
    start = (Path(__file__).parents[2] / "ramdisk/files/start").read_text()
    ends = start[start.index("timeout --kill-after") :].replace(" 180 ", " 0.1 ")
    (tmp_path / "bareon-ramdisk-trust").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "bareon-ramdisk-trust").chmod(0o755)
    started = time.monotonic()
    done = subprocess.run(
        ["sh"], input=ends, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, text=True, capture_output=True, check=False
    )
    assert time.monotonic() - started < 30
    assert done.stderr == "bareon-ramdisk-trust: ended after three minutes; the SSH server starts all the same\n"
