# SPDX-License-Identifier: Apache-2.0
"""Containers in files, made by cryptsetup itself: keys reach it, and are in no argument list meanwhile.

What opens them needs the kernel's device mapper: the cases ``luks_*`` have that, in virtual machines.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bareon.storage import cryptkey
from bareon.storage.luks import HEADER
from bareon.tools import blkid, cryptsetup

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
