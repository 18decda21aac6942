# SPDX-License-Identifier: Apache-2.0
"""What the bytes of an image are held to while they pass, as they are served."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from typing import Protocol

from bareon.errors import ImageFailed
from bareon.model.image import Digest, Published
from bareon.model.settings import TransferSettings
from bareon.transfer.signature import verify_stream


class Check(Protocol):
    """One thing that all bytes of an image must agree with."""

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes; always called from one thread."""

    def verify(self) -> None:
        """Judge, after the last byte. Raises ImageFailed."""

    def close(self) -> None:
        """End it, judged or not."""


class DigestCheck:
    """A digest that was given or published. ``of`` says of what."""

    def __init__(self, wanted: Digest, of: str = "its") -> None:
        self.wanted = wanted
        self._of = of
        self._hash = hashlib.new(wanted.algorithm, usedforsecurity=False)
        self.update = self._hash.update

    @property
    def found(self) -> str:
        """The digest of the bytes so far, in hexadecimal."""
        return self._hash.hexdigest()

    def verify(self) -> None:
        if self.found != self.wanted.value:
            raise ImageFailed(f"{self._of} {self.wanted.algorithm} is {self.found}, {self.wanted.value} was wanted")

    def close(self) -> None:
        pass


class SignatureCheck:
    """A detached signature of the image: gpgv(1) reads along, for ``patience`` seconds at most."""

    def __init__(self, signature: bytes, keyring: str, patience: float) -> None:
        self._reading, self._writing = os.pipe()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(
            target=self._judge, args=(signature, keyring, patience), name="gpgv", daemon=True
        )
        self._thread.start()

    def _judge(self, signature: bytes, keyring: str, patience: float) -> None:
        try:
            verify_stream(self._reading, signature, keyring, patience)
        except BaseException as error:  # noqa: BLE001  it is raised again by the thread that waits
            self._failure = error
        finally:
            os.close(self._reading)  # what still comes is not waited for

    def update(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        with contextlib.suppress(BrokenPipeError):  # it has judged already
            while rest:
                rest = rest[os.write(self._writing, rest) :]

    def verify(self) -> None:
        self.close()
        if self._failure:
            raise self._failure

    def close(self) -> None:
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1
            self._thread.join()


def is_checked(digest: Digest | None, published: Published) -> bool:
    """True if something is known of the bytes of a file: a digest that was given or published, or a signature."""
    return bool(digest or published.listed or published.digest or published.signature)


class Checks(contextlib.ExitStack):
    """All that the bytes of one file are held to; ``served`` takes them, ``plain`` those of an archive in it, once it
    is decoded. To be left, judged or not.
    """

    def __init__(
        self, digest: Digest | None, published: Published, settings: TransferSettings, plain: Digest | None = None
    ) -> None:
        super().__init__()
        digests = dict.fromkeys(x for x in (digest, published.listed, published.digest) if x)
        self._digests = [DigestCheck(x) for x in digests]
        self.served: list[Check] = [*self._digests]
        self.plain: list[Check] = [DigestCheck(plain, "decoded, its")] if plain else []
        if published.signature is not None and settings.keyring is not None:
            self.served.append(SignatureCheck(published.signature, settings.keyring, settings.total_timeout))
        for check in self.served:
            self.callback(check.close)

    @property
    def digest(self) -> str | None:
        """That of the file, in hexadecimal, which is told in the report."""
        return self._digests[0].found if self._digests else None

    def verify(self) -> None:
        """Raise ImageFailed when something is not as it should be."""
        for check in (*self.served, *self.plain):
            check.verify()
