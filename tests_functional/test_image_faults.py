# SPDX-License-Identifier: Apache-2.0
"""Images on their way from real servers to a device, with everything that can go wrong on it.

No virtual machine: the device is a loop device of this machine, and :mod:`bareon.transfer.image` runs in this
process. Whatever happens, nothing behind the limit is touched, no secret is said, and a half image looks like nothing
at all.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from bareon.errors import ImageFailed
from bareon.model.image import Digest
from bareon.model.location import Location
from bareon.model.settings import SwiftAccount, TransferSettings
from bareon.transfer import image
from building.process import run
from tests_functional.bench import loop
from tests_functional.bench.cell import SCRATCH
from tests_functional.bench.imageserver import LOOPBACK, ImageServers
from tests_functional.bench.nginx import Nginx
from tests_functional.bench.session import Record
from tests_functional.bench.waiting import until
from tests_functional.bench.word import Words, fill
from tests_functional.fault_table import GUARD, LIMIT, MIB, Fault, table

#: No zeros, no signature of anything.
PATTERN = b"\xa5\x5a bareon guard " * (MIB // 16)
SETTINGS = {"attempts": 3, "back_off": 0.02, "longest_wait": 0.1, "idle_timeout": 1.0, "connect_timeout": 5.0}
#: Format of each image, and whether its head or its end tells how large it is once decoded.
FORMS = {
    "small.img": ("raw", True),
    "small.img.gz": ("gzip", False),
    "small.img.zst": ("zstd", True),
    "small.img.xz": ("xz", True),
    "small.img.bz2": ("bzip2", False),
    "small.qcow2": ("qcow2", True),
}


class Target:
    """A loop device, with guard bytes all over it and behind its ``limit``."""

    def __init__(self, file: Path, device: Path, limit: int, size: int) -> None:
        self.device = device
        self.limit = limit
        self._file = file
        self._size = size

    def read(self, size: int, start: int = 0) -> bytes:
        """Return what is there, read past the device: from the file that it is."""
        with self._file.open("rb") as file:
            file.seek(start)
            return file.read(size)

    def untouched(self) -> bool:
        """Tell whether not a byte is another."""
        return self.read(self._size) == guard_bytes(self._size)

    def guarded(self) -> bool:
        """Tell whether what is behind the limit is as it was."""
        return self.read(self._size, self.limit) == guard_bytes(self._size)[self.limit :]

    def signatures(self) -> str:
        """Return what blkid finds."""
        return run(["blkid", "--probe", self.device], timeout=30, check=False).stdout


@cache
def guard_bytes(size: int) -> bytes:
    """Return what is on a device of this size before."""
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


@contextmanager
def target(limit: int, guard: int = GUARD) -> Iterator[Target]:
    """Yield a target with room for ``limit`` bytes, and ``guard`` bytes behind them."""
    file = SCRATCH / "target.raw"
    try:
        file.write_bytes(guard_bytes(limit + guard))
        with loop.attached(file) as device:
            yield Target(file, device, limit, limit + guard)
    finally:
        file.unlink(missing_ok=True)


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in table()])
@pytest.mark.pain("failed-pipe")
def test_fault(
    fault: Fault, image_servers: ImageServers, record_property: Record, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    words = image_servers.words(LOOPBACK)
    url = fill(fault.url, words)
    settings = settings_of(fault, words, image_servers)
    with target(fault.limit, fault.guard) as there:
        written, error = transfer(url, fault, there, words, settings)
        assert there.guarded(), "something was written behind the limit"
        for secret in secrets(url, settings):
            assert secret not in f"{error} {error!r}"
            assert secret not in caplog.text
        if fault.failure is None:
            assert error is None, error
            assert written is not None
            check_arrived(fault, there, written, image_servers)
            outcome = f"arrived, {written.attempts} connections, {written.seconds:.2f} s"
        else:
            assert error is not None, f"{written} instead of an error"
            said, _, reason = str(error).partition(f"{Location(url)}: ")
            assert said == "", "the error does not begin with the URL"
            check_refused(fault, there, reason)
            outcome = hidden(reason)
    where = "".join(re.findall(r"cut-at-[0-9-]+", fault.url))
    record_property("image faults", f"{fault.name}: {outcome} {where}".rstrip())


def secrets(url: str, settings: TransferSettings) -> list[str]:
    """Return what nobody may read."""
    key = [settings.swift.key] if settings.swift else []
    return parse_qs(urlsplit(url).query).get("temp_url_sig", []) + key


def settings_of(fault: Fault, words: Words, servers: ImageServers) -> TransferSettings:
    """Return impatient settings, and what the fault needs besides."""
    account = None
    if fault.account:
        account = SwiftAccount(
            fill("{swift_auth_url}", words), fill("{swift_user}", words), fill(fault.account, words)
        )
    ca_file = str(servers.http.certificate.public) if fault.trusted else None
    return TransferSettings(**SETTINGS | {**fault.settings, "ca_file": ca_file, "swift": account})  # type: ignore[arg-type]


def transfer(
    url: str, fault: Fault, there: Target, words: Words, settings: TransferSettings
) -> tuple[image.Written | None, ImageFailed | None]:
    """Bring the image; return what was written, or why it failed."""
    algorithm, _, value = fill(fault.digest or "", words).partition(":")
    digest = Digest(algorithm, value) if value else None  # type: ignore[arg-type]
    seen: list[tuple[int, int | None]] = []
    try:
        written = image.write(
            Location(url),
            str(there.device),
            limit=there.limit,
            digest=digest,
            settings=settings,
            progress=lambda done, total: seen.append((done, total)),
        )
    except ImageFailed as error:
        return None, error
    assert seen == sorted(seen, key=lambda pair: pair[0]), "progress went back"
    return written, None


def check_arrived(fault: Fault, there: Target, written: image.Written, servers: ImageServers) -> None:
    """Every byte of the image is there."""
    small = servers.images.path("small.img").read_bytes()
    assert written.size == len(small) * fault.copies
    assert there.read(written.size) == small * fault.copies, "other bytes than the image's"
    assert written.attempts >= fault.connections
    assert 'LABEL="small"' in there.signatures()


def check_refused(fault: Fault, there: Target, reason: str) -> None:
    """The error is one line that says it, and the device shows no trace of a file system."""
    assert "\n" not in reason
    assert re.search(fault.failure or "", reason), reason
    assert there.signatures() == ""
    if fault.untouched:
        assert there.untouched(), "written to before it was refused"


def hidden(text: str) -> str:
    """Return a text with digests shortened, which say nothing to people."""
    return re.sub(r"\b([0-9a-f]{6})[0-9a-f]{26,}\b", r"\1...", text)


@pytest.mark.parametrize("name", [*FORMS])
def test_what_is_told_beforehand(name: str, image_servers: ImageServers) -> None:
    """The format is known by content, and the size wherever the first bytes or the server tell it."""
    url = fill(f"{{http}}/plain/{name}", image_servers.words(LOOPBACK))
    offer = image.inspect(Location(url), TransferSettings())
    assert offer.served == image_servers.images.path(name).stat().st_size
    assert offer.format == FORMS[name][0]
    known = image_servers.images.path("small.img").stat().st_size
    assert offer.size == (known if FORMS[name][1] else None)


@pytest.fixture
def nginx(image_servers: ImageServers) -> Iterator[Nginx]:
    """Return an nginx that serves the images."""
    server = Nginx(SCRATCH / "nginx", image_servers.images.place)
    server.start()
    yield server
    server.kill()


def test_nginx_is_killed_and_comes_back(
    nginx: Nginx, image_servers: ImageServers, record_property: Record, caplog: pytest.LogCaptureFixture
) -> None:
    """The image goes on where it stopped, while the server was away for longer than one attempt takes."""
    fault = Fault("nginx killed and started again", "", connections=3, settings={"attempts": 30})
    settings = settings_of(fault, image_servers.words(LOOPBACK), image_servers)

    def restart() -> None:
        until(lambda: not there.untouched(), "a first byte")
        nginx.kill()
        until(lambda: "attempt 1, trying again" in caplog.text, "an attempt that failed")
        nginx.start()

    with target(LIMIT) as there:
        meanwhile = threading.Thread(target=restart)
        meanwhile.start()
        try:
            written, error = transfer(f"{nginx.url}/slow/small.img.gz", fault, there, {}, settings)
        finally:
            meanwhile.join()
        assert error is None, error
        assert written is not None
        check_arrived(fault, there, written, image_servers)
    record_property("image faults", f"{fault.name}: arrived, {written.attempts} connections, {written.seconds:.2f} s")
