# SPDX-License-Identifier: Apache-2.0
"""``swift://container/object``: resolved to a URL and a token by the account in the configuration."""

from __future__ import annotations

from importlib.util import find_spec
from urllib.parse import quote, unquote

from bareon.errors import ImageFailed, UnsuitableNode
from bareon.model.location import Location
from bareon.model.settings import SwiftAccount, TransferSettings
from bareon.transfer.failure import FAILURES, Broken, final, reason


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
        if self._account.auth_version not in ("1", "1.0") and find_spec("keystoneclient") is None:
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
        from swiftclient import client
        from swiftclient.exceptions import ClientException

        account, host = self._account, Location(self._account.auth_url).host
        options = {
            "project_name": account.project,
            "user_domain_name": account.user_domain,
            "project_domain_name": account.project_domain,
            "region_name": account.region,
        }
        try:
            storage, token = client.get_auth(
                account.auth_url,
                account.user,
                account.key,
                auth_version=account.auth_version,
                os_options={name: value for name, value in options.items() if value is not None},
                cacert=self._settings.ca_file,
                timeout=self._settings.connect_timeout,
            )
        except ClientException as error:
            raise self._refused(error.http_status, host) from None
        except FAILURES as error:
            raise Broken(f"swift_auth_url: {reason(error, host)}") from None
        return str(storage), str(token)

    def _refused(self, status: int | None, host: str) -> Exception:
        if status in (401, 403):
            return ImageFailed(f"{host} refuses swift_user and swift_key ({status})")
        # Its text may hold the request; the status says enough.
        text = f"{host} gives no token" + (f" (status {status})" if status else "")
        return ImageFailed(text) if status and final(status) else Broken(text)
