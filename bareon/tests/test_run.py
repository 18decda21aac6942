# SPDX-License-Identifier: Apache-2.0
"""Real processes, for what is about processes."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bareon import confine
from bareon.cmd.lock import node_lock
from bareon.errors import CommandError, Locked
from bareon.run import Command, Secret, missing, observed, run


def test_output_and_input() -> None:
    done = run(["cat"], stdin="hello")
    assert (done.stdout, done.code, done.argv) == ("hello", 0, ("cat",))


def test_standard_input_is_closed() -> None:
    assert run(["cat"], timeout=5).stdout == ""


def test_locale_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert "LC_ALL=C\n" in run(["env"]).stdout


def test_an_environment_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    program = "/usr/bin/env"
    assert run([program], env={"A": "b"}, inherit=False).stdout.split() == ["LANG=C", "LC_ALL=C", "TZ=UTC", "A=b"]


def test_a_descriptor_that_a_command_has(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("hello")
    number = os.open(file, os.O_RDONLY)
    assert run(["cat", f"/dev/fd/{number}"], keep=[number]).stdout == "hello"
    with pytest.raises(CommandError, match="No such file"):
        run(["cat", f"/dev/fd/{number}"])
    os.close(number)


def test_what_is_done_before_a_program_starts(tmp_path: Path) -> None:
    assert run(["pwd"], before=lambda: os.chdir(tmp_path)).stdout == f"{tmp_path}\n"
    with pytest.raises(CommandError, match=re.escape("exit code 126: [Errno 2] No such file")):
        run(["touch", str(tmp_path / "started")], before=lambda: os.chdir("/no-such"))
    assert not (tmp_path / "started").exists()


def test_the_end_of_a_long_output_is_kept() -> None:
    done = run(["sh", "-c", "seq 100000; seq 100000 >&2; echo end; echo end >&2"], at_most=1000)
    assert (len(done.stdout), len(done.stderr)) == (1000, 1000)
    assert done.stdout.endswith("\n100000\nend\n")
    assert done.stderr.endswith("\n100000\nend\n")


@pytest.mark.parametrize("command", ["sleep 60", "yes", "exec >&- 2>&-; sleep 60"])
def test_a_command_is_ended_for_a_reason(command: str) -> None:
    with pytest.raises(CommandError, match="was ended: it has written 9 GiB"):
        run(["sh", "-c", command], at_most=1000, check=lambda: "it has written 9 GiB")


def test_failure_tells_everything() -> None:
    with pytest.raises(CommandError) as caught:
        run(["sh", "-c", "echo out; echo first >&2; echo last >&2; exit 3"])
    error = caught.value
    assert (error.code, error.stdout, error.stderr) == (3, "out\n", "first\nlast\n")
    assert str(error) == (
        "sh failed with exit code 3: last (sh -c 'echo out; echo first >&2; echo last >&2; exit 3')"
    )


@pytest.mark.parametrize(
    ("said", "telling"),
    [
        (
            # of GRUB of Fedora and its kin
            "Installing for x86_64-efi platform.\n"
            "grub2-install: error: This utility should not be used for EFI platforms because it does not support UEFI"
            " Secure Boot. If you really wish to proceed, invoke the --force option.\n"
            "Make sure Secure Boot is disabled before proceeding.\n",
            "grub2-install: error: This utility should not be used for EFI platforms because it does not support UEFI"
            " Secure Boot. If you really wish to proceed, invoke the --force option.",
        ),
        ("x: error: one\nx: error: two\nUsage: x\n", "x: error: two"),
        (
            "rsync: [sender] link failed\nrsync error: partial transfer (code 23)\n",
            "rsync error: partial transfer (code 23)",
        ),
        ("no errors: here\nlast\n\n", "last"),
    ],
)
def test_the_line_that_tells_why(said: str, telling: str) -> None:
    assert str(CommandError(["x"], 1, "failed", stderr=said)) == f"x failed: {telling} (x)"


def test_codes_that_are_no_failure() -> None:
    assert run(["sh", "-c", "exit 2"], ok=(0, 2)).code == 2


def test_missing_program() -> None:
    with pytest.raises(CommandError, match="bareon-has-no-such is not installed"):
        run(["bareon-has-no-such"])
    assert missing(["sh", "bareon-has-no-such"]) == ["bareon-has-no-such"]


def test_ended_by_signal() -> None:
    with pytest.raises(CommandError, match="was ended by signal SIGKILL"):
        run(["sh", "-c", "kill -9 $$"])


@pytest.mark.parametrize("streaming", [False, True])
def test_time_limit_ends_the_children_too(tmp_path: Path, streaming: bool) -> None:
    marker = tmp_path / "late"
    script = f"(sleep 1.5; touch {marker}) & sleep 60"
    started = time.monotonic()
    with pytest.raises(CommandError, match=r"was stopped after 0\.3 s"):
        run(["sh", "-c", script], timeout=0.3, on_output=(lambda line: None) if streaming else None)
    assert time.monotonic() - started < 10
    time.sleep(1.6)
    assert not marker.exists()


def test_lines_that_write_over_each_other() -> None:
    lines: list[str] = []
    run(["printf", r"\r1%%\r50%%\r99%%\nthree\r\nfo\rur"], on_output=lines.append)
    assert lines == ["99%", "three", "fo", "ur"]


def test_a_line_is_told_while_the_command_runs(tmp_path: Path) -> None:
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        (tmp_path / line).touch()

    script = r"printf '1\r2\r'; until test -e 2; do sleep 0.05; done; printf '3\r4'"
    run(["sh", "-c", f"cd {tmp_path}; {script}"], timeout=60, on_output=tell)
    assert lines == ["2", "3", "4"]


def test_much_output_on_both_streams() -> None:
    lines: list[str] = []
    script = "import sys\nfor i in range(20000): print(i); print(i, file=sys.stderr)"
    done = run([sys.executable, "-c", script], on_output=lines.append)
    assert (len(lines), len(done.stderr.splitlines())) == (20000, 20000)


@pytest.mark.pain("secrets")
def test_secrets_are_masked_everywhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[Command] = []
    with observed(seen.append), pytest.raises(CommandError) as caught:
        run(["sh", "-c", "test ${#1} = 7 && exit 7", "sh", Secret("hunter2")])
    assert caught.value.code == 7, "the process itself must get the real word"
    assert "hunter2" not in f"{caught.value} {caught.value.argv} {seen} {caplog.text}"
    assert "hunter2" not in f"{Secret('hunter2')} {Secret('hunter2')!r}"
    assert seen[0].argv[-1] == "***"


def test_a_killed_parent_takes_its_command_along(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = f"from bareon.run import run; run(['sh', '-c', 'echo $$ > {pid_file}; exec sleep 60'])"
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        child = _wait_for_pid(pid_file)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        deadline = time.monotonic() + 10
        while _alive(child) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _alive(child)
    finally:
        parent.kill()


@pytest.mark.parametrize(
    "command",
    ["echo $$ > PID; exec sleep 60", "sh -c 'echo $$ > PID; trap : TERM; sleep 60; sleep 60' & wait"],
    ids=["command", "its-child"],
)
def test_a_killed_run_takes_everything_along_before_the_next(tmp_path: Path, command: str) -> None:
    pid_file, lock = tmp_path / "pid", str(tmp_path / "lock")
    command = command.replace("PID", str(pid_file))
    script = f"""
