# SPDX-License-Identifier: Apache-2.0
"""One request by HTTP, directly or by a proxy, whose answer is bounded in size and time.

By http.client: it follows no redirect, reads no ``~/.netrc``, and tells the address that a connection comes from.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import signal
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import NoReturn
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from bareon.model.location import Location
from bareon.text import visible

_LARGEST = 1 << 20  # bytes of an answer; Ironic's have some thousand


class Broken(Exception):
    """No answer; the text is for people."""


class Untrusted(Broken):
    """No answer from somebody who could be trusted."""


@dataclass(frozen=True)
class Answer:
    """What was answered. ``address`` is that of this host which the connection came from."""

    status: int
    reason: str
    headers: Message
    body: bytes
    address: str


class Connector:
    """Makes requests, each by a connection of its own, which may take so many ``seconds`` in all."""

    def __init__(self, context: ssl.SSLContext, seconds: float) -> None:
        self._context = context
        self._seconds = seconds

    def request(
        self, url: Location, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answer:
        """The answer to a request for ``path`` below ``url``, whatever its status.

        :raises Broken: when there is none. :raises Untrusted: when the certificate is not known.
        """
        host = visible(url.host)
        try:
            with _within(self._seconds):
                return self._asked(url, method, path, headers, body)
        except ssl.SSLCertVerificationError as error:
            why = error.verify_message.rstrip(".")
            raise Untrusted(f"the certificate of {host} is not trusted ({why}): ipa-ca-file= names its CA") from None
        except ssl.SSLError as error:
            raise Broken(f"no TLS with {host}: {error.reason or error}") from None
        except socket.gaierror as error:
            raise Broken(f"{host} is not known: {error.strerror}") from None
        except TimeoutError:
            raise Broken(f"{host} gave no whole answer within {self._seconds:g} s") from None
        except OSError as error:
            raise Broken(f"{host} cannot be reached: {error.strerror or error}") from None
        except (http.client.HTTPException, ValueError) as error:  # a name that can be none is a ValueError
            raise Broken(f"{host} does not answer as HTTP: {visible(type(error).__name__)}") from None

    def _asked(self, url: Location, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        route = self._route(url)
        with contextlib.closing(route.connection) as connection:
            connection.connect()
            address = str(connection.sock.getsockname()[0])
            ours = {"User-Agent": "bareon", "Accept-Encoding": "identity", "Connection": "close"}
            target = route.prefix + urlsplit(url.reveal()).path + path
            connection.request(method, target, body, {**ours, **headers, **route.headers})
            response = connection.getresponse()
            text = _read(response)
            if len(text) > _LARGEST:
                raise Broken(f"{visible(url.host)} answers with more than {_LARGEST} bytes")
            if response.length:
                raise Broken(f"{visible(url.host)} broke off in the middle of its answer")
            return Answer(response.status, response.reason, response.headers, text, address)

    def _route(self, url: Location) -> _Route:
        proxy = _proxy(url)
        _, host, port = (proxy or url).server
        account = _authorization(proxy) if proxy else {}
        if url.scheme == "https":
            secure = http.client.HTTPSConnection(host, port, context=self._context, timeout=self._seconds)
            if proxy:
                secure.set_tunnel(url.host, url.server[2], account)
            return _Route(secure)
        plain = http.client.HTTPConnection(host, port, timeout=self._seconds)
        return _Route(plain, f"http://{urlsplit(url.reveal()).netloc}" if proxy else "", account)


def _read(response: http.client.HTTPResponse) -> bytes:
    """As much of an answer as one may have, and a byte or more behind that where it has more.

    In pieces: read() believes a chunk that says its size is -1, and takes all that comes.
    """
    found = bytearray()
    while len(found) <= _LARGEST and (piece := response.read1(_LARGEST)):
        found += piece
    return bytes(found)


@dataclass(frozen=True)
class _Route:
    """A connection that is not open yet, what a path begins with on it, and headers for a proxy."""

    connection: http.client.HTTPConnection
    prefix: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def trust(authority: str | None, insecure: bool) -> ssl.SSLContext:
    """Whom to trust: the certificates given (PEM), else the system's; nobody is asked when ``insecure``.

    :raises ValueError: when ``authority`` has no certificate.
    """
    # Comments between the certificates may be in any language.
    certificates = None if authority is None else authority.encode("ascii", "replace").decode("ascii") or "none"
    try:
        context = ssl.create_default_context(cadata=certificates)
    except ssl.SSLError:
        raise ValueError("has no certificate that can be read (PEM)") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _proxy(url: Location) -> Location | None:
    """The proxy that the environment names for a URL."""
    proxies = getproxies()
    text = proxies.get(url.scheme)
    netloc = url.host if url.port is None else f"{url.host}:{url.port}"
    if not text or proxy_bypass(netloc):
        return None
    proxy = Location(text if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) else f"http://{text}")
    if proxy.scheme != "http" or not proxy.sound or not proxy.host:
        raise Broken(f"the proxy {visible(str(proxy))} of {url.scheme}_proxy is none that is reached by http://")
    return proxy


def _authorization(proxy: Location) -> dict[str, str]:
    if not proxy.account:
        return {}
    account = ":".join(proxy.account).encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(account).decode()}"}


@contextlib.contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the main thread after that time: a time-out of a socket begins anew with each byte."""

    def over(_number: int, _frame: object) -> NoReturn:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
