# SPDX-License-Identifier: Apache-2.0
"""Failures of transfers in messages of our own; the image is named once, by :func:`named`.

The messages of requests and urllib3 hold whole URLs, and so the signature of a TempURL: they must reach neither the
report nor the log.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Iterator
from http.client import HTTPException

import requests
import urllib3.exceptions as lower

from bareon.errors import ImageFailed
from bareon.model.location import Location

# What requests, urllib3 and sockets raise when a request or its answer fails.
FAILURES = (requests.RequestException, lower.HTTPError, HTTPException, OSError)

_STATUS = {
    401: "the server asks for credentials, or those in the URL have expired (401)",
    403: "the server refuses it (403)",
    404: "there is no such image on the server (404)",
    407: "the proxy asks for credentials (407)",
    410: "the image is gone from the server (410)",
    416: "the server has no such part of it (416)",
    429: "the server is asked too often (429)",
}


class Broken(Exception):
    """A connection failed in a way that another attempt may mend. The text is a reason for people."""


class NotThere(ImageFailed):
    """There is nothing at the location."""


@contextlib.contextmanager
def named(location: Location) -> Iterator[None]:
    """Put the location, masked, in front of what ImageFailed says in the ``with`` block."""
    try:
        yield
    except ImageFailed as error:
        raise type(error)(f"{location}: {error}") from None


def refused(status: int) -> str:
    """An answer that is not the image, in words."""
    return _STATUS.get(status) or f"the server answers with {'an error' if status >= 500 else 'status'} {status}"


def final(status: int) -> bool:
    """True for an HTTP status that is permanent: a retry would give the same."""
    return status < 500 and status not in (408, 425, 429)


def hopeless(error: BaseException) -> bool:
    """True for a permanent failure: a retry would give the same."""
    bad = (ssl.SSLCertVerificationError, lower.LocationParseError, ValueError, UnicodeError)
    return any(isinstance(link, bad) for link in _chain(error))


def reason(error: BaseException, host: str) -> str:
    """The reason that no answer came from ``host``, in words."""
    links = list(_chain(error))
    for link in links:
        if isinstance(link, ssl.SSLCertVerificationError):
            why = link.verify_message
            return f"the certificate of {host} is not trusted ({why}); image_ca_file names the authority to trust"
    for kinds, text in (
        (socket.gaierror, f"the name {host} cannot be resolved"),
        (requests.exceptions.ProxyError, "the proxy cannot be reached or refuses"),
        (lower.ProxyError, "the proxy cannot be reached or refuses"),
        (ConnectionRefusedError, f"{host} refuses the connection"),
        ((requests.ConnectTimeout, lower.ConnectTimeoutError), f"{host} cannot be reached: timed out"),
        ((TimeoutError, requests.Timeout, lower.TimeoutError), f"{host} was silent for too long: timed out"),
        (ssl.SSLError, f"TLS with {host} failed"),
        ((ConnectionError, HTTPException, lower.ProtocolError), f"{host} broke the connection"),
        (ValueError, "is not a URL that can be fetched"),
    ):
        if any(isinstance(link, kinds) for link in links):
            return text
    number = next((link.errno for link in links if isinstance(link, OSError) and link.errno in errno.errorcode), None)
    return f"{host} cannot be reached" + (f": {os.strerror(number)}" if number else "")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those below it: causes, contexts, and the ones that urllib3 hands on as arguments."""
    waiting, seen = [error], set[int]()
    while waiting:
        link = waiting.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        below = [link.__cause__, link.__context__, getattr(link, "reason", None), *link.args]
        waiting.extend(other for other in below if isinstance(other, BaseException))
