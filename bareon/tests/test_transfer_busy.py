# SPDX-License-Identifier: Apache-2.0
"""Failures for now and for good, over HTTP and from Swift: which are tried again, and who is named."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import json
import logging
import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from bareon.errors import ImageFailed, UnsuitableNode
from bareon.model.image import Published
from bareon.model.location import Location
from bareon.model.settings import SwiftAccount, TransferSettings
from bareon.tests.certificates import dated
from bareon.tests.imageserver import Fault, Site, serving
from bareon.transfer import failure
from bareon.transfer.deadline import Deadline, pause
from bareon.transfer.image import inspect
from bareon.transfer.sidecar import look_up

IMAGE = random.Random(3).randbytes(200_000)
SETTINGS = TransferSettings(attempts=3, total_timeout=600, connect_timeout=2, idle_timeout=2, back_off=0.01)
FOR_NOW = (408, 425, 429, 498, 500, 502, 503, 504, 507, 529)
FOR_GOOD = (400, 401, 403, 404, 405, 410, 416, 418, 451, 501, 505)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(IMAGE) as served:
        yield served


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that a transfer wants to make; none is made."""
    wanted: list[float] = []
    monkeypatch.setattr(Deadline, "pause", lambda self, seconds: wanted.append(seconds))
    return wanted


def failed(url: str, settings: TransferSettings = SETTINGS) -> str:
    with pytest.raises(ImageFailed) as caught:
        inspect(Location(url), settings)
    text = str(caught.value)
    assert "\n" not in text and "s3cret" not in text
    return text


# Answers.


@pytest.mark.parametrize("status", FOR_NOW)
@pytest.mark.pain("busy-server")
def test_an_answer_for_now_is_tried_again(site: Site, pauses: list[float], status: int) -> None:
    site.faults = [Fault(status), Fault(status)]
    assert inspect(Location(site.url), SETTINGS).served == len(IMAGE)
    assert len(pauses) == 2
    site.always = Fault(status)
    assert failed(site.url).endswith(f"{status}, 3 attempts in a row") or f"({status})" in failed(site.url)


@pytest.mark.parametrize("status", FOR_GOOD)
def test_an_answer_for_good_is_not(site: Site, pauses: list[float], status: int) -> None:
    site.always = Fault(status)
    assert str(status) in failed(site.url)
    assert len(site.requests) == 1 and not pauses


@pytest.mark.parametrize("status", [*FOR_NOW, *FOR_GOOD])
def test_what_stands_beside_an_image_is_asked_for_alike(site: Site, pauses: list[float], status: int) -> None:
    digest = hashlib.md5(b"", usedforsecurity=False).hexdigest()
    site.body = yaml.safe_dump({"images": [{"container_name": "a", "container_md5": digest}]}).encode()
    site.faults = [Fault(status)]
    image, beside = Location(f"{site.url}/a"), Location(f"{site.url}/a.yaml")
    if status in (404, 410):
        assert look_up(image, beside, SETTINGS) == Published()
    elif status in FOR_GOOD:
        with pytest.raises(ImageFailed, match=str(status)):
            look_up(image, beside, SETTINGS)
    else:
        assert look_up(image, beside, SETTINGS).digest is not None
    assert len(pauses) == (status in FOR_NOW)


def test_credentials_are_named(site: Site) -> None:
    for status, words in (
        (401, "asks for credentials"),
        (403, "a signature in the URL are missing, wrong or expired"),
    ):
        site.always = Fault(status)
        assert words in failed(f"{site.url}?temp_url_sig=s3cret")


# Pauses.


@pytest.mark.parametrize(
    ("failures", "asked", "chance", "seconds"),
    [
        (1, 0, 0, 0.5),
        (1, 0, 1, 1),
        (3, 0, 0, 2),
        (3, 0, 1, 4),
        (9, 0, 1, 30),
        (9, 0, 0, 15),
        (5000, 0, 1, 30),
        (1, 60, 0.5, 60.75),
    ],
)
def test_pauses_grow_and_differ(failures: int, asked: float, chance: float, seconds: float) -> None:
    assert pause(TransferSettings(back_off=1, longest_wait=30), failures, asked, chance) == seconds


