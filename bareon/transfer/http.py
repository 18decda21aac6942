# SPDX-License-Identifier: Apache-2.0
"""One request for an image: redirects, credentials, certificates and answers, without a word of a secret."""

from __future__ import annotations

import contextlib
import http.client
import io
import logging
import os
from pathlib import Path
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import requests

from bareon.errors import ImageFailed, UnsuitableNode
from bareon.model.settings import TransferSettings
from bareon.text import shown
from bareon.transfer.deadline import Deadline
from bareon.transfer.failure import FAILURES, Broken, final, hopeless, reason, refused
from bareon.transfer.source import NotThere

LOG = logging.getLogger(__name__)
# They log whole URLs with "debug", TempURL signatures included.
for _name in ("urllib3", "requests", "swiftclient", "keystoneclient", "keystoneauth"):
    logging.getLogger(_name).setLevel(logging.WARNING)

_REDIRECTS = 10
_OURS = {"Accept-Encoding": "identity", "User-Agent": "bareon", "Connection": "close"}


class Answer:
    """A response whose body is still to be read."""

    def __init__(self, response: requests.Response, host: str) -> None:
        self._response = response
        self._host = host
        self._left = self.length
        inner = getattr(response.raw, "_fp", None)
        # Past urllib3, which would copy each byte once more; what else it does (decoding, chunks) is not needed.
        plain = isinstance(inner, http.client.HTTPResponse) and not inner.chunked
        self._file: io.BufferedReader | None = getattr(inner, "fp", None) if plain else None

    @property
    def status(self) -> int:
        return self._response.status_code

    def header(self, name: str) -> str | None:
        return self._response.headers.get(name)

    @property
    def length(self) -> int | None:
        """Bytes that the body says it has."""
        value = self.header("Content-Length")
        return int(value) if value and value.isascii() and value.isdigit() else None

    def readinto(self, buffer: memoryview) -> int:
        """Some bytes of the body, 0 at its end.

        :raises Broken: when it ends before its length, or nothing comes.
        """
        try:
            count = self._readinto(buffer if self._left is None else buffer[: self._left])
        except FAILURES as error:
            raise Broken(reason(error, self._host)) from None
        except (AttributeError, ValueError):
            # What http.client and urllib3 raise when the connection is closed meanwhile by another thread.
            raise Broken(f"{self._host} broke the connection") from None
        if self._left is not None:
            if not count and self._left:
                raise Broken(f"{self._host} closed the connection")
            self._left -= count
        return count

    def _readinto(self, buffer: memoryview) -> int:
        if not buffer:
            return 0
        if self._file is not None:
            return self._file.readinto1(buffer)
        data = self._response.raw.read1(len(buffer), decode_content=False)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Hang up, from any thread: one that waits in ``readinto`` comes back."""
        with contextlib.suppress(*FAILURES, ValueError, RuntimeError):
            self._response.raw.shutdown()
        with contextlib.suppress(*FAILURES, ValueError, RuntimeError):
            self._response.close()


class Client:
    """Asks for one image, again and again if need be."""

    def __init__(self, url: str, settings: TransferSettings, deadline: Deadline) -> None:
        self._shown = shown(url)
        self._settings = settings
        self._deadline = deadline
        if settings.ca_file is not None and not Path(settings.ca_file).is_file():
            raise UnsuitableNode(f"image_ca_file: there is no file {settings.ca_file}")

    def get(self, url: str, headers: dict[str, str], secret: dict[str, str]) -> Answer:
        """The answer to GET after all redirects, whatever its status below 400.

        :param secret: headers for the host of ``url`` alone.
        :raises Broken: for what another attempt may mend.
        """
        origin = current = _split(url, self._shown)
        for _ in range(_REDIRECTS + 1):
            ours = _where(current) == _where(origin)
            answer = self._ask(current, {**_OURS, **headers, **(secret if ours else {})}, origin if ours else current)
            location = answer.header("Location")
            if answer.status not in (301, 302, 303, 307, 308) or location is None:
                return self._judged(answer)
            answer.close()
            current = self._followed(current, location)
        raise ImageFailed(f"{self._shown}: more than {_REDIRECTS} redirects")

    def _ask(self, url: SplitResult, headers: dict[str, str], account: SplitResult) -> Answer:
        self._deadline.check()
        settings, host = self._settings, url.hostname or ""
        user = account.username
        try:
            # No session: a connection that is kept may be closed by the server just when it is used again.
            response = requests.get(
                url._replace(netloc=url.netloc.rpartition("@")[2]).geturl(),
                headers=headers,
                auth=None if user is None else (unquote(user), unquote(account.password or "")),
                stream=True,
                allow_redirects=False,
                timeout=(self._deadline.left(settings.connect_timeout), self._deadline.left(settings.idle_timeout)),
                verify=settings.ca_file or _system_authorities(),
            )
        except (*FAILURES, ValueError) as error:
            if hopeless(error):
                raise ImageFailed(f"{self._shown}: {reason(error, host)}") from None
            raise Broken(reason(error, host)) from None
        return Answer(response, host)

    def _judged(self, answer: Answer) -> Answer:
        if answer.status in (200, 206) or answer.status in (401, 416):
            return answer
        answer.close()
        text = refused(answer.status)
        if answer.status in (404, 410):
            raise NotThere(f"{self._shown}: {text}")
        if final(answer.status):
            raise ImageFailed(f"{self._shown}: {text}")
        raise Broken(text)

    def _followed(self, here: SplitResult, location: str) -> SplitResult:
        there = _split(urljoin(here._replace(netloc=here.netloc.rpartition("@")[2]).geturl(), location), self._shown)
        if there.scheme not in ("http", "https"):
            raise ImageFailed(f"{self._shown}: redirected to {there.scheme}://, only http and https are followed")
        if here.scheme == "https" and there.scheme == "http":
            raise ImageFailed(f"{self._shown}: redirected from https to http, which is not followed")
        LOG.info("%s: redirected to %s", self._shown, shown(there.geturl()))
        return there


def _system_authorities() -> str | bool:
    """The trusted certificates of the machine; without any, those that requests brings along."""
    known = (os.environ.get(x) for x in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"))
    usual = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
    return next((path for path in (*known, *usual) if path and Path(path).is_file()), True)


def _split(url: str, name: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _where(parts)
    except ValueError:
        raise ImageFailed(f"{name}: is not a URL that can be fetched") from None
    return parts


def _where(url: SplitResult) -> tuple[str, str | None, int | None]:
    """What must be the same for credentials to be shown again."""
    return url.scheme, url.hostname, url.port or {"http": 80, "https": 443}.get(url.scheme)
