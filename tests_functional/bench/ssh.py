# SPDX-License-Identifier: Apache-2.0
"""Commands and files over SSH, through one shared connection per node."""

from __future__ import annotations

import os
import shlex
import tempfile
import time
from pathlib import Path

from building.process import Completed, ProgramError, run
from tests_functional.bench import cell

#: ssh's own exit status when the connection, not the command, failed.
CONNECTION_FAILED = 255
#: Seconds between two tries while a node boots.
PAUSE = 0.3


class UnreachableError(Exception):
    """SSH did not answer within the time allowed."""


class Ssh:
    """The root account of one node."""

    def __init__(self, address: str, key: Path) -> None:
        self.address = address
        self.key = key
        # Short: a Unix socket's path has at most 107 characters.
        self._sockets = Path(tempfile.mkdtemp(prefix="ssh-", dir="/run"))

    def command_line(self) -> list[str]:
        """Return the ssh command, without a remote command, with which a person gets in."""
        return ["ssh", *self._options(), f"root@{self.address}"]

    def enter_line(self) -> str:
        """Return a shell command that gets in from outside the cell."""
        # The cell's first process is the child of unshare, which is the child of who asked for it.
        outside = os.environ[cell.PARENT_VARIABLE]
        first = f"$(pgrep --parent $(pgrep --parent {outside} unshare))"
        return f"nsenter --target {first} --net --mount {shlex.join(self.command_line())}"

    def _options(self) -> list[str]:
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "5",
            "IdentitiesOnly": "yes",
            # Nodes are made anew all the time; their host keys tell nothing.
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            # One key exchange per node: on an emulated processor each costs about a second. The
            # plainest algorithms for the same reason.
            "ControlMaster": "auto",
            "ControlPath": str(self._sockets / "s"),
            "ControlPersist": "yes",
            "KexAlgorithms": "curve25519-sha256",
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "6",
        }
        pairs = [f"{name}={value}" for name, value in options.items()]
        return [
            "-F",
            "none",
            "-i",
            str(self.key),
            *(word for pair in pairs for word in ("-o", pair)),
        ]

    def run(self, command: str, *, timeout: float = 60, check: bool = True, stdin: str = "") -> Completed:
        """Run a shell command on the node; ``timeout`` is in seconds.

        :raises UnreachableError: when the connection failed
        :raises ProgramError: when it did not end in time or, with ``check``, failed
        """
        done = run([*self.command_line(), command], timeout=timeout, check=False, stdin=stdin)
        if done.exit_code == CONNECTION_FAILED:
            raise UnreachableError(f"{self.address}: {done.stderr.strip() or 'connection lost'}")
        if check and done.exit_code != 0:
            said = done.stdout + done.stderr
            raise ProgramError(["(on the node)", command], f"exit {done.exit_code}", said)
        return done

    def put(self, text: str, path: str) -> None:
        """Write a file on the node."""
        self.run(f"cat > {shlex.quote(path)}", stdin=text)

    def wait(self, seconds: float) -> None:
        """Try until a command runs on the node.

        :raises UnreachableError: with the last error, after that many seconds
        """
        deadline = time.monotonic() + seconds
        while True:
            self.forget()
            try:
                self.run("true", timeout=15)
            except (UnreachableError, ProgramError) as error:
                if time.monotonic() > deadline:
                    raise UnreachableError(f"no SSH within {seconds:g} s: {error}") from error
                time.sleep(PAUSE)
            else:
                return

    def forget(self) -> None:
        """End the shared connection; the next command makes a new one."""
        if (self._sockets / "s").exists():
            run([*self.command_line(), "-O", "exit"], timeout=10, check=False)
            (self._sockets / "s").unlink(missing_ok=True)