@pytest.mark.pain("busy-server")
def test_nodes_do_not_come_back_together(site: Site, pauses: list[float]) -> None:
    site.always = Fault(503)
    failed(site.url, replace(SETTINGS, attempts=9))
    assert len(pauses) == 8
    for number, seconds in enumerate(pauses):
        assert 0.005 * 2**number <= seconds <= 0.01 * 2**number
    assert len({seconds / 2**number for number, seconds in enumerate(pauses)}) > 1


@pytest.mark.parametrize("status", [429, 498, 503])
def test_the_wait_that_is_asked_for(site: Site, pauses: list[float], status: int) -> None:
    in_time = email.utils.formatdate(time.time() + 90, usegmt=True)
    site.faults = [Fault(status, {"Retry-After": value}) for value in ("7", in_time)]
    inspect(Location(site.url), SETTINGS)
    assert 7 <= pauses[0] <= 7.1 and 60 < pauses[1] < 120


def test_a_server_that_says_when_is_waited_for(site: Site, pauses: list[float]) -> None:
    later = {"Retry-After": "20"}
    site.faults = [Fault(503, later) for _ in range(2 * SETTINGS.attempts)]
    inspect(Location(site.url), SETTINGS)
    assert len(pauses) == 2 * SETTINGS.attempts
    site.always = Fault(503, later)
    assert "error 503, 2 attempts in a row" in failed(site.url, SETTINGS.hasty())


def test_what_fails_is_counted_between_answers_that_say_when(site: Site, pauses: list[float]) -> None:
    site.faults = [Fault(503, {"Retry-After": "20"}), Fault(500)] * SETTINGS.attempts
    assert "error 500, 3 attempts in a row" in failed(site.url)
    assert len(pauses) == 2 * SETTINGS.attempts - 1


def test_a_wait_that_is_too_long(site: Site, pauses: list[float]) -> None:
    site.always = Fault(503, {"Retry-After": "86400"})
    assert "error 503 and asks to wait 86400 s, which is longer than image_timeout leaves" in failed(site.url)
    assert not pauses


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": " 5 "}, 5),
        ({"Retry-After": "-5"}, 0),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "9" * 400}, 999_999_999),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        # The clock of the server counts.
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT", "Date": "Wed, 21 Oct 2015 07:27:00 GMT"}, 60),
    ],
)
def test_waits_as_they_are_written(headers: dict[str, str], seconds: float) -> None:
    assert failure.wait_asked(headers.get) == seconds


# Connections.


@contextlib.contextmanager
def listening(act: Callable[[socket.socket], None]) -> Iterator[tuple[int, list[object]]]:
    """The port of a server that does ``act`` with each connection and closes it, and the connections so far."""
    seen: list[object] = []

    def accept() -> None:
        while True:
            try:
                connection, who = server.accept()
            except OSError:
                return
            seen.append(who)
            with connection, contextlib.suppress(OSError):
                act(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1], seen
        server.shutdown(socket.SHUT_RDWR)


def closes(connection: socket.socket) -> None:
    connection.recv(10_000)


