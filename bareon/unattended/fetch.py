# SPDX-License-Identifier: Apache-2.0
"""The document for this node: asked for until it is there, and judged before anything is done with it."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from bareon.errors import ImageFailed
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.sizes import MIB, human
from bareon.tools import gpgv
from bareon.transfer import signature
from bareon.transfer.deadline import Deadline, TooSlow, pause
from bareon.transfer.failure import OUT_OF_TIME, Broken, Later, NotThere, chain
from bareon.transfer.http import Answer, Client

#: Bytes of a document, which may hold a configdrive. All of it is in memory, as the ramdisk itself is.
LARGEST = 64 * MIB
_NOTHING_TO_DO = 204
_LARGEST_SIGNATURE = MIB
_ATTEMPT = 600.0  # seconds for one answer; twice as many after each that took longer
_LONGEST_ASKED = 900.0  # seconds that a server may have the node wait
_PIECE = 1 << 16


@dataclass(frozen=True)
class Wanted:
    """A document: where it is, and what it must be: its SHA-256, or signed by a key of a file."""

    location: Location
    digest: str | None = None
    keyring: str | None = None


def fetched(
    wanted: Wanted,
    settings: TransferSettings,
    end: float,
    tell: Callable[[str], None],
    mend: Callable[[], None],
) -> bytes | None:
    """The document; ``None`` where the server says that there is nothing to do (204).

    A server that is not there, or that has no document for this node (404), is asked again, more and more seldom:
    either may come. ``settings`` has the times to wait.

    :param end: the moment at which it is given up, by the monotonic clock.
    :param tell: is told why it is not there, once for each reason.
    :param mend: is called before a server is asked again whose certificate did not hold: there may be somebody by
        then who knows the time, or the authority.
    :raises ImageFailed: for what asking again would not mend, or when the time is over.
    """
    if wanted.keyring:
        gpgv.keys(wanted.keyring)  # what is wrong with it is known before anybody is asked
    failed, slow, told = 0, 0, ""
    while True:
        try:
            return _once(wanted, settings, end, _ATTEMPT * 2**slow)
        except (Broken, ImageFailed) as error:
            reason, after = _reason(error), min(getattr(error, "after", 0.0), _LONGEST_ASKED)
            if not _mendable(error):
                raise ImageFailed(f"{wanted.location}: {reason}") from None
            slow += isinstance(error, TooSlow)
            distrusted = _distrusted(error) is not None
        failed += 1
        wait = pause(settings, failed, after, random.random())
        if time.monotonic() + wait >= end:
            raise ImageFailed(f"no document until bareon.timeout was over: {wanted.location}: {reason}")
        if reason != told:
            tell(f"{wanted.location}: {reason}; asking again")
            told = reason
        time.sleep(wait)
        if distrusted:
            mend()


def _once(wanted: Wanted, settings: TransferSettings, end: float, seconds: float) -> bytes | None:
    """The document by one attempt, and by one for its signature; ``seconds`` for each of them."""
    text = _asked(wanted.location, settings, end, seconds, LARGEST)
    if text is None:
        return None
    digest = hashlib.sha256(text).hexdigest()
    if wanted.digest and digest != wanted.digest:
        raise ImageFailed(f"has the SHA-256 {digest}, and bareon.input_sha256 is {wanted.digest}")
    if not wanted.keyring:
        return text
    beside = _beside(wanted.location)
    try:
        found = _asked(beside, settings, end, seconds, _LARGEST_SIGNATURE)
    except (Broken, ImageFailed) as error:
        if isinstance(error, NotThere):
            raise Broken(f"its signature, {beside}, is not there") from None
        # What the clock has to do with it is said by the caller.
        reason = f"its signature, {beside}: {_plain(error)}"
        raise Broken(reason, getattr(error, "after", 0.0)) if _mendable(error) else ImageFailed(reason) from error
    if found is None:
        raise Broken(f"its signature, {beside}, is not there")
    try:
        return signature.signed(text, found, wanted.keyring)
    except ImageFailed as error:
        # One of the two may have been replaced between the answers, or the clock may not be set yet.
        raise Broken(str(error)) from None


def _asked(location: Location, settings: TransferSettings, end: float, seconds: float, largest: int) -> bytes | None:
    deadline = Deadline(max(1.0, min(seconds, end - time.monotonic())))
    with contextlib.closing(Client(settings, deadline).get(location, {}, {}, empty=(_NOTHING_TO_DO,))) as answer:
        if answer.status == _NOTHING_TO_DO:
            return None
        if answer.status != 200:
            raise ImageFailed(answer.refusal)
        return _body(answer, deadline, largest)


def _body(answer: Answer, deadline: Deadline, largest: int) -> bytes:
    found, piece = bytearray(), memoryview(bytearray(_PIECE))
    too_large = ImageFailed(f"is larger than {human(largest)}, which none is")
    if (answer.length or 0) > largest:
        raise too_large
    while count := answer.readinto(piece):
        deadline.check()
        found += piece[:count]
        if len(found) > largest:
            raise too_large
    return bytes(found)


def _beside(location: Location) -> Location:
    """Where the signature of a document is: ``.sig`` behind its path."""
    parts = urlsplit(location.reveal())
    return Location(urlunsplit(parts._replace(path=f"{parts.path}.sig")))


def _mendable(error: Exception) -> bool:
    # A resolver that knows no such name may be asked before the network is there, and a certificate judged before the
    # clock is set.
    return isinstance(error, Broken | NotThere | Later | TooSlow) or any(
        isinstance(link, socket.gaierror | ssl.SSLCertVerificationError) for link in chain(error)
    )


def _distrusted(error: Exception) -> ssl.SSLCertVerificationError | None:
    """The failure of a certificate behind an error, if there is one."""
    return next((link for link in chain(error) if isinstance(link, ssl.SSLCertVerificationError)), None)


def _reason(error: Exception) -> str:
    failure = _distrusted(error)
    if failure and failure.verify_code in OUT_OF_TIME:
        return f"{_plain(error)}; where that is wrong, its firmware or a time server (NTP) must set it"
    return _plain(error)


def _plain(error: Exception) -> str:
    if isinstance(error, NotThere):
        return "the server has no document for this node (404)"
    if isinstance(error, Later):
        return f"{error.refusal} and asks to wait {error.after:g} s"
    return str(error)
