# SPDX-License-Identifier: Apache-2.0
"""An rsync daemon that serves directory trees to the nodes."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from building.process import ProgramError
from tests_functional.bench.hypervisor import SERVER
from tests_functional.bench.port import accepts

#: Seconds until the daemon accepts connections.
START_LIMIT = 10.0

# No chroot: links and owners are sent as they are either way, and a cell is around the daemon.
_SETTINGS = """\
use chroot = no
gid = root
read only = yes
reverse lookup = no
log file = {log}
address = {address}
port = {port}
"""


@dataclass(frozen=True)
class Module:
    """A tree to serve, the user who reads it, patterns of what is left out, and further lines of rsyncd.conf."""

    path: Path
    uid: str = "root"
    excluded: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()


class RsyncServer:
    """A daemon on the bench's address; it ends with :meth:`stop` or with the cell. ``limit`` is KiB a second."""

    def __init__(
        self,
        place: Path,
        modules: Mapping[str, Module],
        *,
        address: str = SERVER,
        port: int = 873,
        limit: int | None = None,
    ) -> None:
        self.place = place
        self.address = address
        self.port = port
        self.log = place / "rsyncd.log"
        self._modules = dict(modules)
        self._limit = [f"--bwlimit={limit}"] if limit else []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return the address to put a module's name behind: ``rsync://host:port``."""
        return f"rsync://{self.address}:{self.port}"

    def start(self) -> None:
        """Start the daemon and wait until it accepts connections.

        :raises ProgramError: when it does not
        """
        self.place.mkdir(parents=True, exist_ok=True)
        settings = self.place / "rsyncd.conf"
        text = _SETTINGS.format(log=self.log, address=self.address, port=self.port)
        for name, module in self._modules.items():
            text += f"[{name}]\npath = {module.path}\nuid = {module.uid}\n"
            text += f"exclude = {' '.join(module.excluded)}\n"
            text += "".join(f"{line}\n" for line in module.settings)
        settings.write_text(text)
        self._process = subprocess.Popen(
            ["rsync", "--daemon", "--no-detach", *self._limit, f"--config={settings}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_LIMIT
        while not accepts(self.address, self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = self.log.read_text() if self.log.exists() else ""
                raise ProgramError(["rsync", "--daemon"], "does not accept connections", said)
            time.sleep(0.05)

    def stop(self) -> None:
        """End the daemon."""
        if self._process and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=10)
