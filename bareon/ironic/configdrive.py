# SPDX-License-Identifier: Apache-2.0
"""The configdrive that Ironic has for a node, as a file for the ramdisk. The conductor fetches it from a URL."""

from __future__ import annotations

import base64
import threading
import time
from concurrent.futures import Future

import requests
import urllib3.exceptions

from bareon.drivers.data import configdrive as configdrives
from bareon.errors import ActionFailed
from bareon.ironic.document import Request
from bareon.model.location import Location
from bareon.text import shown, visible
from bareon.transfer.http import no_account

_LIMIT = 60.0  # seconds that a server may be silent
_TOTAL = 300.0  # seconds for all of it
_REDIRECTS = 10

WHERE = "instance_info.configdrive"


def content(asked: Request, verify: str, seconds: float = _TOTAL) -> str | None:
    """The content of the file, plain ASCII; ``None`` where there is none.

    :param verify: whom to trust, as Ironic's setting ``webserver_verify_ca`` has it.
    :raises BareonError: when it cannot be fetched, or is none. No message quotes it, or the secrets in its URL.
    """
    url = asked.configdrive_url
    if url is None:
        return asked.configdrive
    found = _within(seconds, url, verify)
    configdrives.from_file(found, WHERE)
    return found.decode() if found.isascii() else base64.b64encode(found).decode()


def _within(seconds: float, url: str, verify: str) -> bytes:
    """What is at a URL, in a thread: the time-out of a socket begins anew with each byte.

    Who sends a byte a minute, in headers too, must not hold a worker of the conductor and the lock of the node.
    """
    result: Future[bytes] = Future()
    end = time.monotonic() + seconds

    def fetch() -> None:
        try:
            result.set_result(_fetched(url, verify, end))
        except BaseException as error:  # noqa: BLE001  # it is raised where it is waited for
            result.set_exception(error)

    threading.Thread(target=fetch, name="bareon-configdrive", daemon=True).start()
    try:
        return result.result(seconds)
    except TimeoutError:
        raise ActionFailed(f"{WHERE}: {shown(url)} did not come whole within {seconds:g} s") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        # Its text may have the whole URL in it.
        reason = getattr(getattr(error, "response", None), "status_code", None) or type(error).__name__
        raise ActionFailed(f"{WHERE}: {shown(url)} cannot be fetched: {reason}") from None


def _fetched(url: str, verify: str, end: float) -> bytes:
    here = Location(url)
    for _ in range(_REDIRECTS + 1):
        # Redirects are followed here: requests would take the whole body of each, unpack it, and look into ~/.netrc.
        with requests.get(
            here.without_account().reveal(),
            headers={"Accept-Encoding": "identity"},
            auth=here.account or no_account,
            timeout=_LIMIT,
            stream=True,
            allow_redirects=False,
            verify=_verify(verify),
        ) as answer:
            if not answer.is_redirect:
                answer.raise_for_status()
                return _body(answer, url, end)
            there = here.joined(answer.headers["Location"])
        if there.scheme not in ("http", "https") or (here.scheme, there.scheme) == ("https", "http"):
            raise ActionFailed(
                f"{WHERE}: {shown(url)} redirects to {visible(str(there))[:300]}, which is not followed"
            )
        here = there
    raise ActionFailed(f"{WHERE}: {shown(url)} redirects more than {_REDIRECTS} times")


def _body(answer: requests.Response, url: str, end: float) -> bytes:
    """As it comes: what a server has packed for the way is not unpacked, since some KiB can be gigabytes."""
    found = bytearray()
    while piece := answer.raw.read1(1 << 16, decode_content=False):
        found += piece
        if len(found) > configdrives.LARGEST_FILE:
            raise ActionFailed(f"{WHERE}: {shown(url)} is too large for a configdrive")
        if time.monotonic() > end:
            raise TimeoutError
    return bytes(found)


def _verify(setting: str) -> bool | str:
    """Ironic's setting as requests wants it: a truth value in words, or a path."""
    return {"true": True, "false": False}.get(str(setting).lower(), setting)
