# SPDX-License-Identifier: Apache-2.0
"""A registry with one image of :mod:`tests_functional.bench.layerimages`, which gives the wrong answers of a row."""

from __future__ import annotations

import base64
import json
import socket
import ssl
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from bareon.tests.imageserver import Fault
from bareon.tests.registry import NAME, Running, registry
from tests_functional.bench.httpd.certificate import Certificate
from tests_functional.bench.layerimages import IMAGES
from tests_functional.tree_fault_table import Wrong

USER, PASSWORD = "alice", "s3cret"
#: Another host, which must not be told the account.
OTHER = "127.0.0.2"


class FaultyRegistry:
    """The registry. With a ``password``, what the node has for it, it speaks TLS and wants the right one."""

    def __init__(
        self, name: str, wrong: Sequence[Wrong], certificate: Certificate, password: str | None = None
    ) -> None:
        self._store = IMAGES[name]()
        self._wrong = wrong
        self._certificate = certificate
        self._password = password
        self._seen = [0] * len(wrong)
        self._stack = ExitStack()

    def __enter__(self) -> FaultyRegistry:
        wrap = self._encrypted if self._password is not None else None
        self._running: Running = self._stack.enter_context(registry(self._store, wrap))
        self._other: Running = self._stack.enter_context(registry(self._store, wrap, OTHER))
        self._running.before = self._answer
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _encrypted(self, plain: socket.socket) -> socket.socket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate.public, self._certificate.private)
        return context.wrap_socket(plain, server_side=True)

    @property
    def url(self) -> str:
        """The URL of the image, for bareon."""
        return self._running.url

    def settings(self, place: Path) -> dict[str, object]:
        """What the node is told of the registry; ``place`` is for a file."""
        if self._password is None:
            return {}
        accounts = place / "auth.json"
        packed = base64.b64encode(f"{USER}:{self._password}".encode()).decode()
        known = {self._running.host: {"auth": packed}} if self._password else {}
        accounts.write_text(json.dumps({"auths": known}))
        return {"ca_file": str(self._certificate.public), "auth_file": str(accounts)}

    def check(self) -> None:
        """See that nobody else was told the account."""
        assert not any("Authorization" in request for request in self._other.site.requests)

    def _answer(self, request: Mapping[str, str]) -> Fault | None:
        right = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        if self._password is not None and request.get("Authorization") != right:
            return Fault(401, {"WWW-Authenticate": 'Basic realm="bench"'})
        name = request["path"].removeprefix(f"/v2/{NAME}/")
        part = self._part(name)
        for place, wrong in enumerate(self._wrong):
            if wrong.part != part:
                continue
            before = self._seen[place]
            self._seen[place] += 1
            if before >= wrong.after and (not wrong.times or before < wrong.after + wrong.times):
                return self._made(wrong.fault, name, request["path"])
        return None

    def _part(self, name: str) -> str:
        """What of the image a path leads to."""
        if name == "/v2/":
            return "base"
        if name.startswith("manifests/"):
            return "tag"
        document = json.loads(self._store.manifests["latest"][1])
        blobs = {x["digest"]: f"layer{number}" for number, x in enumerate(document.get("layers", ()), 1)}
        if "config" in document:
            blobs[document["config"]["digest"]] = "config"
        return blobs.get(name.removeprefix("blobs/"), "other")

    def _made(self, fault: Fault, name: str, path: str) -> Fault:
        """A wrong answer: with the right content where it has none, and with the other host's address."""
        if fault.headers.get("Location") == "{other}":
            there = urlsplit(self._other.site.url)
            return replace(fault, headers={"Location": f"{there.scheme}://{there.netloc}{path}"})
        if fault.status or fault.body is not None:
            return fault
        kind, _, value = name.partition("/")
        found = self._store.manifests[value][1] if kind == "manifests" else self._store.blobs[value]
        return replace(fault, body=found)
