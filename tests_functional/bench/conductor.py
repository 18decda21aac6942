# SPDX-License-Identifier: Apache-2.0
"""A real Ironic, API and conductor in one process, with bareon's plug-ins from this checkout."""

from __future__ import annotations

import configparser
import functools
import http.server
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from building import cache, wheel
from building.process import run
from tests_functional.bench.conductor_settings import LOOPBACK, Site, settings
from tests_functional.bench.port import free_port
from tests_functional.bench.waiting import until

REQUIREMENTS = wheel.CHECKOUT / "tests_functional/ironic-requirements.txt"
#: The newest version of the API that it is asked in; Ironic 35 has it too.
API_VERSION = "1.110"
#: Seconds for a start, which takes 4 on an idle machine.
START_LIMIT = 90.0

Object = dict[str, Any]


def build(report: cache.Report, other: str | None = None) -> Path:
    """Make the virtual environment of Ironic and what bareon needs beside it; return its directory.

    :param other: requirements with blanks between them, in place of those in the file
    """
    bareons = wheel.CHECKOUT / "requirements.txt"
    key = cache.digest(other or REQUIREMENTS, bareons, sys.version)
    wanted = other.split() if other else ["-r", str(REQUIREMENTS)]
    return cache.product("ironic", key, lambda place: _environment(place, [*wanted, "-r", str(bareons)]), report)


def _environment(place: Path, wanted: list[str]) -> None:
    run([sys.executable, "-m", "venv", place], timeout=120)
    pip: list[str | Path] = [
        place / "bin/python",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "install",
        "--quiet",
    ]
    run([*pip, *wanted], timeout=wheel.PIP_LIMIT)


class ApiError(Exception):
    """Ironic refused a request. ``code`` is the status, the text its reason."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        super().__init__(reason)


class Conductor:
    """One Ironic. ``environment`` is what :func:`build` returned, ``place`` is for its files."""

    def __init__(self, environment: Path, place: Path, site: Site = LOOPBACK) -> None:
        self._python = environment / "bin/python"
        self.place = place
        self.site = site
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        serving = functools.partial(_Files, directory=str(place / "http"))
        self._files = http.server.ThreadingHTTPServer((site.address, site.files_port), serving)
        threading.Thread(target=self._files.serve_forever, daemon=True).start()
        for folder in ("http", "tftp", "ramdisk"):
            (place / folder).mkdir(parents=True)
        self._installed()
        secure = site.certificate
        self._tls = ssl.create_default_context(cafile=secure.public) if secure else None
        text = settings(site, place, self.port, self.url, self.files_url)
        self._configuration().write_text(text)

    def _configuration(self) -> Path:
        return self.place / "ironic.conf"

    def _installed(self) -> None:
        """Have the checkout's entry points found without installing it: the same file, as an installed package's."""
        read = configparser.ConfigParser()
        read.read(wheel.CHECKOUT / "setup.cfg")
        folder = self.place / "python" / "bareon-0.dist-info"
        folder.mkdir(parents=True)
        groups = [f"[{name}]\n{lines.strip()}\n" for name, lines in read["entry_points"].items()]
        (folder / "entry_points.txt").write_text("\n".join(groups))
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: bareon\nVersion: {wheel.version()}\n")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        main = "import sys; from ironic.command.{} import main; sys.exit(main())"
        paths = {"PYTHONPATH": f"{self.place / 'python'}{os.pathsep}{wheel.CHECKOUT}", "PYTHONDONTWRITEBYTECODE": "1"}
        environment = os.environ | paths
        options = ["--config-file", str(self._configuration())]
        if not (self.place / "ironic.db").exists():
            command: list[str | Path] = [self._python, "-c", main.format("dbsync"), *options, "create_schema"]
            run(command, timeout=START_LIMIT, env=environment, cwd=self.place)
        with (self.place / "output").open("ab") as output:
            self._process = subprocess.Popen(
                [self._python, "-c", main.format("singleprocess"), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=self.place,
                start_new_session=True,
            )
        until(self._answers, "Ironic answers", START_LIMIT)

    def _answers(self) -> bool:
        assert self._process
        said = (self.place / "output").read_text()
        # A worker that cannot start is started again and again.
        if self._process.poll() is not None or "Traceback" in said:
            raise AssertionError(said[-3000:])
        try:
            # The interface of nodes is there once the conductor has registered itself.
            return bool(self.call("GET", "/v1/drivers")["drivers"])
        except (ApiError, OSError):
            return False

    @property
    def files_url(self) -> str:
        """Return where the folder ``http`` is served while it runs."""
        return f"http://{self.site.address}:{self._files.server_port}"

    @property
    def url(self) -> str:
        """Return the URL of its API."""
        return f"http{'s' if self.site.certificate else ''}://{self.site.address}:{self.port}"

    def offer(self, path: Path) -> str:
        """Return a URL from which it can take a file of this machine, a kernel or a ramdisk."""
        copy = self.place / "ramdisk" / path.name
        shutil.copy(path, copy)
        return f"file://{copy}"

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it and its children."""
        if self._process:
            os.killpg(self._process.pid, number)
            self._process.wait(60)
            self._process = None

    def stop(self) -> None:
        """End it for good."""
        self.kill()
        self._files.shutdown()
        self._files.server_close()

    def call(self, method: str, path: str, body: object = None, version: str = API_VERSION) -> Any:
        """Ask its API, in one of its versions.

        :raises ApiError: when it refuses
        """
        headers = {
            "X-OpenStack-Ironic-API-Version": version,
            "Content-Type": "application/json",
            "Accept": "application/json",
        }
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60, context=self._tls) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, error.read().decode()) from None
        return json.loads(text) if text else None

    def speaks(self, version: str) -> bool:
        """Tell whether its API has a version."""
        newest = self.call("GET", "/")["default_version"]["version"]
        return [int(part) for part in newest.split(".")] >= [int(part) for part in version.split(".")]

    def log(self) -> str:
        """Return its log so far."""
        return (self.place / "ironic.log").read_text(errors="replace")


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
