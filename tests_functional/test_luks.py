# SPDX-License-Identifier: Apache-2.0
"""Containers in files, made by cryptsetup itself: keys reach it, and are in no argument list; and servers of keys.

What opens them needs the kernel's device mapper: the cases ``luks_*`` have that, in virtual machines.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bareon.errors import UnsuitableNode
from bareon.storage import cryptkey
from bareon.storage.luks import HEADER
from bareon.tools import blkid, cryptsetup, https
from tests_functional.bench.httpd.certificate import Certificate, make_certificate
from tests_functional.bench.imageserver import LOOPBACK

UUID = "c0ffee00-0000-4000-8000-000000000001"
KEYS = (b"planted words", b"planted\0\xff\n" * 10_000)


@contextmanager
def watched() -> Iterator[set[bytes]]:
    """Collect the argument lists, and the environments, of all processes that come and go."""
    seen: set[bytes] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            for place in Path("/proc").glob("[0-9]*"):
                try:
                    seen.update({(place / "cmdline").read_bytes(), (place / "environ").read_bytes()})
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


@pytest.mark.parametrize("key", KEYS, ids=["words", "bytes"])
def test_what_is_made_opens_by_its_keys_alone(key: bytes, tmp_path: Path) -> None:
    file = tmp_path / "container"
    file.touch()
    with file.open("r+b") as opened:
        opened.truncate(HEADER + (4 << 20))
    recovery = cryptkey.recovery_key().encode()
    with watched() as seen:
        cryptsetup.make(str(file), UUID, "root", HEADER, key)
        cryptsetup.add_key(str(file), key, recovery)
        fits = [cryptsetup.fits(str(file), x) for x in (key, recovery, b"another", key + b"\n")]
    assert fits == [True, True, False, False]
    assert cryptsetup.header(str(file)) == cryptsetup.Header("luks2", "aes-xts-plain64")
    tags = blkid.probe([str(file)])[str(file)]
    assert (tags["TYPE"], tags["UUID"], tags["LABEL"]) == ("crypto_LUKS", UUID, "root")
    assert any(b"luksFormat" in x for x in seen), "nobody looked"
    assert not [x for x in seen if b"planted" in x.replace(str(tmp_path).encode(), b"") or recovery in x]


@contextmanager
def answering(answer: Iterable[bytes], certificate: Certificate) -> Iterator[str]:
    """A server that answers one request with these pieces and is gone; its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.public, certificate.private)
    with socket.create_server((LOOPBACK, 0)) as listening:

        def serve() -> None:
            with (
                contextlib.suppress(OSError),
                listening.accept()[0] as plain,
                context.wrap_socket(plain, server_side=True) as connection,
            ):
                connection.recv(4096)
                for piece in answer:
                    connection.sendall(piece)

        server = threading.Thread(target=serve)
        server.start()
        yield f"https://{LOOPBACK}:{listening.getsockname()[1]}/planted?planted"
        server.join()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (b"Content-Length: 4\r\n\r\nwhole", b"whol"),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n", b"whole"),
        (b"\r\nhalf", "does not say where it ends"),
        (b"Content-Length: 20\r\n\r\nhalf", "gives no key"),
        (b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "gives no key"),
        (b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nhalf", "gives no key"),
        (b"Content-Length: 99\r\n\r\n" + b"x" * 99, "more than 32 bytes"),
    ],
)
def test_a_key_that_was_cut_off_is_none(
    answer: bytes, found: bytes | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path, [LOOPBACK])
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.public))
    with answering([b"HTTP/1.1 200 OK\r\n" + answer], certificate) as url:
        if isinstance(found, bytes):
            assert https.fetch(url, 32) == found
        else:
            with pytest.raises(UnsuitableNode, match=found) as caught:
                https.fetch(url, 32)
            assert "planted" not in str(caught.value)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n"])
def test_a_key_that_drips_is_not_waited_for(answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = make_certificate(tmp_path, [LOOPBACK])
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate.public))
    monkeypatch.setattr(https, "WHOLE", 1.0)
    ended = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield answer
        while not ended.wait(0.1):
            yield b"x"

    with answering(pieces(), certificate) as url:
        began = time.monotonic()
        try:
            with pytest.raises(UnsuitableNode, match=f"{LOOPBACK} gives no whole key within 1 s"):
                https.fetch(url, 8192)
            assert time.monotonic() - began < 5
        finally:
            ended.set()