from bareon import confine
from bareon.cmd.lock import node_lock
from bareon.run import run
with node_lock({lock!r}):
    run(["true"])
    run(["sh", "-c", {command!r}])
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        child = _wait_for_pid(pid_file)
        parent.send_signal(signal.SIGKILL)
        parent.communicate(timeout=10)  # nobody has its output open any more
        _wait_for_lock(lock)
        assert not _alive(child)
    finally:
        parent.kill()


def _wait_for_lock(path: str) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(Locked), node_lock(path):
            return
        time.sleep(0.01)
    raise AssertionError(f"the lock is held: {Path(path).read_text()}")


def test_a_run_goes_on_without_its_second_process(tmp_path: Path) -> None:
    before = _children()
    with node_lock(str(tmp_path / "lock")):
        (second,) = _children() - before
        os.kill(second, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while _alive(second) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert run(["echo", "on"]).stdout == "on\n"


def _children() -> set[int]:
    return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()))


def test_what_a_run_leaves_on_purpose_stays(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with node_lock(str(tmp_path / "lock")):
        run(["sh", "-c", f"sleep 60 > /dev/null 2>&1 & echo $! > {pid_file}"])
    child = _wait_for_pid(pid_file)
    time.sleep(0.2)
    assert _alive(child)
    os.kill(child, signal.SIGKILL)


def _wait_for_pid(path: Path) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().strip():
            return int(path.read_text())
        time.sleep(0.05)
    raise AssertionError("the command did not start")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_standard_input_from_a_descriptor(tmp_path: Path) -> None:
    (tmp_path / "input").write_text("from a file")
    with (tmp_path / "input").open("rb") as file:
        assert run(["cat"], source=file.fileno()).stdout == "from a file"


def test_standard_output_to_a_descriptor(tmp_path: Path) -> None:
    with (tmp_path / "output").open("wb") as file:
        assert run(["echo", "there"], sink=file.fileno()).stdout == ""
    assert (tmp_path / "output").read_text() == "there\n"


@pytest.mark.skipif(not confine.is_possible(), reason="this kernel has no Landlock")
def test_what_is_confined_writes_below_its_folder_alone(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        (folder / "deeper").mkdir(parents=True)
        (folder / "file").write_text("as it was")
    (inside / "way").symlink_to(outside)
    tries = "echo x >new; echo x >file; ln file deeper/linked; mv deeper/linked moved; rm moved; mknod fifo p"
    tries += "; rmdir deeper"
    run(["sh", "-c", f"cd {inside}; set -e; {tries}"], confined_to=str(inside))
    assert {x.name for x in inside.iterdir()} == {"new", "file", "fifo", "way"}
    for line in tries.split("; "):
        for place in (outside, inside / "way"):
            with pytest.raises(CommandError):
                run(["sh", "-c", f"cd {place}; {line}"], confined_to=str(inside))
    with pytest.raises(CommandError):
        run(["ln", str(outside / "file"), str(inside / "taken")], confined_to=str(inside))
    assert {x.name for x in outside.iterdir()} == {"deeper", "file"}
    assert (outside / "file").read_text() == "as it was"


def test_what_cannot_be_confined_does_not_start(tmp_path: Path) -> None:
    if confine.is_possible():
        with pytest.raises(CommandError, match=r"exit code 126: .*absent"):
            run(["true"], confined_to=str(tmp_path / "absent"))
