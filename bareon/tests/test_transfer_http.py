# SPDX-License-Identifier: Apache-2.0
"""Images from servers that break, lie and change their mind: success after resuming, or one clear line."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import random
import socket
import ssl
import subprocess
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.errors import ImageFailed, UnsuitableNode
from bareon.model.image import Digest
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.tests.imageserver import Fault, Site, dripping, serving
from bareon.transfer.deadline import Deadline
from bareon.transfer.http import Client
from bareon.transfer.image import Offer, Written, inspect, write
from bareon.transfer.superblock import Superblock

MIB = 1 << 20
SETTINGS = TransferSettings(attempts=3, total_timeout=20, connect_timeout=2, idle_timeout=1, back_off=0.01)
IMAGE = random.Random(1).randbytes(3 * MIB) + bytes(2 * MIB) + random.Random(2).randbytes(MIB + 1000)
SECRET = "temp_url_sig=s3cret&temp_url_expires=9"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(IMAGE) as served:
        yield served


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "device"
    path.write_bytes(b"\xee" * (8 * MIB))
    return path


def sha(data: bytes) -> Digest:
    return Digest("sha256", hashlib.sha256(data).hexdigest())


def bring(url: str, device: Path, settings: TransferSettings = SETTINGS, **more: object) -> Written:
    arguments = {"limit": 7 * MIB, "digest": sha(IMAGE), **more}
    return write(Location(url), str(device), settings=settings, progress=lambda served, of: None, **arguments)  # type: ignore[arg-type]


def refused(url: str, device: Path, settings: TransferSettings = SETTINGS, **more: object) -> str:
    """Why it failed, in one line that holds no secret; the device then looks like nothing."""
    with pytest.raises(ImageFailed) as caught:
        bring(url, device, settings, **more)
    text = str(caught.value)
    assert "\n" not in text and "s3cret" not in text
    assert device.read_bytes()[7 * MIB :] == b"\xee" * MIB
    assert device.read_bytes()[:MIB] in (bytes(MIB), b"\xee" * MIB)
    assert not [thread for thread in threading.enumerate() if thread.name in ("fetch", "decode", "write")]
    return text


def intact(device: Path) -> bool:
    data = device.read_bytes()
    return data[: len(IMAGE)] == IMAGE and data[7 * MIB :] == b"\xee" * MIB


def test_a_raw_image(site: Site, device: Path) -> None:
    assert inspect(Location(site.url), SETTINGS) == Offer(len(IMAGE), len(IMAGE), "raw", Superblock())
    done = bring(site.url, device)
    assert intact(device)
    assert (done.served, done.size, done.attempts, done.format) == (len(IMAGE), len(IMAGE), 1, "raw")
    assert done.digest == sha(IMAGE).value
    assert all(request["Accept-Encoding"] == "identity" for request in site.requests)


@pytest.mark.pain("no-resume")
def test_connections_cut_anywhere(site: Site, device: Path) -> None:
    cuts = random.Random(3).sample(range(1, MIB), 10)
    site.faults = [Fault(cut=cut, reset=cut % 2 == 0) for cut in cuts]
    done = bring(site.url, device)
    assert intact(device)
    assert done.attempts >= 6


def test_a_server_without_ranges_sends_all_again(site: Site, device: Path) -> None:
    site.ranges = False
    site.faults = [Fault(cut=2 * MIB), Fault(cut=1 * MIB), Fault(cut=5 * MIB)]
    done = bring(site.url, device)
    assert intact(device)
    assert done.attempts == 4


def test_errors_of_the_server_pass(site: Site, device: Path) -> None:
    site.faults = [Fault(500), Fault(503), Fault(cut=MIB), Fault(429), Fault(502)]
    assert bring(site.url, device).attempts == 6
    assert intact(device)


def test_no_length(site: Site, device: Path) -> None:
    site.faults = [Fault(chunked=True)]
    done = bring(site.url, device)
    assert intact(device)
    assert done.attempts == 1


def test_no_length_and_cut(site: Site, device: Path) -> None:
    site.faults = [Fault(chunked=True, cut=2 * MIB + 5)]
    assert bring(site.url, device).attempts == 2
    assert intact(device)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(401), "asks for credentials"),
        (Fault(403), "refuses it"),
        (Fault(404), "no such image"),
        (Fault(410), "gone"),
        (Fault(416), "no such part"),
        (Fault(418), "status 418"),
        (Fault(500), "an error 500, 3 attempts in a row"),
        (Fault(cut=0), "closed the connection, 3 attempts"),
        (Fault(length=len(IMAGE) + 5, headers={"ETag": ""}), f"after {len(IMAGE)} of {len(IMAGE) + 5} bytes"),
        (Fault(silent=1.5), "timed out"),
        (Fault(302, {"Location": "ftp://example.net/"}), "redirected to ftp://"),
        (Fault(302, {"Location": "/again?temp_url_sig=s3cret"}), "more than 10 redirects"),
        (Fault(body=b""), "is empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_final_faults(site: Site, device: Path, fault: Fault, words: str) -> None:
    site.always = fault
    text = refused(f"{site.url}?{SECRET}", device)
    assert words in text and "temp_url_sig=***" in text
    expected = 11 if "redirects" in words else 3 if "attempts" in words or "timed" in words else 1
    assert len(site.requests) == expected or "after" in words


@pytest.mark.parametrize("digits", ["9" * 5000, "\xb2", "-1", "+5", "1_0", " ", "0x10"])
@pytest.mark.parametrize("header", ["Content-Length", "Content-Range", "Retry-After"])
def test_a_number_of_a_server_is_a_number(site: Site, device: Path, header: str, digits: str) -> None:
    """Or as if it had said none: Python takes more for a number, and of more than 4300 digits none."""
    value = f"bytes 0-1/{digits}" if header == "Content-Range" else digits
    site.faults = [Fault(503, {header: value}), Fault(cut=MIB), Fault(headers={header: value})]
    with contextlib.suppress(ImageFailed):
        bring(site.url, device)
        assert intact(device)
    assert site.requests


def test_parts_that_end_elsewhere_than_they_say(site: Site, device: Path) -> None:
    def part(start: int, body: bytes) -> Fault:
        return Fault(206, {"Content-Range": f"bytes {start}-{len(IMAGE) - 1}/{len(IMAGE)}"}, body=body)

    site.faults = [part(0, IMAGE[:MIB]), part(MIB, IMAGE[MIB:-5]), part(len(IMAGE) - 5, IMAGE[-5:] + b"more")]
    assert bring(site.url, device).attempts == 3
    assert intact(device)


def test_changed_meanwhile(site: Site, device: Path) -> None:
    site.faults = [Fault(cut=2 * MIB), Fault(headers={"ETag": '"two"'})]
    assert "changed while it was read" in refused(site.url, device)


def test_changed_length(site: Site, device: Path) -> None:
    site.etag = None
    site.faults = [Fault(cut=2 * MIB), Fault(body=IMAGE[:-5])]
    assert "changed while it was read" in refused(site.url, device)


def test_wrong_digest(site: Site, device: Path) -> None:
    text = refused(site.url, device, digest=Digest("sha512", "00" * 64))
    assert f"its sha512 is {hashlib.sha512(IMAGE).hexdigest()}" in text
    assert device.read_bytes()[:MIB] == bytes(MIB)


def test_too_large_is_refused_untouched(site: Site, device: Path) -> None:
    assert "more than the 2 MiB" in refused(site.url, device, limit=2 * MIB)
    assert device.read_bytes() == b"\xee" * (8 * MIB)


def test_too_large_without_a_length(site: Site, device: Path) -> None:
    site.always = Fault(chunked=True)
    assert "holds more than the 2 MiB" in refused(site.url, device, limit=2 * MIB)
    assert device.read_bytes()[2 * MIB :] == b"\xee" * (6 * MIB)


def test_dripping_ends_with_the_total_time(site: Site, device: Path) -> None:
    site.always = Fault(drip=0.05)
    started = time.monotonic()
    assert "longer than 0.5 s" in refused(site.url, device, replace(SETTINGS, total_timeout=0.5))
    assert time.monotonic() - started < 2


def test_names_and_ports_without_a_server(device: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        text = refused(f"http://127.0.0.1:{port}/i?{SECRET}", device)
    assert "refuses the connection" in text
    assert "cannot be resolved" in refused(f"http://no-such.invalid/i?{SECRET}", device)
    for url in ("http:///x", "http://[::1/x", "http://h:99999/x", "gopher://x/y"):
        refused(url, device)


@pytest.mark.parametrize("headers", [{}, {"ETag": '"x"'}])
def test_credentials_stay_with_their_host(site: Site, device: Path, headers: dict[str, str]) -> None:
    with serving(IMAGE) as other:
        # Another port is another server.
        site.always = Fault(302, {"Location": other.url})
        assert bring(site.url.replace("://", "://user:s3cret@"), device).attempts == 1
    assert "Authorization" in site.requests[0]
    assert not any("Authorization" in request for request in other.requests)


def test_redirects_on_one_host_keep_the_credentials(site: Site, device: Path) -> None:
    site.faults = [Fault(307, {"Location": "/there"})]
    bring(site.url.replace("://", "://user:s3cret@"), device)
    assert all("Authorization" in request for request in site.requests)


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Credentials for the host of the tests in the file where requests looks for some."""
    path = tmp_path / ".netrc"
    path.write_text("machine 127.0.0.1 login root password s3cret\ndefault login root password s3cret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    return path


@pytest.mark.parametrize("variable", [False, True], ids=["HOME", "NETRC"])
def test_netrc_is_never_read(
    site: Site, device: Path, netrc: Path, monkeypatch: pytest.MonkeyPatch, variable: bool
) -> None:
    if variable:
        monkeypatch.setenv("NETRC", str(netrc))
    with serving(IMAGE) as other:
        site.faults = [Fault(302, {"Location": other.url})]
        bring(site.url, device)
        assert len(site.requests) == 1 and other.requests
        assert not any("Authorization" in request for request in (*site.requests, *other.requests))


def test_netrc_does_not_replace_the_account_of_the_url(site: Site, device: Path, netrc: Path) -> None:
    bring(site.url.replace("://", "://me:word@"), device)
    assert {request["Authorization"] for request in site.requests} == {"Basic bWU6d29yZA=="}


def test_an_account_in_a_redirect_is_its_own(site: Site, device: Path) -> None:
    """A server may send its own credentials along; they do not become those of the first host."""
    with serving(IMAGE) as other:
        there = other.url.replace("://", "://them:theirs@")
        site.faults = [Fault(302, {"Location": there})]
        other.faults = [Fault(302, {"Location": site.url})]
        bring(site.url.replace("://", "://user:s3cret@"), device)
    mine = {request["Authorization"] for request in site.requests}
    assert mine == {"Basic dXNlcjpzM2NyZXQ="}
    assert {request["Authorization"] for request in other.requests} == {"Basic dGhlbTp0aGVpcnM="}


@pytest.mark.parametrize("scheme", ["file:///etc/shadow", "ftp://127.0.0.1/x", "data:,x", "swift://c/o"])
def test_redirects_lead_to_http_alone(site: Site, device: Path, scheme: str) -> None:
    site.always = Fault(302, {"Location": scheme})
    assert "only http and https are followed" in refused(site.url, device)
    assert len(site.requests) == 1


def test_a_proxy(site: Site, device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", site.url)
    monkeypatch.delenv("no_proxy", raising=False)
    site.faults = [Fault(cut=MIB)]
    assert bring(f"http://images.invalid/disk?{SECRET}", device).attempts == 2
    assert site.requests[0]["path"] == f"http://images.invalid/disk?{SECRET}"


def test_nothing_secret_is_logged(site: Site, device: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    site.faults = [Fault(302, {"Location": f"/x?{SECRET}"}), Fault(cut=5), Fault(500)]
    bring(f"{site.url.replace('://', '://u:s3cret@')}?{SECRET}", device)
    assert "s3cret" not in caplog.text and "trying again" in caplog.text


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "pem"
    argv = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(tmp_path / "crt")]
    subprocess.run([*argv.split(), *more], check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "crt").read_text())
    return path


def test_certificates(certificate: Path, device: Path, site: Site) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(IMAGE, wrap=lambda plain: context.wrap_socket(plain, server_side=True)) as secure:
        text = refused(f"{secure.url}?{SECRET}", device)
        assert "is not trusted (self-signed certificate)" in text and "image_ca_file" in text
        trusting = replace(SETTINGS, ca_file=str(certificate))
        secure.faults = [Fault(cut=MIB)]
        assert bring(secure.url, device, trusting).attempts == 2
        assert intact(device)
        device.write_bytes(b"\xee" * (8 * MIB))
        secure.always = Fault(302, {"Location": site.url})
        before = len(site.requests)
        assert "from https to http, from 127.0.0.1 to 127.0.0.1, which" in refused(secure.url, device, trusting)
        assert len(site.requests) == before
        with pytest.raises(UnsuitableNode, match="image_ca_file"):
            bring(secure.url, device, replace(SETTINGS, ca_file="/nowhere"))


class Terminated(BaseException):
    pass


@pytest.mark.parametrize("fault", [Fault(silent=3), Fault(500), Fault(drip=0.05)], ids=["silent", "error", "drip"])
def test_the_caller_leaves_at_once(site: Site, device: Path, fault: Fault) -> None:
    site.faults = [Fault(cut=2 * MIB)]
    site.always = fault
    started = time.monotonic()

    def progress(served: int, of: int | None) -> None:
        if time.monotonic() - started > 0.4:
            raise Terminated

    slow = replace(SETTINGS, idle_timeout=60, total_timeout=60, back_off=20)
    with pytest.raises(Terminated):
        write(Location(site.url), str(device), limit=8 * MIB, digest=None, settings=slow, progress=progress)
    assert time.monotonic() - started < 3
    assert not [thread for thread in threading.enumerate() if thread.name in ("decode", "write")]
    assert device.read_bytes()[:MIB] == bytes(MIB)


def test_descriptors_are_closed(site: Site, device: Path) -> None:
    bring(site.url, device)
    before = len(os.listdir("/proc/self/fd"))
    for fault in (None, Fault(404), Fault(cut=MIB)):
        site.always = fault
        with contextlib.suppress(ImageFailed):
            bring(site.url, device)
    time.sleep(0.2)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_compressed_stream_survives_a_cut(site: Site, device: Path) -> None:
    packer = zlib.compressobj(wbits=31)
    site.body = packer.compress(IMAGE) + packer.flush()
    site.faults = [Fault(cut=MIB), Fault(cut=1), Fault(500)]
    done = bring(site.url, device, digest=sha(site.body))
    assert intact(device) and done.format == "gzip" and done.served == len(site.body)


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("begin", "drip"),
    [
        (b"", b"H"),
        (HEAD, b"X"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X"),
        (HEAD + b"Content-Length: 900\r\n\r\n", b"X"),
        (HEAD + b"\r\n", b"X"),
    ],
)
def test_bytes_that_come_one_by_one_hold_nothing_beyond_its_time(begin: bytes, drip: bytes) -> None:
    started = time.monotonic()
    with dripping(begin, drip) as url, pytest.raises(ImageFailed, match="took longer than 1 s in all"):
        answer = Client(TransferSettings(), Deadline(1.0)).get(Location(url), {}, {})
        with contextlib.closing(answer):
            while answer.readinto(memoryview(bytearray(100))):
                pass
    assert time.monotonic() - started < 30


def test_a_proxy_that_answers_byte_by_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    with dripping(b"HTTP/1.1 200 ", b"X") as url, pytest.raises(ImageFailed, match="took longer than 1 s in all"):
        monkeypatch.setenv("https_proxy", url.removesuffix("/x"))
        Client(TransferSettings(), Deadline(1.0)).get(Location("https://images.example/x"), {}, {})


def test_what_was_sent_is_answered_byte_by_byte() -> None:
    with dripping(HEAD, b"X") as url, pytest.raises(ImageFailed, match="took longer than 1 s in all"):
        Client(TransferSettings(), Deadline(1.0)).post(Location(url), {}, b"events")
