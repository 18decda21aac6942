# SPDX-License-Identifier: Apache-2.0
"""swift://container/object: the token, its end, and what it must never reach."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bareon.errors import ImageFailed, UnsuitableNode
from bareon.model.location import Location
from bareon.model.settings import SwiftAccount, TransferSettings
from bareon.tests.imageserver import Fault, Site, serving
from bareon.transfer.image import inspect, write

MIB = 1 << 20
IMAGE = random.Random(4).randbytes(2 * MIB)
URL = Location("swift://images/a%20b/disk.img")


@dataclass
class Swift:
    """Auth version 1.0 in front of the image: tokens are counted, only the last one opens it."""

    site: Site
    tokens: int = 0
    valid: bool = True

    @property
    def settings(self) -> TransferSettings:
        account = SwiftAccount(self.site.url.replace("/image", "/auth/v1.0"), "me:us", "s3cret")
        return TransferSettings(attempts=2, back_off=0.01, idle_timeout=2, connect_timeout=2, swift=account)

    def __call__(self, request: dict[str, str]) -> Fault | None:
        if request["path"] == "/auth/v1.0":
            headers = {name.lower(): value for name, value in request.items()}
            if (headers["x-auth-user"], headers["x-auth-key"]) != ("me:us", "s3cret"):
                return Fault(401)
            self.tokens += 1
            storage = self.site.url.replace("/image", "/v1/AUTH_us")
            return Fault(200, {"X-Storage-Url": storage, "X-Auth-Token": f"t0ken{self.tokens}"})
        assert request["path"] == "/v1/AUTH_us/images/a%20b/disk.img"
        return None if self.valid and request.get("X-Auth-Token") == f"t0ken{self.tokens}" else Fault(401)


@pytest.fixture
def swift() -> Iterator[Swift]:
    with serving(IMAGE) as site:
        site.before = Swift(site)
        yield site.before


def bring(swift: Swift, tmp_path: Path, settings: TransferSettings | None = None) -> bytes:
    device = tmp_path / "device"
    device.write_bytes(bytes(2 * MIB))
    settings = settings or swift.settings
    write(URL, str(device), limit=2 * MIB, digest=None, settings=settings, progress=lambda served, of: None)
    return device.read_bytes()


def test_an_object(swift: Swift, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert inspect(URL, swift.settings).served == len(IMAGE)
    assert bring(swift, tmp_path) == IMAGE
    assert "s3cret" not in caplog.text and "t0ken" not in caplog.text


def test_a_token_that_ends_meanwhile(swift: Swift, tmp_path: Path) -> None:
    swift.site.faults = [Fault(cut=MIB)]
    asked = Swift.__call__

    def expiring(request: dict[str, str]) -> Fault | None:
        fault = asked(swift, request)
        if fault is None and swift.tokens == 1:
            swift.tokens = 7  # what was given is no longer the last one
        return fault

    swift.site.before = expiring
    assert bring(swift, tmp_path) == IMAGE
    assert swift.tokens == 8


def test_a_token_is_renewed_once(swift: Swift, tmp_path: Path) -> None:
    swift.valid = False
    with pytest.raises(ImageFailed, match="asks for credentials"):
        bring(swift, tmp_path)
    assert swift.tokens == 2


def test_a_wrong_key(swift: Swift, tmp_path: Path) -> None:
    account = replace(swift.settings.swift, key="wr0ng")  # type: ignore[type-var]
    with pytest.raises(ImageFailed, match=r"refuses swift_user and swift_key \(401\)") as caught:
        bring(swift, tmp_path, replace(swift.settings, swift=account))
    assert "wr0ng" not in str(caught.value)


def test_no_account_and_no_server(swift: Swift, tmp_path: Path) -> None:
    with pytest.raises(UnsuitableNode, match="swift_auth_url, swift_user and swift_key"):
        inspect(URL, TransferSettings())
    account = SwiftAccount("http://127.0.0.1:1/auth/v1.0", "me", "s3cret")
    with pytest.raises(ImageFailed, match=r"swift_auth_url: 127\.0\.0\.1 refuses the connection"):
        inspect(URL, replace(swift.settings, swift=account))
    for url in ("swift://images", "swift:///x", "swift://images/"):
        with pytest.raises(ImageFailed, match="swift://container/object"):
            inspect(Location(url), swift.settings)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_the_key_stays_with_its_host(swift: Swift, status: int) -> None:
    with serving(IMAGE) as other:
        there = other.url.replace("127.0.0.1", "localhost")
        swift.site.before = lambda request: Fault(status, {"Location": f"{there}?X-Auth-Key=s3cret"})
        with pytest.raises(
            ImageFailed, match="swift_auth_url: redirected to localhost, which would be given"
        ) as caught:
            inspect(URL, swift.settings)
    assert "s3cret" not in str(caught.value)
    assert len(swift.site.requests) == 1 and not other.requests


def test_netrc_is_never_read(swift: Swift, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("default login root password s3cret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    bring(swift, tmp_path)
    assert not any("Authorization" in request for request in swift.site.requests)


@pytest.mark.parametrize("storage", ["file:///etc/shadow?", "ftp://127.0.0.1/v1", "/v1/AUTH_us"])
def test_objects_come_by_http_alone(swift: Swift, storage: str) -> None:
    swift.site.before = lambda request: Fault(200, {"X-Storage-Url": storage, "X-Auth-Token": "t0ken"})
    with pytest.raises(ImageFailed, match="gives an address for its objects that is none of http and https"):
        inspect(URL, swift.settings)


def test_a_token_stays_with_its_host(swift: Swift, tmp_path: Path) -> None:
    with serving(IMAGE) as other:
        swift.site.faults = [Fault(307, {"Location": other.url})]
        assert bring(swift, tmp_path) == IMAGE
    assert other.requests and not any("X-Auth-Token" in request for request in other.requests)
