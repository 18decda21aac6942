# SPDX-License-Identifier: Apache-2.0
"""A BMC for virtual nodes: sushy-emulator, which does with libvirt what it is asked for by Redfish."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

from building import cache, wheel
from building.process import run
from tests_functional.bench.hypervisor import URI, Hypervisor
from tests_functional.bench.port import free_port
from tests_functional.bench.waiting import until

REQUIREMENTS = wheel.CHECKOUT / "tests_functional/redfish-requirements.txt"
#: The Python that the distribution's binding of libvirt is for.
PYTHON = Path("/usr/bin/python3")
#: The pool of libvirt for the media that are inserted.
POOL = "media"
START_LIMIT = 60.0


def build(report: cache.Report) -> Path:
    """Make the virtual environment of the emulator; return its directory."""
    version = run([PYTHON, "--version"], timeout=20).stdout
    key = cache.digest(REQUIREMENTS, Path(__file__), version)
    return cache.product("redfish", key, _environment, report)


def _environment(place: Path) -> None:
    # Without pip, which Debian's Python cannot put there; this interpreter's does it from outside.
    run([PYTHON, "-m", "venv", "--without-pip", "--system-site-packages", place], timeout=120)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    options = ["--python", str(place / "bin/python"), "install", "--quiet", "-r", str(REQUIREMENTS)]
    run([*pip, *options], timeout=wheel.PIP_LIMIT)


class Emulator:
    """A BMC of all machines that a hypervisor has defined. ``environment`` is what :func:`build` returned."""

    def __init__(self, environment: Path, place: Path, hypervisor: Hypervisor) -> None:
        self._python = environment / "bin/python"
        self.place = place
        self.port = free_port()
        self._hypervisor = hypervisor
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return where it answers, on loopback."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        for folder in ("media", "state", "temporary"):
            (self.place / folder).mkdir(parents=True)
        self._hypervisor.virsh("pool-create-as", POOL, "dir", "--target", self.place / "media")
        configuration = self.place / "sushy.conf"
        configuration.write_text(_CONFIGURATION.format(port=self.port, uri=URI, place=self.place, pool=POOL))
        program = "from sushy_tools.emulator.main import main; main()"
        with (self.place / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [self._python, "-c", program, "--config", str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # It unpacks each medium into a temporary directory.
                env=os.environ | {"TMPDIR": str(self.place / "temporary")},
                start_new_session=True,
            )
        until(self._answers, "the emulator of a BMC answers", START_LIMIT)

    def _answers(self) -> bool:
        assert self._process
        if self._process.poll() is not None:
            raise AssertionError((self.place / "output").read_text()[-3000:])
        try:
            with urllib.request.urlopen(f"{self.url}/redfish/v1/", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self) -> None:
        """End it."""
        if self._process:
            self._process.kill()
            self._process.wait(30)
            self._hypervisor.virsh("pool-destroy", POOL)
            self._process = None


_CONFIGURATION = """
SUSHY_EMULATOR_LISTEN_IP = "127.0.0.1"
SUSHY_EMULATOR_LISTEN_PORT = {port}
SUSHY_EMULATOR_SSL_CERT = None
SUSHY_EMULATOR_LIBVIRT_URI = "{uri}"
SUSHY_EMULATOR_STATE_DIR = "{place}/state"
SUSHY_EMULATOR_STORAGE_POOL = "{pool}"
"""
