# SPDX-License-Identifier: Apache-2.0
"""OpenStack Swift: Debian's own proxy, account, container and object servers, with one device.

One replica on a directory of the cell; one user by tempauth. Objects are uploaded when they are first asked for.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from swiftclient.client import Connection
from swiftclient.exceptions import ClientException
from swiftclient.utils import generate_temp_url

from building.process import ProgramError, run
from tests_functional.bench import swift_settings
from tests_functional.bench.port import accepts

CONTAINER = "images"
#: Bytes of each segment; the smallest that Swift takes is 1.
SEGMENT = 1_500_000
#: Seconds until the servers accept connections; 2 s were measured.
START_LIMIT = 60.0
#: Seconds that a TempURL is good for.
VALID = 24 * 3600


class Swift:
    """The servers; they end with :meth:`stop` or with the cell.

    :param place: directory for the device, the settings and the logs
    :param files: finds the file of an object; raises ``ValueError`` when there is none
    """

    USER = swift_settings.USER
    KEY = swift_settings.KEY

    def __init__(self, place: Path, files: Callable[[str], Path]) -> None:
        self.place = place
        self._files = files
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._uploaded: set[str] = set()
        self._temp_key = secrets.token_hex(16)

    @staticmethod
    def auth_url(host: str) -> str:
        """Return where to log in, in version 1 of the protocol."""
        return f"http://{host}:{swift_settings.PORTS['proxy']}/auth/v1.0"

    def start(self) -> None:
        """Start the servers and make the container.

        :raises ProgramError: when they do not accept connections in time
        """
        device = self.place / "devices" / swift_settings.DEVICE
        device.mkdir(parents=True)
        if not swift_settings.keeps_attributes(device):
            swift_settings.mount_file_system(device, self.place / "device.img")
        swift_settings.write(self.place)
        self._spawn("memcached", ["memcached", *swift_settings.MEMCACHED])
        run([swift_settings.PYTHON, "-c", swift_settings.MAKE_RINGS, self.place], timeout=START_LIMIT)
        for name in swift_settings.PORTS:
            self._spawn(name, [f"swift-{name}-server", str(self.place / f"{name}.conf"), "--verbose"])
        deadline = time.monotonic() + START_LIMIT
        # All of them: the proxy's health check says yes before there is anything behind it.
        for name, port in swift_settings.PORTS.items():
            while not accepts("127.0.0.1", port):
                if self._processes[name].poll() is not None or time.monotonic() > deadline:
                    raise ProgramError([f"swift-{name}-server"], "does not accept connections", self._log(name))
                time.sleep(0.02)
        self._connection = Connection(self.auth_url("127.0.0.1"), self.USER, self.KEY, retries=3)
        try:
            self._connection.post_account({"X-Account-Meta-Temp-URL-Key": self._temp_key})
            self._connection.put_container(CONTAINER)
        except ClientException as error:
            raise ProgramError(["swift-proxy-server"], str(error), self._log("proxy")) from error

    def _spawn(self, name: str, argv: list[str]) -> None:
        with (self.place / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _log(self, name: str) -> str:
        return (self.place / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """End the servers."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def upload(self, name: str) -> str:
        """Bring an image into the container, if it is not there, and return the object's name."""
        if name not in self._uploaded:
            with self._files(name).open("rb") as file:
                self._connection.put_object(CONTAINER, name, file, chunk_size=1 << 20)
            self._uploaded.add(name)
        return name

    def put(self, name: str, content: bytes) -> str:
        """Bring an object of a test's own into the container, and return its name."""
        self._connection.put_object(CONTAINER, name, content)
        return name

    def upload_segmented(self, name: str) -> str:
        """Bring an image in as a static large object, as Swift wants those that exceed 5 GiB."""
        whole = f"segmented-{name}"
        if whole not in self._uploaded:
            content = self._files(name).read_bytes()
            segments = []
            for start in range(0, len(content), SEGMENT):
                part = f"{whole}-{start:012}"
                etag = self._connection.put_object(CONTAINER, part, content[start : start + SEGMENT])
                segments.append({"path": f"/{CONTAINER}/{part}", "etag": etag})
            query = "multipart-manifest=put"
            self._connection.put_object(CONTAINER, whole, json.dumps(segments), query_string=query)
            self._uploaded.add(whole)
        return whole

    def temp_url(self, name: str, host: str, *, seconds: int = VALID, key: str | None = None) -> str:
        """Return a URL of an object for whoever has it, for so many seconds; ``key`` may be a wrong one."""
        account = self._connection.get_auth()[0].partition("/v1/")[2]
        path = f"/v1/{account}/{CONTAINER}/{name}"
        until = int(time.time()) + seconds
        query = generate_temp_url(path, until, key or self._temp_key, "GET", absolute=True, digest="sha256")
        return f"http://{host}:{swift_settings.PORTS['proxy']}{query}"
