# SPDX-License-Identifier: Apache-2.0
"""``swift://container/object``: resolved to a URL and a token by the account in the configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from urllib.parse import quote, unquote

from bareon.errors import ImageFailed, UnsuitableNode
from bareon.model.location import Location
from bareon.model.settings import SwiftAccount, TransferSettings
from bareon.text import visible
from bareon.transfer.failure import FAILURES, Broken, Peer, chain, final, hopeless, peer, reason, refused, wait_asked
from bareon.transfer.http import no_account

_VERSION_1 = ("1", "1.0")
#: Where swiftclient keeps the headers of an answer, and where requests does, whose answer Keystone's clients keep.
_HEADERS = ("http_response_headers", "headers")


class Account:
    """Asks the account's service for a token; raises UnsuitableNode when no account is configured."""

    def __init__(self, location: Location, settings: TransferSettings) -> None:
        container, name = unquote(location.authority or ""), location.path.lstrip("/")
        if not container or not name or location.query:
            raise ImageFailed("is not of the form swift://container/object")
        self._path = f"{quote(container)}/{quote(name)}"
        if settings.swift is None:
            raise UnsuitableNode(
                f"{location} needs an account: set swift_auth_url, swift_user and swift_key in the configuration"
            )
        self._account: SwiftAccount = settings.swift
        if self._account.auth_version not in _VERSION_1 and find_spec("keystoneclient") is None:
            raise UnsuitableNode("swift_auth_version: Keystone needs python-keystoneclient, which is not installed")
        self._settings = settings
        self._known: tuple[str, str] | None = None

    def entry(self, again: bool) -> tuple[Location, dict[str, str]]:
        """The object's URL and the headers that open it.

        :param again: the last token was refused: ask for another one.
        :raises Broken: when another attempt may help.
        """
        if self._known is None or again:
            self._known = self._asked()
        storage, token = self._known
        return Location(f"{storage.rstrip('/')}/{self._path}"), {"X-Auth-Token": token}

    def _asked(self) -> tuple[str, str]:
        failures: tuple[type[Exception], ...] = (*_refusals(), *FAILURES)
        asked = peer(Location(self._account.auth_url))
        try:
            storage, token = self._answer()
        except failures as error:
            raise _refused(error, asked) from None
        if not storage or not token:
            raise ImageFailed(f"{asked.host} gives no token: is swift_auth_url the address of its accounts?")
        if Location(str(storage)).scheme not in ("http", "https"):
            raise ImageFailed(f"{asked.host} gives an address for its objects that is none of http and https")
        return str(storage), str(token)

    def _answer(self) -> tuple[object, object]:
        """The address of the objects and the token, as the account's service gives them."""
        from swiftclient import client

        account, settings = self._account, self._settings
        if account.auth_version in _VERSION_1:
            return _answer_of_version_1(account, settings)
        options = {
            "project_name": account.project,
            "user_domain_name": account.user_domain,
            "project_domain_name": account.project_domain,
            "region_name": account.region,
        }
        storage, token = client.get_auth(
            account.auth_url,
            account.user,
            account.key,
            auth_version=account.auth_version,
            os_options={name: value for name, value in options.items() if value is not None},
            cacert=settings.ca_file,
            timeout=settings.connect_timeout,
        )
        return storage, token


def _answer_of_version_1(account: SwiftAccount, settings: TransferSettings) -> tuple[object, object]:
    """As swiftclient's own function, but that no redirect is followed: the key would go to whatever host it names."""
    from swiftclient import client

    parsed, connection = client.http_connection(
        account.auth_url, cacert=settings.ca_file, timeout=settings.connect_timeout
    )
    with contextlib.closing(connection):
        connection.requests_args["allow_redirects"] = False
        connection.request_session.auth = no_account
        connection.request("GET", parsed.path, "", {"X-Auth-User": account.user, "X-Auth-Key": account.key})
        answer = connection.getresponse()
        if answer.is_redirect:
            there = visible(peer(Location(account.auth_url).joined(answer.getheader("Location"))).host)
            raise ImageFailed(f"swift_auth_url: redirected to {there}, which would be given swift_user and swift_key")
        if not 200 <= answer.status < 300:
            raise client.ClientException.from_response(answer, "no token", b"")
        return answer.getheader("X-Storage-Url"), answer.getheader("X-Auth-Token")


def _refusals() -> tuple[type[Exception], ...]:
    """What swiftclient raises, and the clients of Keystone where it hands on what these raise."""
    from swiftclient.exceptions import ClientException

    if find_spec("keystoneauth1") is None:
        return (ClientException,)
    return ClientException, import_module("keystoneauth1.exceptions").ClientException


def _refused(error: Exception, asked: Peer) -> Exception:
    # Its text may hold the request; the status says enough. Of Keystone only what lies below may have one.
    status = next(filter(None, (getattr(link, "http_status", None) for link in chain(error))), None)
    if status in (401, 403):
        return ImageFailed(f"{asked.host} refuses swift_user and swift_key ({status})")
    if status == 407:
        return ImageFailed(f"swift_auth_url: {refused(status, asked)}")
    if status:
        text = f"{asked.host} gives no token (status {status})"
    elif any(isinstance(link, FAILURES) for link in chain(error)):
        text = f"swift_auth_url: {reason(error, asked)}"
    else:
        text = f"{asked.host} gives no token"
    if final(status) if status else hopeless(error):
        return ImageFailed(text)
    found = (getattr(x, name, None) for x in (error, getattr(error, "response", None)) for name in _HEADERS)
    headers: Mapping[str, str] = next(filter(None, found), {})
    return Broken(text, wait_asked(headers.get))
