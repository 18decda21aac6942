# SPDX-License-Identifier: Apache-2.0
"""An nginx that serves a directory: what most people have in the place of an image server."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from building.process import ProgramError
from tests_functional.bench.port import accepts

#: Seconds until it accepts connections.
START_LIMIT = 10.0
# One process, so that there is one to kill.
_SETTINGS = """\
daemon off;
master_process off;
pid {place}/nginx.pid;
error_log {place}/nginx.log;
events {{}}
http {{
    access_log off;
    sendfile on;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {root};
        location /slow/ {{
            alias {root}/;
            limit_rate {rate};
        }}
    }}
}}
"""


class Nginx:
    """The server; it ends with :meth:`kill` or with the cell. Below ``/slow`` it sends ``rate`` bytes a second."""

    def __init__(self, place: Path, root: Path, *, port: int = 8001, rate: int = 4 << 20) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._port = port
        self._place = place
        self._text = _SETTINGS.format(place=place, root=root, port=port, rate=rate)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it accepts connections.

        :raises ProgramError: when it does not
        """
        self._place.mkdir(parents=True, exist_ok=True)
        settings = self._place / "nginx.conf"
        settings.write_text(self._text)
        self._process = subprocess.Popen(
            ["nginx", "-e", str(self._place / "nginx.log"), "-c", str(settings)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_LIMIT
        while not accepts("127.0.0.1", self._port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = self._place / "nginx.log"
                raise ProgramError(["nginx"], "does not accept connections", log.read_text() if log.exists() else "")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it in the midst of whatever it does."""
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
