# SPDX-License-Identifier: Apache-2.0
"""A machine that has booted the ramdisk, without a machine: an SSH server, and what sends heartbeats.

What bareon-provision would do to disks, ``standin_provision`` does not; what it decides, it does decide, for the
disks of a file of node facts.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from building import wheel
from building.process import run
from tests_functional.bench.conductor import Conductor
from tests_functional.bench.port import free_port
from tests_functional.bench.waiting import until

#: What is where bareon-provision is in a ramdisk.
PROVISION = Path(__file__).with_name("standin_provision.py")
FOLDER = "bareon-run"


class Ramdisk:
    """A ramdisk. ``place`` is the home of its SSH user, ``key`` the private key that it admits."""

    def __init__(self, place: Path, key: Path, port: int | None = None) -> None:
        self.place = place
        self.port = port or free_port()
        self.token = ""
        self.version = f"bareon-{_version()}"
        self._key = key
        self._server: subprocess.Popen[bytes] | None = None
        place.mkdir(parents=True, exist_ok=True)
        self._host_key = place / "host_key"

    @property
    def host_key(self) -> str:
        """Return the public host key, as it travels with heartbeats."""
        return self._host_key.with_suffix(".pub").read_text()

    @property
    def folder(self) -> Path:
        """Return the folder of the run."""
        return self.place / FOLDER

    def start(self) -> None:
        """Start the SSH server."""
        if not self._host_key.exists():
            make_key(self._host_key)
        programs = self.place / "bin"
        programs.mkdir(exist_ok=True)
        for name in ("bareon-provision", "bareon-boot"):
            script = f'#!/bin/sh\nPYTHONPATH={wheel.CHECKOUT} exec {sys.executable} {PROVISION} {name} "$@"\n'
            (programs / name).write_text(script)
            (programs / name).chmod(0o755)
        (self.place / "authorized_keys").write_text(self._key.with_suffix(".pub").read_text())
        enter = self.place / "enter"
        enter.write_text(
            f"#!/bin/sh\ncd {self.place}\nexport STANDIN={self.place} PATH={programs}:$PATH\n"
            'exec sh -c "$SSH_ORIGINAL_COMMAND"\n'
        )
        enter.chmod(0o755)
        configuration = self.place / "sshd_config"
        configuration.write_text(_SSHD.format(port=self.port, place=self.place, key=self._host_key))
        Path("/run/sshd").mkdir(exist_ok=True)
        with (self.place / "sshd.log").open("ab") as log:
            self._server = subprocess.Popen(
                ["/usr/sbin/sshd", "-D", "-e", "-f", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self._listens, "the SSH server listens", 20)

    def _listens(self) -> bool:
        return "Server listening" in (self.place / "sshd.log").read_text()

    def stop(self) -> None:
        """End the SSH server and everything that was started through it."""
        if (self.folder / "pid").exists():
            self._kill("pid")
        self.silence()

    def silence(self) -> None:
        """End the SSH server alone."""
        if self._server:
            self._server.kill()
            self._server.wait()
            self._server = None
        (self.place / "sshd.log").unlink(missing_ok=True)

    def behave(self, **values: Any) -> None:
        """Say what the program does from now on; see ``standin_provision``."""
        (self.place / "behaviour.json").write_text(json.dumps(values))

    def release(self) -> None:
        """Let a program that holds go on."""
        (self.place / "go").touch()

    def restarted(self) -> None:
        """Lose everything that lies in memory."""
        self.kill_run()  # else its end is written down meanwhile
        shutil.rmtree(self.folder)

    def kill_run(self) -> None:
        """End the program, and first what waits for its end."""
        self._kill("runner")
        self._kill("pid")

    def _kill(self, name: str) -> None:
        run(["kill", "-KILL", (self.folder / name).read_text().strip()], timeout=10, check=False)

    def given(self) -> Any:
        """Return the document that the conductor has brought."""
        return json.loads((self.folder / "provision.json").read_text())

    def look_up(self, conductor: Conductor, mac: str) -> None:
        """Ask Ironic for the node, and keep the token, which is told once."""
        found = conductor.call("GET", f"/v1/lookup?addresses={mac}")
        self.token = found["config"]["agent_token"]

    def heartbeat(self, conductor: Conductor, node: str, **changes: Any) -> None:
        """Send a heartbeat, with ``changes`` to what is true."""
        body = {
            "callback_url": f"https://127.0.0.1:{self.port}",
            "agent_version": self.version,
            "agent_token": self.token,
            "agent_verify_ca": self.host_key,
        }
        conductor.call("POST", f"/v1/heartbeat/{node}", {**body, **changes})


@functools.cache
def _version() -> str:
    return wheel.version()


def make_key(path: Path) -> None:
    """Make a pair of SSH keys."""
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", path], timeout=30)
    path.chmod(0o600)


_SSHD = """
ListenAddress 127.0.0.1
Port {port}
HostKey {key}
AuthorizedKeysFile {place}/authorized_keys
ForceCommand {place}/enter
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
"""
