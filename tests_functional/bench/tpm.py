# SPDX-License-Identifier: Apache-2.0
"""A TPM 2.0 of a virtual node: swtpm(8), whose state outlives a power cut as that of a chip does."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path


class Tpm:
    """A TPM; its files are in the directory ``place``."""

    def __init__(self, place: Path) -> None:
        self.socket = place / "socket"
        self._state = place / "state"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Have it there whenever the node is powered on."""
        self._state.mkdir(parents=True, exist_ok=True)
        state, control = f"dir={self._state}", f"type=unixio,path={self.socket}"
        argv = ["swtpm", "socket", "--tpm2", "--terminate", "--tpmstate", state, "--ctrl", control]
        # It ends with the machine that it is a part of.
        loop = f"while rm -f {shlex.quote(str(self.socket))}; do {shlex.join(argv)}; done"
        self._process = subprocess.Popen(["sh", "-c", loop], start_new_session=True)

    def stop(self) -> None:
        """End it, state and all: the next one is another."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        shutil.rmtree(self._state, ignore_errors=True)
