# SPDX-License-Identifier: Apache-2.0
"""The configdrive that Ironic has for a node, as a file for the ramdisk. The conductor fetches it from a URL."""

from __future__ import annotations

import base64

import requests
from ironic.conf import CONF

from bareon.drivers.data import configdrive as configdrives
from bareon.errors import ActionFailed
from bareon.ironic.document import Request
from bareon.text import shown

_LIMIT = 60.0  # seconds for the server


def content(asked: Request) -> str | None:
    """The content of the file, plain ASCII; ``None`` where there is none.

    :raises BareonError: when it cannot be fetched, or is none. No message quotes it, or the secrets in its URL.
    """
    url = asked.configdrive_url
    if url is None:
        return asked.configdrive
    where = "instance_info.configdrive"
    try:
        verify = CONF.webserver_verify_ca
        with requests.get(url, timeout=_LIMIT, stream=True, verify=_verify(verify)) as answer:
            answer.raise_for_status()
            found = b"".join(_limited(answer, url))
    except requests.RequestException as error:
        # Its text may have the whole URL in it.
        reason = getattr(error.response, "status_code", None) or type(error).__name__
        raise ActionFailed(f"{where}: {shown(url)} cannot be fetched: {reason}") from None
    configdrives.from_file(found, where)
    return found.decode() if found.isascii() else base64.b64encode(found).decode()


def _verify(setting: str) -> bool | str:
    """Ironic's setting as requests wants it: a truth value in words, or a path."""
    return {"true": True, "false": False}.get(str(setting).lower(), setting)


def _limited(answer: requests.Response, url: str) -> list[bytes]:
    pieces, left = [], configdrives.LARGEST_FILE
    for piece in answer.iter_content(1 << 20):
        left -= len(piece)
        if left < 0:
            raise ActionFailed(f"instance_info.configdrive: {shown(url)} is too large for a configdrive")
        pieces.append(piece)
    return pieces