def resets(connection: socket.socket) -> None:
    connection.recv(10_000)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def speaks_plain(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def has_nothing_in_common(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"\x15\x03\x01\x00\x02\x02\x28")  # a fatal alert: handshake failure (RFC 8446, 6)


@pytest.mark.parametrize(
    ("scheme", "act", "again", "words"),
    [
        ("http", closes, True, "127.0.0.1 broke the connection"),
        ("http", resets, True, "127.0.0.1 broke the connection"),
        ("https", closes, True, "TLS with 127.0.0.1 failed"),
        ("https", resets, True, "127.0.0.1 broke the connection"),
        ("https", speaks_plain, False, "TLS with 127.0.0.1 failed (WRONG_VERSION_NUMBER)"),
        ("https", has_nothing_in_common, False, "TLS with 127.0.0.1 failed"),
    ],
)
def test_connections(
    pauses: list[float], scheme: str, act: Callable[[socket.socket], None], again: bool, words: str
) -> None:
    with listening(act) as (port, seen):
        assert words in failed(f"{scheme}://127.0.0.1:{port}/image")
        assert len(seen) == (3 if again else 1) and len(pauses) == len(seen) - 1


def unused() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_a_refused_connection_is_tried_again(pauses: list[float]) -> None:
    assert "127.0.0.1 refuses the connection, 3 attempts" in failed(f"http://127.0.0.1:{unused()}/image")
    assert len(pauses) == 2


@pytest.mark.parametrize(
    ("number", "resolvers", "again", "words"),
    [
        (socket.EAI_AGAIN, "nameserver 192.0.2.53\n", True, "the resolver 192.0.2.53 gives no answer, 3 attempts"),
        (socket.EAI_AGAIN, "search here\n", True, "names no resolver, and the system gives no answer"),
        (socket.EAI_FAIL, "nameserver ::1\nnameserver 192.0.2.1\n", True, "the resolver ::1 or 192.0.2.1 gives no"),
        (socket.EAI_NONAME, "nameserver 192.0.2.53\n", False, "the resolver 192.0.2.53 knows no such name"),
    ],
)
def test_names(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    pauses: list[float],
    number: int,
    resolvers: str,
    again: bool,
    words: str,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise socket.gaierror(number, "words of the system")

    (tmp_path / "resolv.conf").write_text(resolvers)
    monkeypatch.setattr(failure, "_RESOLVERS", tmp_path / "resolv.conf")
    monkeypatch.setattr(socket, "getaddrinfo", fails)
    text = failed("http://images.example/image")
    assert "the name images.example cannot be resolved: " in text and words in text
    assert len(pauses) == (2 if again else 0)
    monkeypatch.setenv("http_proxy", "http://user:s3cret@proxy.example:3128")
    text = failed("http://images.example/image")
    assert "the proxy proxy.example:3128 cannot be used: the name proxy.example cannot be resolved: " in text


# Proxies.


@pytest.fixture
def proxy(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    """``HOST:PORT`` of the site, which everything is asked for by way of."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    address = f"127.0.0.1:{site.url.rpartition(':')[2].partition('/')[0]}"
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://user:s3cret@{address}/")
    return address


@pytest.mark.parametrize(
    ("scheme", "status", "again", "words"),
    [
        ("http", 407, False, "the proxy {} asks for credentials (407)"),
        ("http", 502, True, "the server, or the proxy {}, answers with an error 502"),
        ("http", 504, True, "the server, or the proxy {}, answers with an error 504"),
        ("https", 407, False, "the proxy {} asks for credentials (407)"),
        ("https", 403, False, "the proxy {} does not reach images.example: it answers with status 403"),
        ("https", 429, True, "the proxy {} does not reach images.example: it answers with status 429"),
        ("https", 502, True, "the proxy {} does not reach images.example: it answers with status 502"),
        ("https", 503, True, "the proxy {} does not reach images.example: it answers with status 503"),
    ],
)
def test_a_proxy_that_answers(
    site: Site, proxy: str, pauses: list[float], scheme: str, status: int, again: bool, words: str
) -> None:
    site.always = Fault(status)
    assert words.format(proxy) in failed(f"{scheme}://images.example/image")
    assert len(pauses) == (2 if again else 0)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch, pauses: list[float], scheme: str) -> None:
    proxy = f"127.0.0.1:{unused()}"
    monkeypatch.delenv("no_proxy", raising=False)
    for written in (f"http://user:s3cret@{proxy}", proxy):
        monkeypatch.setenv(f"{scheme}_proxy", written)
        text = failed(f"{scheme}://images.example/image")
        assert f"the proxy {proxy} cannot be used: {proxy} refuses the connection" in text
    assert len(pauses) == 4


@pytest.mark.parametrize(("written", "shown"), [("socks9://127.0.0.1:9", "127.0.0.1:9"), ("http://", "that is set")])
def test_a_proxy_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float], written: str, shown: str
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", written)
    assert f"the proxy {shown} cannot be used: its URL cannot be used" in failed("http://images.example/image")
    assert not pauses


# Clocks.


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        ("20100101000000Z", "20110101000000Z", "has expired"),
        ("20900101000000Z", "20910101000000Z", "is not yet valid"),
    ],
)
@pytest.mark.pain("clock-wrong")
def test_clocks(tmp_path: Path, pauses: list[float], start: str, end: str, words: str) -> None:
    pem = dated(tmp_path, start, end)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with serving(IMAGE, wrap=lambda plain: context.wrap_socket(plain, server_side=True)) as secure:
        text = failed(secure.url, replace(SETTINGS, ca_file=str(pem)))
    assert f"the certificate of 127.0.0.1 {words} by this machine's clock, which says 20" in text
    assert text.endswith(" UTC") and not pauses


# Swift.


def account(site: Site) -> TransferSettings:
    return replace(SETTINGS, swift=SwiftAccount(f"{site.url}/auth/v1.0", "me:us", "s3cret"))


@pytest.fixture
def swift(site: Site) -> Site:
    """A site that gives tokens, unless a fault is for the request before it."""

    def before(request: dict[str, str]) -> Fault | None:
        if site.faults or not request["path"].endswith("/auth/v1.0"):
            return None
        return Fault(200, {"X-Storage-Url": site.url, "X-Auth-Token": "t0ken"})

    site.before = before
    return site


@pytest.mark.parametrize("status", FOR_NOW)
def test_an_account_that_is_busy(swift: Site, pauses: list[float], status: int) -> None:
    swift.faults = [Fault(status, {"Retry-After": "5"})]
    assert inspect(Location("swift://images/a"), account(swift)).served == len(IMAGE)
    assert len(pauses) == 1 and 5 <= pauses[0] <= 5.1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 501])
def test_an_account_that_refuses(swift: Site, pauses: list[float], status: int) -> None:
    swift.faults = [Fault(status)]
    words = "127.0.0.1 refuses swift_user and swift_key" if status in (401, 403) else "127.0.0.1 gives no token"
    text = failed("swift://images/a", account(swift))
    assert words in text and str(status) in text
    assert not pauses


def keystone(site: Site, **changes: str) -> TransferSettings:
    """The settings of an account of a Keystone beside the image, which answers unless a fault is for the request."""
    account = SwiftAccount(f"{site.url}/identity", "me", "s3cret", "3", "us", region="here")

    def before(request: dict[str, str]) -> Fault | None:
        if site.faults or "/identity/" not in request["path"]:
            return None
        assert not any("Authorization" in x for x in site.requests)
        name = "v2-token" if "/v2.0/" in request["path"] else "v3-token"
        return Fault(200, {"X-Subject-Token": "t0ken"}, body=json.dumps(_answers(site.url)[name]).encode())

    site.before = before
    return replace(SETTINGS, swift=replace(account, **changes))  # type: ignore[arg-type]


def _answers(url: str) -> dict[str, object]:
    """Answers of Keystone to who has given the password: Identity API v3, "Authentication", and that of v2.0."""
    end = "2099-01-01T00:00:00.000000Z"
    user, project = {"id": "u", "name": "me", "domain": {"id": "default"}}, {"id": "p", "name": "us"}
    endpoint = {"id": "e", "interface": "public", "region": "here", "region_id": "here", "url": url}
    elsewhere = {**endpoint, "region": "there", "region_id": "there", "url": "http://elsewhere.invalid"}
    catalog = [{"type": "object-store", "name": "swift", "id": "s", "endpoints": [elsewhere, endpoint]}]
    old = [{"type": "object-store", "name": "swift", "endpoints": [{"region": "here", "publicURL": url}]}]
    token = {"methods": ["password"], "expires_at": end, "issued_at": end, "roles": []}
    return {
        "v3-token": {"token": {**token, "user": user, "project": {**project, "domain": {}}, "catalog": catalog}},
        "v2-token": {
            "access": {
                "token": {"id": "t0ken", "expires": end, "tenant": project},
                "user": user,
                "serviceCatalog": old,
            }
        },
    }


@pytest.mark.parametrize(
    ("changes", "path", "sent"),
    [
        ({}, "/identity/v3/auth/tokens", '"domain": {"id": "default"}'),
        ({"user_domain": "ours"}, "/identity/v3/auth/tokens", '"domain": {"name": "ours"}'),
        ({"user": "us:me", "project": ""}, "/identity/v3/auth/tokens", '"project": {"name": "us"'),
        ({"auth_version": "2"}, "/identity/v2.0/tokens", '"tenantName": "us"'),
    ],
)
def test_keystone(
    site: Site, caplog: pytest.LogCaptureFixture, changes: dict[str, str], path: str, sent: str
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = keystone(site, **changes)
    assert inspect(Location("swift://images/a"), settings).served == len(IMAGE)
    asked, *fetched = site.requests
    assert asked["path"] == f"/image{path}"
    assert sent in asked["body"] and '"s3cret"' in asked["body"] and '"me"' in asked["body"]
    assert all(request["path"] == "/image/images/a" for request in fetched)
    assert all(request["X-Auth-Token"] == "t0ken" for request in fetched)
    assert "s3cret" not in caplog.text and "t0ken" not in caplog.text


def test_keystone_without_a_project(site: Site) -> None:
    with pytest.raises(UnsuitableNode, match="swift_project: Keystone gives a token"):
        inspect(Location("swift://images/a"), keystone(site, project=""))
    assert not site.requests


@pytest.mark.parametrize("status", [*FOR_NOW, *FOR_GOOD])
def test_keystone_that_is_busy_or_refuses(site: Site, pauses: list[float], status: int) -> None:
    settings = keystone(site)
    site.faults = [Fault(status, {"Retry-After": "5"})]
    if status in FOR_NOW:
        assert inspect(Location("swift://images/a"), settings).served == len(IMAGE)
        assert len(pauses) == 1 and 5 <= pauses[0] <= 5.1
    else:
        assert str(status) in failed("swift://images/a", settings)
        assert not pauses


@pytest.mark.parametrize("status", [301, 302, 305, 307, 308])
@pytest.mark.parametrize("version", ["2", "3"])
def test_keystones_password_stays_with_its_host(site: Site, pauses: list[float], status: int, version: str) -> None:
    with serving(IMAGE) as other:
        there = other.url.replace("127.0.0.1", "localhost")
        settings = keystone(site, auth_version=version)
        site.always = Fault(status, {"Location": f"{there}?s3cret"})
        site.before = None
        text = failed("swift://images/a", settings)
    assert "swift_auth_url: redirected to localhost, which would be given swift_user and swift_key" in text
    assert len(site.requests) == 1 and not other.requests and not pauses


def test_keystone_knows_no_netrc(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("default login root password s3cret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert inspect(Location("swift://images/a"), keystone(site)).served == len(IMAGE)
    assert not any("Authorization" in request for request in site.requests)


def test_an_account_without_a_token(swift: Site, pauses: list[float]) -> None:
    swift.before = lambda request: Fault(200)
    assert "127.0.0.1 gives no token" in failed("swift://images/a", account(swift))
    assert not pauses


def test_the_proxy_of_an_account(swift: Site, proxy: str, pauses: list[float]) -> None:
    swift.always = Fault(407)
    swift.before = None
    elsewhere = replace(SETTINGS, swift=SwiftAccount("https://accounts.example/v1.0", "me", "s3cret"))
    text = failed("swift://images/a", elsewhere)
    assert f"swift_auth_url: the proxy {proxy} asks for credentials (407)" in text
    assert not pauses
