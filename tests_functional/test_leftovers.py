# SPDX-License-Identifier: Apache-2.0
"""A session of tests leaves nothing behind, however it ends. One that ends by itself says so in its last lines."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from building import wheel
from tests_functional.bench import leftovers

MACHINE = "process qemu-system-x86"
LIMIT = 120.0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_session(number: signal.Signals) -> None:
    before = leftovers.read()
    # As from a keyboard: to the whole group, and to nobody's children elsewhere.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("BAREON_CELL")}
    pytest_ = [sys.executable, "-m", "pytest", "tests_functional", "-k", "unknown_key", "--cells", "1"]
    # Who started this may have it ignored, as shells do in the background.
    command = ["env", "--default-signal=INT", *pytest_]
    session = subprocess.Popen(
        command,
        cwd=wheel.CHECKOUT,
        env=outside,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        deadline = time.monotonic() + LIMIT
        while leftovers.read()[MACHINE] <= before[MACHINE]:
            assert session.poll() is None, session.communicate()[0]
            assert time.monotonic() < deadline, "the session has started no machine"
            time.sleep(0.2)
        os.killpg(session.pid, number)
        session.communicate(timeout=LIMIT)
        assert session.returncode != 0
        assert not leftovers.difference(before)
    finally:
        session.kill()
        session.communicate()


READS = """
import sys
from pathlib import Path
from tests_functional.bench import cell
child = [sys.executable, "-c", "print('inside:', open('/dev/tty').readline())"]
code = cell.run_inside(child, root=Path.cwd(), terminal=True)
print("exit:", code, "outside:", open("/dev/tty").readline())
"""


def test_the_keyboard_is_the_cell_s_while_it_lasts() -> None:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("BAREON_CELL")}
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(wheel.CHECKOUT)
        os.execve(sys.executable, [sys.executable, "-c", READS], outside)
    said = b""
    try:
        os.write(terminal, b"one\ntwo\n")
        while b"outside: two" not in said:
            assert select.select([terminal], [], [], LIMIT)[0], said
            said += os.read(terminal, 1000)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(terminal)
    assert b"inside: one" in said
    assert b"exit: 0" in said


def test_what_is_left_behind_is_found() -> None:
    before = leftovers.read()
    process = subprocess.Popen(["unshare", "--net", "rsync", "--daemon", "--no-detach", "--config=/dev/null"])
    try:
        time.sleep(1)
        found = leftovers.difference(before)
        assert any(line.startswith("net namespaces") for line in found), found
        assert any(line.startswith("process rsync") for line in found), found
    finally:
        process.terminate()
        process.wait()
    assert not leftovers.difference(before)
