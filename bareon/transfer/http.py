# SPDX-License-Identifier: Apache-2.0
"""One request for an image: redirects, credentials, certificates and answers. No secret is shown."""

from __future__ import annotations

import contextlib
import http.client
import io
import logging
import os
import re
import threading
from collections.abc import Collection
from pathlib import Path

import requests

from bareon.errors import ImageFailed, UnsuitableNode
from bareon.model.location import Location, Server
from bareon.model.settings import TransferSettings
from bareon.text import visible
from bareon.transfer.deadline import Deadline
from bareon.transfer.failure import (
    FAILURES,
    Broken,
    Later,
    NotThere,
    Peer,
    final,
    hopeless,
    peer,
    reason,
    refused,
    wait_asked,
)
from bareon.transfer.guard import Guard, request

LOG = logging.getLogger(__name__)
# They log whole URLs with "debug", TempURL signatures included.
for _name in ("urllib3", "requests", "swiftclient", "keystoneauth"):
    logging.getLogger(_name).setLevel(logging.WARNING)

_REDIRECTS = 10
_OURS = {"Accept-Encoding": "identity", "User-Agent": "bareon", "Connection": "close"}


class Answer:
    """A response whose body is still to be read. ``server`` is who gave it, which redirects may have led to."""

    def __init__(
        self, response: requests.Response, asked: Peer, server: Server, guard: Guard, deadline: Deadline
    ) -> None:
        self._response = response
        self._guard = guard
        self._deadline = deadline
        self._peer = asked
        self.server = server
        self._left = self.length
        inner = getattr(response.raw, "_fp", None)
        # Past urllib3, where each byte is copied once more, which takes half as much time again as reading it;
        # what else it does (decoding, chunks) is not needed.
        plain = isinstance(inner, http.client.HTTPResponse) and not inner.chunked
        self._file: io.BufferedReader | None = getattr(inner, "fp", None) if plain else None

    @property
    def status(self) -> int:
        return self._response.status_code

    def header(self, name: str) -> str | None:
        return self._response.headers.get(name)

    @property
    def refusal(self) -> str:
        """The status in words."""
        return refused(self.status, self._peer)

    @property
    def length(self) -> int | None:
        """Bytes that the body says it has."""
        value = self.header("Content-Length") or ""
        return int(value) if re.fullmatch("[0-9]{1,19}", value) else None

    def readinto(self, buffer: memoryview) -> int:
        """Some bytes of the body, 0 at its end.

        :raises Broken: when it ends before its length, or nothing comes. :raises TooSlow: when the time is over.
        """
        try:
            count = self._received(buffer if self._left is None else buffer[: self._left])
        except Broken:
            if self._guard.over:
                raise self._deadline.too_slow() from None
            raise
        if self._guard.over and not count:  # which is no end of the body
            raise self._deadline.too_slow()
        if self._left is not None:
            if not count and self._left:
                raise Broken(f"{self._peer.host} closed the connection")
            self._left -= count
        return count

    def _received(self, buffer: memoryview) -> int:
        try:
            return self._readinto(buffer)
        except FAILURES as error:
            raise Broken(reason(error, self._peer)) from None
        except (AttributeError, ValueError):
            # What http.client and urllib3 raise when the connection is closed meanwhile by another thread.
            raise Broken(f"{self._peer.host} broke the connection") from None

    def _readinto(self, buffer: memoryview) -> int:
        if not buffer:
            return 0
        if self._file is not None:
            return self._file.readinto1(buffer)
        data = self._response.raw.read1(len(buffer), decode_content=False)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the connection, from any thread; a ``readinto`` under way returns."""
        self._guard.close()
        with contextlib.suppress(*FAILURES, ValueError, RuntimeError):
            self._response.raw.shutdown()
        with contextlib.suppress(*FAILURES, ValueError, RuntimeError):
            self._response.close()


def no_account(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """No credentials, in the form that requests takes them: without any it looks into ``~/.netrc``."""
    return request


class Client:
    """Asks for one image, again and again if need be."""

    def __init__(self, settings: TransferSettings, deadline: Deadline) -> None:
        self._settings = settings
        self._deadline = deadline
        if settings.ca_file is not None and not Path(settings.ca_file).is_file():
            raise UnsuitableNode(f"image_ca_file: there is no file {settings.ca_file}")

    def get(
        self, location: Location, headers: dict[str, str], secret: dict[str, str], empty: Collection[int] = ()
    ) -> Answer:
        """The answer to GET after all redirects: 200, 206, 401 or 416.

        :param secret: headers for the host of ``location`` alone.
        :param empty: other statuses that are an answer, without a body.
        :raises Broken: for what another attempt may mend. :raises Later: where the server wants that one too late.
        """
        here = _sound(location)
        for _ in range(_REDIRECTS + 1):
            ours = here.server == location.server
            answer = self._ask(here, {**_OURS, **headers, **(secret if ours else {})}, location if ours else here)
            there = answer.header("Location")
            if answer.status not in (301, 302, 303, 307, 308) or there is None:
                return answer if answer.status in empty else self._judged(answer)
            answer.close()
            here = _followed(here, there)
        raise ImageFailed(f"more than {_REDIRECTS} redirects")

    def post(self, location: Location, headers: dict[str, str], body: bytes, refusals: Collection[int] = ()) -> int:
        """Send something to where no redirect leads; return the status, below 300 or one of ``refusals``.

        :raises Broken: for what another attempt may mend. :raises ImageFailed: for what none does.
        """
        answer = self._ask(_sound(location), {**_OURS, **headers}, location, body)
        answer.close()
        if answer.status >= 300 and answer.status not in refusals:
            text = f"{visible(location.host)} does not take it: status {answer.status}"
            raise ImageFailed(text) if final(answer.status) else Broken(text, wait_asked(answer.header))
        return answer.status

    def _ask(
        self, location: Location, headers: dict[str, str], account: Location, body: bytes | None = None
    ) -> Answer:
        self._deadline.check()
        settings, asked = self._settings, peer(location)
        guard = Guard(self._deadline.left(threading.TIMEOUT_MAX))
        try:
            response = request(
                guard,
                "GET" if body is None else "POST",
                location.without_account().reveal(),
                data=body,
                headers=headers,
                auth=account.account or no_account,
                stream=True,
                allow_redirects=False,
                timeout=(self._deadline.left(settings.connect_timeout), self._deadline.left(settings.idle_timeout)),
                verify=settings.ca_file or _system_authorities(),
            )
        except (*FAILURES, ValueError) as error:
            guard.close()
            if guard.over:
                raise self._deadline.too_slow() from None
            if hopeless(error):
                raise ImageFailed(reason(error, asked)) from None
            raise Broken(reason(error, asked)) from None
        except BaseException:
            guard.close()
            raise
        answer = Answer(response, asked, location.server, guard, self._deadline)
        if guard.over:  # http.client takes the end of the connection for that of the head
            answer.close()
            raise self._deadline.too_slow()
        return answer

    def _judged(self, answer: Answer) -> Answer:
        if answer.status in (200, 206) or answer.status in (401, 416):
            return answer
        answer.close()
        text = answer.refusal
        if answer.status in (404, 410):
            raise NotThere(text)
        if final(answer.status):
            raise ImageFailed(text)
        after = wait_asked(answer.header)
        if after > self._deadline.left(after):
            why = f"{text} and asks to wait {after:g} s, which is longer than image_timeout leaves"
            raise Later(why, text, after)
        raise Broken(text, after)


def _sound(location: Location) -> Location:
    if not location.sound:
        raise ImageFailed("is not a URL that can be fetched")
    return location


def _followed(here: Location, reference: str) -> Location:
    there = _sound(here.joined(reference))
    if there.scheme not in ("http", "https"):
        raise ImageFailed(f"redirected to {there.scheme}://, only http and https are followed")
    if here.scheme == "https" and there.scheme == "http":
        hosts = f"from {visible(here.host)} to {visible(there.host)}"
        raise ImageFailed(f"redirected from https to http, {hosts}, which is not followed")
    LOG.info("%s: redirected to %s", here, there)
    return there


def _system_authorities() -> str | bool:
    """The trusted certificates of the machine; without any, those that requests brings along."""
    known = (os.environ.get(x) for x in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"))
    usual = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
    return next((path for path in (*known, *usual) if path and Path(path).is_file()), True)
