# SPDX-License-Identifier: Apache-2.0
"""A small secret from an HTTPS server: its certificate is verified, it leads nowhere else, and nothing is kept."""

from __future__ import annotations

import threading
from urllib.parse import urlsplit

from bareon.errors import UnsuitableNode

TIMEOUT = 30.0  # seconds to connect, and between two pieces
WHOLE = 90.0  # seconds for all of it, from the look at the host's name on


def fetch(url: str, at_most: int) -> bytes:
    """The body behind a URL.

    No more than the host is named in errors: whatever else is in the URL may be what lets one have the secret.

    :param at_most: bytes that it may have.
    :raises UnsuitableNode: when it cannot be had, or not within :data:`WHOLE` seconds.
    """
    found: list[bytes | BaseException] = []

    def ask() -> None:
        try:
            found.append(_asked(url, at_most))
        except BaseException as error:  # noqa: BLE001  it is raised where somebody waits for it
            found.append(error)

    # A server that gives a byte now and then meets each timeout of a socket, and looking up a name has none. The
    # thread that is left behind keeps no process from ending.
    asking = threading.Thread(target=ask, name="key", daemon=True)
    asking.start()
    asking.join(WHOLE)
    if not found:
        raise UnsuitableNode(f"{urlsplit(url).hostname} gives no whole key within {WHOLE:g} s")
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def _asked(url: str, at_most: int) -> bytes:
    import requests  # a tenth of a second, and hardly a run needs it
    import urllib3.exceptions

    host = urlsplit(url).hostname
    try:
        with requests.get(url, timeout=TIMEOUT, allow_redirects=False, stream=True) as answer:
            if answer.status_code != requests.codes.ok:
                raise UnsuitableNode(f"{host} answers {answer.status_code} to the question for a key")
            # Without either, a body that was cut off looks like the whole one.
            if "Content-Length" not in answer.headers and answer.headers.get("Transfer-Encoding") != "chunked":
                raise UnsuitableNode(f"{host} gives a key, and does not say where it ends")
            body = answer.raw.read(at_most + 1, decode_content=True)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise UnsuitableNode(f"{host} gives no key: {_reason(error)}") from None
    if len(body) > at_most:
        raise UnsuitableNode(f"{host} gives a key of more than {at_most} bytes")
    return bytes(body)


def _reason(error: Exception) -> str:
    """Words for what went wrong; those of the library quote the URL."""
    names = {"SSLError": "its certificate is not trusted", "ConnectTimeout": "it does not answer"}
    return names.get(type(error).__name__, type(error).__name__)
