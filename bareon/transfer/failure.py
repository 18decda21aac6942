# SPDX-License-Identifier: Apache-2.0
"""Failures of transfers in messages of our own; the image is named once, by :func:`named`.

A failure is for now, and tried again, or for good. The one who failed is named: server, proxy, resolver, clock.
The messages of requests and urllib3 hold whole URLs, and so the signature of a TempURL: they must reach neither the
report nor the log.
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import errno
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import BadStatusLine, HTTPException
from pathlib import Path

import requests
import urllib3.exceptions as lower

from bareon.errors import ImageFailed
from bareon.model.location import Location

# What requests, urllib3 and sockets raise when a request or its answer fails.
FAILURES = (requests.RequestException, lower.HTTPError, HTTPException, OSError)

#: An answer that is none of HTTP's: below them are errors of numbers, which elsewhere say that a URL is wrong.
_NO_ANSWER = (BadStatusLine, lower.InvalidHeader)

_STATUS = {
    401: "the server asks for credentials, or those that it was given are wrong or have expired (401)",
    403: "the server refuses it: credentials or a signature in the URL are missing, wrong or expired (403)",
    404: "there is no such image on the server (404)",
    410: "the image is gone from the server (410)",
    416: "the server has no such part of it (416)",
    429: "the server is asked too often (429)",
    498: "the server is asked too often (498)",
}
_FOR_NOW = (408, 425, 429, 498)  # 498 is the rate limit of Swift
_FOR_GOOD = (501, 505, 506, 508, 510, 511)

_OF_PROXY = (
    requests.exceptions.ProxyError,
    lower.ProxyError,
    # The URL of the image itself was looked at before.
    requests.exceptions.InvalidProxyURL,
    requests.exceptions.InvalidSchema,
    lower.ProxySchemeUnknown,
)
#: How http.client names the answer of a proxy that does not open a tunnel.
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})\b")
# Reasons of OpenSSL that say that the two sides have nothing in common.
_TLS_FOR_GOOD = re.compile(r"WRONG_VERSION_NUMBER|HTTP_REQUEST|UNSUPPORTED_PROTOCOL|NO_PROTOCOLS|NO_SHARED")
_TLS_ALERTS = re.compile(r"ALERT_(HANDSHAKE_FAILURE|PROTOCOL_VERSION|CERTIFICATE_REQUIRED)|UNRECOGNIZED_NAME")
_NOT_YET_VALID, _EXPIRED = 9, 10  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
OUT_OF_TIME = (_NOT_YET_VALID, _EXPIRED)
"""Codes of a certificate's failure that may be the clock's."""
_RESOLVERS = Path("/etc/resolv.conf")
# These are answers; others, such as EAI_AGAIN, say that a resolver gave none.
_NO_SUCH_NAME = (socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_ADDRFAMILY, socket.EAI_FAMILY, socket.EAI_SERVICE)


class Broken(Exception):
    """A failure that another attempt may mend. The text is a reason for people.

    ``after`` is the seconds that the server asks to wait before.
    """

    def __init__(self, text: str, after: float = 0.0) -> None:
        super().__init__(text)
        self.after = after


class NotThere(ImageFailed):
    """There is nothing at the location."""


class Later(ImageFailed):
    """The server asks to wait longer, ``after`` seconds, than there is time for this request; ``refusal`` is why."""

    def __init__(self, text: str, refusal: str = "", after: float = 0.0) -> None:
        super().__init__(text)
        self.refusal = refusal
        self.after = after


@dataclass(frozen=True)
class Peer:
    """The host that is asked, and the proxy by which, as ``HOST:PORT``, where one is set."""

    host: str
    proxy: str | None = None


def peer(location: Location) -> Peer:
    """The host of a location, and the proxy that the environment sets for it."""
    url = location.without_account().reveal()
    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if not proxy:
        return Peer(location.host)
    whole = Location(proxy if "://" in proxy else f"http://{proxy}")
    port = f":{whole.port}" if whole.port else ""
    return Peer(location.host, f"{whole.host}{port}" if whole.host else "that is set")


@contextlib.contextmanager
def named(location: Location) -> Iterator[None]:
    """Put the location, masked, in front of what ImageFailed says in the ``with`` block."""
    try:
        yield
    except ImageFailed as error:
        raise type(error)(f"{location}: {error}") from None


def refused(status: int, asked: Peer) -> str:
    """An answer that is not the image, in words."""
    if status == 407:
        return f"the proxy {asked.proxy or ''} asks for credentials (407)".replace("  ", " ")
    # Where there is a proxy, only it knows whose error it is.
    who = f"the server, or the proxy {asked.proxy}," if asked.proxy and status >= 500 else "the server"
    return _STATUS.get(status) or f"{who} answers with {'an error' if status >= 500 else 'status'} {status}"


def final(status: int) -> bool:
    """True for an HTTP status that is permanent: a retry would give the same."""
    return status in _FOR_GOOD or (status < 500 and status not in _FOR_NOW)


def hopeless(error: BaseException) -> bool:
    """True for a permanent failure: a retry would give the same."""
    links = list(chain(error))
    if any(isinstance(link, _NO_ANSWER) for link in links):
        return False
    return any(_is_final(link) for link in links)


def _is_final(link: BaseException) -> bool:
    if isinstance(link, socket.gaierror):
        return link.errno in _NO_SUCH_NAME
    if isinstance(link, ssl.SSLError) and not isinstance(link, ssl.SSLCertVerificationError):
        return bool(_TLS_FOR_GOOD.search(link.reason or "") or _TLS_ALERTS.search(link.reason or ""))
    if status := _tunnel(link):
        return final(status)
    return isinstance(link, (lower.LocationParseError, ValueError, UnicodeError))


def _tunnel(link: BaseException) -> int | None:
    """The status by which a proxy refused to open a tunnel."""
    match = _TUNNEL.search(str(link)) if isinstance(link, OSError) else None
    return int(match[1]) if match else None


def wait_asked(answer: Callable[[str], str | None]) -> float:
    """The seconds that a ``Retry-After`` asks for (RFC 9110, 10.2.3); 0 without one that can be read.

    :param answer: gives the value of a header.
    """
    value = (answer("Retry-After") or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    # By the server's clock, where it tells: the node's may be wrong.
    until, now = (_date(value), _date(answer("Date")) or datetime.datetime.now(datetime.UTC))
    return max(0.0, (until - now).total_seconds()) if until else 0.0


def _date(text: str | None) -> datetime.datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(text or "")
    except (ValueError, OverflowError):  # of a year that no calendar has
        return None
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


def reason(error: BaseException, asked: Peer) -> str:
    """The reason that no answer came, in words, naming who failed."""
    links = list(chain(error))
    if asked.proxy and any(isinstance(link, _OF_PROXY) for link in links):
        if status := next(filter(None, map(_tunnel, links)), None):
            if status == 407:
                return refused(status, asked)
            return f"the proxy {asked.proxy} does not reach {asked.host}: it answers with status {status}"
        return f"the proxy {asked.proxy} cannot be used: {_reason(links, asked.proxy, proxy=True)}"
    return _reason(links, asked.host)


def _reason(links: Sequence[BaseException], host: str, *, proxy: bool = False) -> str:
    for link in links:
        if isinstance(link, ssl.SSLCertVerificationError):
            return _certificate(link, host)
        if isinstance(link, socket.gaierror):
            return _unresolved(link, host.rpartition(":")[0] or host if proxy else host)
        if isinstance(link, ssl.SSLError):
            return f"TLS with {host} failed" + (f" ({link.reason})" if link.reason else "")
    for kinds, text in (
        (ConnectionRefusedError, f"{host} refuses the connection"),
        ((requests.ConnectTimeout, lower.ConnectTimeoutError), f"{host} cannot be reached: timed out"),
        ((TimeoutError, requests.Timeout, lower.TimeoutError), f"{host} was silent for too long: timed out"),
        ((ConnectionError, HTTPException, lower.ProtocolError, lower.InvalidHeader), f"{host} broke the connection"),
        (ValueError, "its URL cannot be used" if proxy else "is not a URL that can be fetched"),
    ):
        if any(isinstance(link, kinds) for link in links):
            return text
    number = next((link.errno for link in links if isinstance(link, OSError) and link.errno in errno.errorcode), None)
    return f"{host} cannot be reached" + (f": {os.strerror(number)}" if number else "")


def _certificate(error: ssl.SSLCertVerificationError, host: str) -> str:
    now = f"by this machine's clock, which says {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"
    if error.verify_code == _NOT_YET_VALID:
        return f"the certificate of {host} is not yet valid {now}"
    if error.verify_code == _EXPIRED:
        return f"the certificate of {host} has expired {now}"
    why = error.verify_message
    return f"the certificate of {host} is not trusted ({why}); image_ca_file names the authority to trust"


def _unresolved(error: socket.gaierror, name: str) -> str:
    try:
        words = [line.split() for line in _RESOLVERS.read_text(errors="replace").splitlines()]
    except OSError:
        words = []
    servers = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]
    who = f"the resolver {' or '.join(servers)}" if servers else f"{_RESOLVERS} names no resolver, and the system"
    what = "knows no such name" if error.errno in _NO_SUCH_NAME else "gives no answer"
    return f"the name {name} cannot be resolved: {who} {what}"


def chain(error: BaseException) -> Iterator[BaseException]:
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
