# SPDX-License-Identifier: Apache-2.0
"""Images of registries, made in memory, and a registry on loopback that does wrong what a test asks for."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import socket
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bareon.tests.imageserver import Fault, Site, serving

NAME = "test/image"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
GZIP = f"{LAYER}+gzip"
AMD64 = {"os": "linux", "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64")}
#: Path, type, link, content.
Entry = tuple[str, bytes, str, bytes]
DIR, REG, SYM, HARD = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def entry(given: str | Entry) -> Entry:
    """A member of an archive; ``a -> b`` is a link, ``a = b`` a hard link."""
    if not isinstance(given, str):
        return given
    for sign, kind in ((" -> ", SYM), (" = ", HARD)):
        if sign in given:
            name, _, link = given.partition(sign)
            return name, kind, link, b""
    return (given[:-1], DIR, "", b"") if given.endswith("/") else (given, REG, "", given.encode())


def archive(*entries: str | Entry) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as made:
        for path, kind, link, content in map(entry, entries):
            info = tarfile.TarInfo(path)
            info.type, info.linkname, info.size, info.mode = kind, link, len(content), 0o755
            made.addfile(info, io.BytesIO(content))
    return out.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def text(value: object) -> bytes:
    return json.dumps(value).encode()


def described(data: bytes, kind: str) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest(data), "size": len(data)}


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)  # that it has one digest, which names of tests have in them


@dataclass
class Store:
    """What a registry has: blobs and manifests by digest, manifests by tag too."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def put(self, data: bytes) -> bytes:
        self.blobs[digest(data)] = data
        return data

    def tag(self, name: str, kind: str, data: bytes) -> bytes:
        self.manifests[name] = self.manifests[digest(data)] = kind, data
        return data

    def image(
        self,
        *layers: Sequence[str | Entry],
        tag: str = "latest",
        pack: Callable[[bytes], bytes] = _gzip,
        kind: str = GZIP,
        config: Mapping[str, object] | None = None,
        manifest: Mapping[str, object] | None = None,
        platform: Mapping[str, str] = AMD64,
    ) -> bytes:
        """Put an image of such layers under a tag; its manifest."""
        plain = [archive(*layer) for layer in layers]
        blobs = [self.put(pack(x)) for x in plain]
        whole = {**platform, "rootfs": {"type": "layers", "diff_ids": [digest(x) for x in plain]}, **(config or {})}
        found = self.put(text(whole))
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described(found, CONFIG),
            "layers": [described(x, kind) for x in blobs],
            **(manifest or {}),
        }
        return self.tag(tag, MANIFEST, text(document))

    def answer(self, request: Mapping[str, str]) -> Fault:
        """What a registry says to a request."""
        path = request["path"].partition("?")[0]
        if path == "/v2/":
            return Fault(200, body=b"{}")
        kind, _, name = path.removeprefix(f"/v2/{NAME}/").partition("/")
        if kind == "manifests" and name in self.manifests:
            type_, data = self.manifests[name]
            return Fault(200, {"Content-Type": type_, "Docker-Content-Digest": digest(data)}, body=data)
        if kind == "blobs" and name in self.blobs:
            return Fault(body=self.blobs[name])
        return Fault(404)


@dataclass
class Running:
    """A registry that runs. ``before`` may answer in its place."""

    store: Store
    site: Site
    before: Callable[[Mapping[str, str]], Fault | None] = lambda request: None

    @property
    def host(self) -> str:
        return self.site.url.partition("://")[2].partition("/")[0]

    @property
    def url(self) -> str:
        """The URL of the image, whose tag is left out."""
        scheme = "oci" if self.site.url.startswith("https") else "oci+http"
        return f"{scheme}://{self.host}/{NAME}"

    @property
    def asked(self) -> list[str]:
        """The paths that were asked for, without what they begin with."""
        return [x["path"].removeprefix(f"/v2/{NAME}/") for x in self.site.requests]


@contextlib.contextmanager
def registry(
    store: Store, wrap: Callable[[socket.socket], socket.socket] | None = None, host: str = "127.0.0.1"
) -> Iterator[Running]:
    with serving(b"", host, wrap) as site:
        site.etag = None
        running = Running(store, site)
        site.before = lambda request: running.before(request) or store.answer(request)
        yield running
