# SPDX-License-Identifier: Apache-2.0
"""``swift://container/object``: resolved to a URL and a token by the account in the configuration."""

from __future__ import annotations

import contextlib
import re
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
        if self._account.auth_version not in _VERSION_1 and find_spec("keystoneauth1") is None:
            raise UnsuitableNode("swift_auth_version: Keystone needs keystoneauth1, which is not installed")
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
            raise _refused(error, asked, self._account) from None
        if not storage or not token:
            raise ImageFailed(f"{asked.host} gives no token: is swift_auth_url the address of its accounts?")
        if Location(str(storage)).scheme not in ("http", "https"):
            raise ImageFailed(f"{asked.host} gives an address for its objects that is none of http and https")
        return str(storage), str(token)

    def _answer(self) -> tuple[object, object]:
        """The address of the objects and the token, as the account's service gives them."""
        if self._account.auth_version in _VERSION_1:
            return _version_1(self._account, self._settings)
        return _keystone(self._account, self._settings)


def _version_1(account: SwiftAccount, settings: TransferSettings) -> tuple[object, object]:
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
        if not 200 <= answer.status < 300:
            raise client.ClientException.from_response(answer, "no token", b"")
        return answer.getheader("X-Storage-Url"), answer.getheader("X-Auth-Token")


def _keystone(account: SwiftAccount, settings: TransferSettings) -> tuple[object, object]:
    """By a session that follows no redirect, as those would be given the password, and knows no ``~/.netrc``."""
    import requests
    from swiftclient import client

    http = requests.Session()
    http.auth = no_account
    # Imported so since it may not be there.
    session = import_module("keystoneauth1.session").Session(
        auth=_identity(account),
        session=http,
        verify=settings.ca_file or True,
        timeout=settings.connect_timeout,
        redirect=False,
    )
    with http:
        storage, token = client.get_auth(
            account.auth_url, account.user, account.key, session=session, os_options={"region_name": account.region}
        )
    return storage, token


def _identity(account: SwiftAccount) -> object:
    """The account as Keystone's plug-ins take it, asked for nowhere but at its own address."""
    version = "v2.0" if account.auth_version == "2" else "v3"
    there = account.auth_url.rstrip("/")
    there = there if re.search(r"/v[23](\.0)?$", there) else f"{there}/{version}"
    before, colon, behind = account.user.partition(":")  # PROJECT:USER, as swiftclient has it
    project, user = (before, behind) if colon else (account.project, account.user)
    if not project:
        raise UnsuitableNode("swift_project: Keystone gives a token for objects for a project alone")
    if account.auth_version == "2":
        password = import_module("keystoneauth1.identity.v2").Password
        return password(there, user, account.key, tenant_name=project)
    domains = {
        f"{whose}_domain_{'name' if name else 'id'}": name or "default"
        for whose, name in (("user", account.user_domain), ("project", account.project_domain))
    }
    password = import_module("keystoneauth1.identity.v3").Password
    return password(there, username=user, password=account.key, project_name=project, **domains)


def _refusals() -> tuple[type[Exception], ...]:
    """What swiftclient raises, and the clients of Keystone where it hands on what these raise."""
    from swiftclient.exceptions import ClientException

    if find_spec("keystoneauth1") is None:
        return (ClientException,)
    return ClientException, import_module("keystoneauth1.exceptions").ClientException


def _redirected(error: BaseException) -> str | None:
    """The address in an answer that is a redirect."""
    status = getattr(error, "http_status", None) or getattr(getattr(error, "response", None), "status_code", None)
    if status not in (301, 302, 303, 305, 307, 308):
        return None
    found = (getattr(x, name, None) for x in (error, getattr(error, "response", None)) for name in _HEADERS)
    return next((x for headers in found if headers and (x := headers.get("Location"))), None)


def _refused(error: Exception, asked: Peer, account: SwiftAccount) -> Exception:
    if there := next(filter(None, map(_redirected, chain(error))), None):
        host = visible(Location(account.auth_url).joined(there).host)
        return ImageFailed(f"swift_auth_url: redirected to {host}, which would be given swift_user and swift_key")
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
