# SPDX-License-Identifier: Apache-2.0
"""Ironic's API as a ramdisk uses it: a lookup and heartbeats, each one request with one bounded answer.

No redirect is followed, so no token can come to another host, and nothing that was asked by TLS goes on without it.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import urlencode

from bareon.callback.connection import Answer, Broken, Connector, Untrusted
from bareon.model.location import Location
from bareon.text import shown, visible

#: The first version of the API that takes what a heartbeat of bareon carries (agent_verify_ca).
VERSION = (1, 68)
_MASKED = re.compile(r"\*+")
_LONGEST_TEXT = 300  # characters of what the API says that are shown
_LONGEST_TIMEOUT = 86400  # seconds; a node that may be silent for longer is not watched at all


class Failure(Exception):
    """A request that had no success; its text is for people. Another attempt may have some."""


class Busy(Failure):
    """Somebody else works on the node."""


class Refused(Failure):
    """Another attempt has success only when somebody has mended something."""


@dataclass(frozen=True)
class Node:
    """A node as a lookup tells it. ``heartbeat_timeout`` is in seconds; there is a ``token`` the first time only."""

    uuid: str
    heartbeat_timeout: float
    token: str | None = field(default=None, repr=False)


class Api:
    """Ironic's API at the first of several URLs that answers.

    ``address`` is the one of this host that the API was reached from.
    """

    def __init__(self, urls: Sequence[Location], connector: Connector, request_id: str | None = None) -> None:
        self._urls = list(urls)
        self._connector = connector
        self._version = VERSION
        self._own = {"X-OpenStack-Request-ID": request_id} if request_id else {}
        self.address = ""

    @property
    def host(self) -> str:
        """The host that is asked first."""
        return visible(self._urls[0].host)

    def lookup(self, addresses: Sequence[str]) -> Node:
        """The node that has one of these hardware addresses, and waits for its ramdisk.

        :raises Failure: also while the node is in no state of waiting.
        """
        answer = self._request("GET", "/v1/lookup?" + urlencode({"addresses": ",".join(addresses)}, safe=":,"))
        if answer.status == 404:
            known = ", ".join(addresses)
            raise Failure(f"{self.host} has no node with {known} that waits for a ramdisk")
        if answer.status != 200:
            self._refused("the lookup", answer)
        try:
            return _node(json.loads(answer.body))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise Failure(
                f"{self.host} answers the lookup by what is none of Ironic's: is ipa-api-url right?"
            ) from None

    def heartbeat(self, node: str, token: str, content: Mapping[str, str]) -> None:
        """Tell that the ramdisk of a node is there.

        :raises Failure: unless it was accepted.
        """
        body = json.dumps({**content, "agent_token": token}).encode()
        answer = self._request("POST", f"/v1/heartbeat/{node}", body)
        if not 200 <= answer.status < 300:
            self._refused("the heartbeat", answer, token)

    def _request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        answer = self._anywhere(method, path, body)
        if answer.status == 406:
            self._version = self._agreed(answer)
            answer = self._anywhere(method, path, body)
        return answer

    def _anywhere(self, method: str, path: str, body: bytes | None) -> Answer:
        headers = {
            **self._own,
            "X-OpenStack-Ironic-API-Version": _dotted(self._version),
            "Accept": "application/json",
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        failures: list[Failure] = []
        for url in list(self._urls):
            try:
                answer = self._connector.request(url, method, path, headers, body)
            except Untrusted as error:
                failures.append(Refused(str(error)))
            except Broken as error:
                failures.append(Failure(str(error)))
            else:
                # The one that answers is asked first from now on.
                self._urls.sort(key=lambda other: other != url)
                self.address = answer.address
                return answer
        kind = Refused if all(isinstance(failure, Refused) for failure in failures) else Failure
        raise kind("; ".join(map(str, failures)))

    def _agreed(self, answer: Answer) -> tuple[int, int]:
        least, most = (
            _version(answer.headers.get(f"X-OpenStack-Ironic-API-{x}-Version")) for x in ("Minimum", "Maximum")
        )
        if not least or not most:
            raise Failure(f"{self.host} answers 406, and not as Ironic does: is ipa-api-url right?")
        if most < VERSION:
            raise Refused(
                f"{self.host} has Ironic's API up to {_dotted(most)} only, bareon needs {_dotted(VERSION)} or later"
            )
        return max(least, VERSION)

    def _refused(self, what: str, answer: Answer, secret: str | None = None) -> NoReturn:
        status = answer.status
        if 300 <= status < 400:
            there = visible(shown(answer.headers.get("Location", "nowhere")))[:_LONGEST_TEXT]
            raise Refused(
                f"{self.host} redirects to {there}, which is not followed: ipa-api-url must name the API itself"
            )
        said = _said(answer, secret)
        text = f"{self.host} refuses {what}: {said} (HTTP {status})"
        if status in (409, 423):
            raise Busy(text)
        if status >= 500 or status in (408, 425, 429):
            raise Failure(text)
        if re.search("token|detected change", said, re.IGNORECASE):
            text += "; token, address and host key hold for one boot, so have Ironic boot the node again"
        raise Refused(text)


def _node(document: Any) -> Node:
    """:raises ValueError, TypeError, KeyError, AttributeError: unless this is the answer to a lookup."""
    token = document["config"].get("agent_token")
    timeout = document["config"]["heartbeat_timeout"]
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= _LONGEST_TIMEOUT:
        raise ValueError
    if token is not None and not re.fullmatch(r"[!-~]{1,512}", token):
        raise ValueError
    known = None if token is None or _MASKED.fullmatch(token) else token
    return Node(str(uuid.UUID(document["node"]["uuid"])), float(timeout), known)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _version(text: str | None) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d{1,4})\.(\d{1,4})", text or "")
    return (int(found[1]), int(found[2])) if found else None


def _said(answer: Answer, secret: str | None) -> str:
    """The API's own words; ``error_message`` is an object, or the text of one."""
    text = ""
    try:
        message = json.loads(answer.body)
        message = message.get("error_message", message)
        message = json.loads(message) if isinstance(message, str) else message
        text = str(message.get("faultstring") or message.get("title") or "")
    except (ValueError, AttributeError, RecursionError):
        pass  # of somebody between, in HTML
    text = " ".join(text.split()) or answer.reason or "without a reason"
    return visible(text.replace(secret, "***") if secret else text)[:_LONGEST_TEXT]
