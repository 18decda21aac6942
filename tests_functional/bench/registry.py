# SPDX-License-Identifier: Apache-2.0
"""A registry of container images, Debian's docker-registry, and images in it."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from bareon.tests.registry import Entry, archive
from building.process import ProgramError, run
from tests_functional.bench.httpd.certificate import Certificate
from tests_functional.bench.port import accepts, free_port

#: Seconds until it accepts connections.
START_LIMIT = 20.0
USER, PASSWORD = "alice", "s3cret"
#: That password as bcrypt(3) has it, the only form that the registry reads.
_ACCOUNT = f"{USER}:$2b$05$bareonbareonbareonbareymIP.9HuFrWh3CpeY0c7X7wTOT59ZNy\n"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
#: Of the machines that the bench has.
AMD64: Mapping[str, str] = {"os": "linux", "architecture": "amd64"}


@dataclass(frozen=True)
class Packed:
    """A layer: its file as it is served, what it is packed by, and the digest of the plain archive in it."""

    file: Path
    packing: str
    plain: str


class Registry:
    """A registry; it ends with :meth:`stop` or with the cell.

    Each has a port of its own: several may run in a cell. With a ``certificate`` it speaks TLS, and wants an account.
    """

    def __init__(self, place: Path, *, address: str = "0.0.0.0", certificate: Certificate | None = None) -> None:
        self.place = place
        self.port = free_port()
        self._address = address
        self._certificate = certificate
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, host: str, image: str) -> str:
        """The URL of an image, such as ``debian:12``, for bareon."""
        return f"{'oci' if self._certificate else 'oci+http'}://{host}:{self.port}/{image}"

    def start(self) -> None:
        """Start it, unless it runs, and wait until it accepts connections.

        :raises ProgramError: when it does not
        """
        if self._process:
            return
        self.place.mkdir(parents=True, exist_ok=True)
        settings, log = self.place / "config.yml", self.place / "registry.log"
        settings.write_text(json.dumps(self._settings()))  # which is YAML, too
        with log.open("wb") as said:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", settings],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_LIMIT
        while not accepts("127.0.0.1", self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ProgramError(["docker-registry"], "does not accept connections", log.read_text())
            time.sleep(0.05)

    def _settings(self) -> dict[str, Any]:
        http: dict[str, Any] = {"addr": f"{self._address}:{self.port}"}
        found: dict[str, Any] = {
            "version": 0.1,
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self.place / "storage")}},
            "http": http,
        }
        if self._certificate:
            http["tls"] = {"certificate": str(self._certificate.public), "key": str(self._certificate.private)}
            accounts = self.place / "htpasswd"
            accounts.write_text(_ACCOUNT)
            found["auth"] = {"htpasswd": {"realm": "bench", "path": str(accounts)}}
        return found

    def stop(self) -> None:
        """End it."""
        if self._process and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=10)

    def push(
        self,
        name: str,
        tag: str,
        layers: Sequence[Packed],
        *,
        platform: Mapping[str, str] = AMD64,
    ) -> str:
        """Put an image of layers there, the lowest first; the digest of its manifest."""
        plain = [layer.plain for layer in layers]
        config = json.dumps({**platform, "rootfs": {"type": "layers", "diff_ids": plain}}).encode()
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._blob(name, config, CONFIG),
            "layers": [self._blob(name, x.file, f"{LAYER}{x.packing}") for x in layers],
        }
        return self.tag(name, tag, MANIFEST, document)

    def tag(self, name: str, tag: str, kind: str, document: Mapping[str, Any]) -> str:
        """Put a manifest or an index under a tag; its digest."""
        data = json.dumps(document).encode()
        self._ask("PUT", f"/v2/{name}/manifests/{tag}", data=data, headers={"Content-Type": kind})
        return _digest(data)

    def _blob(self, name: str, content: bytes | Path, kind: str) -> dict[str, Any]:
        data = content if isinstance(content, bytes) else content.read_bytes()
        begun = self._ask("POST", f"/v2/{name}/blobs/uploads/")
        self._ask("PUT", begun.headers["Location"], data=data, params={"digest": _digest(data)})
        return {"mediaType": kind, "digest": _digest(data), "size": len(data)}

    def _ask(self, method: str, path: str, **more: Any) -> requests.Response:
        base = f"{'https' if self._certificate else 'http'}://127.0.0.1:{self.port}"
        answer = requests.request(
            method,
            path if "://" in path else base + path,
            timeout=120,
            verify=str(self._certificate.public) if self._certificate else True,
            auth=(USER, PASSWORD) if self._certificate else None,
            **more,
        )
        answer.raise_for_status()
        return answer


#: What an archive of Debian finds below itself: other files of its own, a folder where it has a link, and more.
_BELOW: tuple[str | Entry, ...] = (
    *("usr/", "usr/bin/", "usr/bin/true", "usr/lib/", "usr/lib/hidden/", "usr/lib/hidden/a/b"),
    *("usr/share/", "usr/share/opaque/old", "usr/share/opaque/e/old", "var/", "var/lib/", "var/lib/hidden"),
    *("bin/", "bin/sh", "opt/fidelity/hidden"),
)
#: What lies above it, and hides something of both.
_ABOVE: tuple[str | Entry, ...] = (
    *("usr/lib/.wh.hidden", "usr/share/opaque/", "usr/share/opaque/.wh..wh..opq", "usr/share/opaque/new"),
    *("var/lib/.wh.hidden", "opt/fidelity/.wh.hidden", "opt/fidelity/.wh.pipe", "opt/layered"),
)


def layered(file: Path, place: Path) -> list[Packed]:
    """The layers of an image, the middle one an archive packed by zstd; ``place`` is for the others."""
    below, above = place / "below", place / "above"
    plain = [archive(*_BELOW), archive(*_ABOVE)]
    below.write_bytes(gzip.compress(plain[0]))
    above.write_bytes(plain[1])
    script = 'zstd --quiet --decompress --stdout "$1" | sha256sum'
    found = run(["sh", "-c", script, "sh", file], timeout=120).stdout.split()[0]
    return [
        Packed(below, "+gzip", _digest(plain[0])),
        Packed(file, "+zstd", f"sha256:{found}"),
        Packed(above, "", _digest(plain[1])),
    ]


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
