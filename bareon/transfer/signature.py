# SPDX-License-Identifier: Apache-2.0
"""Signatures by keys of a keyring: of texts, and of what comes from a descriptor."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bareon.errors import ImageFailed
from bareon.tools import gpgv


def signed(text: bytes, signature: bytes | None, keyring: str) -> bytes:
    """What of ``text`` is signed by a key of ``keyring``: all of it if its signature is beside it.

    :param signature: detached, or ``None`` for a text with its signature around it.
    :param keyring: the path of a file with public keys, armored or not.
    :raises ImageFailed: when it is not signed by such a key that is valid now.
    """
    with _home(keyring) as home:
        (home / "text").write_bytes(text)
        if signature is None:
            gpgv.verify(str(home), [f"{home}/text"], output=f"{home}/signed")
            return (home / "signed").read_bytes()
        (home / "signature").write_bytes(signature)
        gpgv.verify(str(home), [f"{home}/signature", f"{home}/text"])
        return text


def verify_stream(reading: int, signature: bytes, keyring: str, timeout: float) -> None:
    """See that what comes from a descriptor until its end is signed by a key of ``keyring``.

    :param timeout: seconds until the end must have come.
    :raises ImageFailed: when it is not, or by a key that is not valid now.
    """
    with _home(keyring) as home:
        (home / "signature").write_bytes(signature)
        gpgv.verify(str(home), [f"{home}/signature", f"/dev/fd/{reading}"], keep=[reading], timeout=timeout)


@contextlib.contextmanager
def _home(keyring: str) -> Iterator[Path]:
    try:
        with tempfile.TemporaryDirectory(prefix="bareon-") as name:
            Path(name, gpgv.KEYS).write_bytes(gpgv.keys(keyring))
            yield Path(name)
    except OSError as error:
        where = f"{tempfile.gettempdir()}: {error.strerror}"
        raise ImageFailed(f"its signature cannot be checked, which takes some room in {where}") from None
