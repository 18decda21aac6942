# SPDX-License-Identifier: Apache-2.0
"""The servers of images: HTTP with faults, and a Swift and a registry that are started when somebody needs them."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from building.cache import Report
from tests_functional.bench.blockimage import Images
from tests_functional.bench.httpd import Httpd
from tests_functional.bench.hypervisor import OTHER_NAME, SERVER
from tests_functional.bench.registry import Registry, layered
from tests_functional.bench.swift import CONTAINER, Swift
from tests_functional.bench.word import Words

LOOPBACK = "127.0.0.1"
#: The addresses at which the servers are reached, each with another name of the same host.
HOSTS = {LOOPBACK: "localhost", SERVER: OTHER_NAME}
HTTP_PORTS = (8000, 8443)
#: Neither a TempURL's signature nor anybody's key.
WRONG_KEY = "wrong"


class ImageServers:
    """The servers of one cell, reached on every address of it; ``place`` is for what they write."""

    def __init__(self, images: Images, place: Path, report: Report) -> None:
        self.images = images
        self._report = report
        self.http = Httpd(
            images.path, place / "httpd", address="0.0.0.0", ports=HTTP_PORTS, other_hosts=HOSTS, certified=(*HOSTS,)
        )
        self._swift = Swift(place / "swift", images.path)
        self._swift_runs = False
        self._registry = Registry(place / "registry")
        self._layered: dict[str, str] = {}  # names in the registry by those of archives

    def __enter__(self) -> ImageServers:
        self.http.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.stop()
        if self._swift_runs:
            self._swift.stop()
        self._registry.stop()

    @property
    def swift(self) -> Swift:
        """The Swift, started if it is not running yet.

        :raises ProgramError: when it cannot be started
        """
        if not self._swift_runs:
            # Before the start: what is half up is to be stopped too.
            self._swift_runs = True
            started = time.monotonic()
            self._swift.start()
            self._report(f"swift: started in {time.monotonic() - started:.1f} s")
        return self._swift

    def layered(self, name: str) -> str:
        """Return the name of an image of three layers, the middle one an archive, in a registry.

        :raises ProgramError: when the registry cannot be started
        """
        if name not in self._layered:
            started = time.monotonic()
            self._registry.start()
            image = name.partition(".")[0]
            self._registry.push(image, "1", layered(self.images.path(name), self._registry.place))
            self._layered[name] = f"{image}:1"
            self._report(f"registry: started, with {name}, in {time.monotonic() - started:.1f} s")
        return self._layered[name]

    def words(self, host: str = SERVER) -> Words:
        """Return what a case may ask for, in a scope of its own.

        :param host: the address at which the user of the words reaches these servers
        """
        scope = self.http.new_scope()
        return {
            "http": lambda _: self.http.url(scope, host),
            "https": lambda _: self.http.url(scope, host, tls=True),
            "sha256": lambda name: self.images.digest(name, "sha256"),
            "sha512": lambda name: self.images.digest(name, "sha512"),
            "md5": lambda name: self.images.digest(name, "md5"),
            "sha256-wrong": lambda name: self.images.digest(name, "sha256")[::-1],
            "oci": lambda name: self._registry.url(host, self.layered(name)),
            "swift": lambda name: self.swift.temp_url(self.swift.upload(name), host),
            "swift-segmented": lambda name: self.swift.temp_url(self.swift.upload_segmented(name), host),
            "swift-expired": lambda name: self.swift.temp_url(self.swift.upload(name), host, seconds=-60),
            "swift-wrong": lambda name: self.swift.temp_url(self.swift.upload(name), host, key=WRONG_KEY),
            "swift-object": lambda name: f"swift://{CONTAINER}/{self.swift.upload(name)}",
            "swift_auth_url": lambda _: self.swift.auth_url(host),
            "swift_user": lambda _: Swift.USER,
            "swift_key": lambda _: Swift.KEY,
        }
