# SPDX-License-Identifier: Apache-2.0
"""Accounts for registries, from a file as docker and podman write it: ``config.json`` or ``auth.json``.

``auths`` has an entry for each registry, ``HOST[:PORT]``, a part of one, ``HOST[:PORT]/FOLDER``, or a URL. Of an
entry ``auth`` is ``USER:PASSWORD`` in Base64; ``username`` and ``password`` may stand there in its place.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bareon.errors import UnsuitableNode
from bareon.model.reference import Reference

_LARGEST = 1 << 20  # bytes
_OPTION = "image_auth_file"
#: By which docker names the registry that it calls docker.io.
_SAME = {"index.docker.io": "docker.io", "registry-1.docker.io": "docker.io"}


def account(path: str, wanted: Reference) -> tuple[str, str] | None:
    """User and password for what is wanted, ``None`` where the file has none; secret.

    :raises UnsuitableNode: when the file cannot be read or understood. It says nothing of what is in it.
    """
    entries = _entries(path)
    fitting = [key for key in entries if _fits(_plain(key), wanted)]
    if not fitting:
        return None
    found = entries[max(fitting, key=lambda key: len(_plain(key)))]
    if not isinstance(found, dict):
        raise _unreadable(path)
    if found.get("identitytoken"):
        raise UnsuitableNode(f"{_OPTION}: {path} has an identity token for {wanted.server}, and needs a password")
    return _named(found, path) or _packed(found.get("auth"), path)


def _entries(path: str) -> Mapping[str, Any]:
    try:
        with Path(path).open("rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise UnsuitableNode(f"{_OPTION}: {path} cannot be read: {error.strerror}") from None
    try:
        found = json.loads(text) if len(text) <= _LARGEST else None
    except (ValueError, RecursionError):
        found = None
    entries = found.get("auths", {}) if isinstance(found, dict) else None
    if not isinstance(entries, dict):
        raise _unreadable(path)
    return entries


def _unreadable(path: str) -> UnsuitableNode:
    return UnsuitableNode(f"{_OPTION}: {path} is no file of accounts as docker's config.json is")


def _plain(key: str) -> str:
    """The registry, or the part of it, that an entry is for."""
    place = key.partition("://")[2] or key
    server, _, folder = place.rstrip("/").partition("/")
    folder = "" if folder in ("v1", "v2") else folder
    server = _SAME.get(server.lower(), server.lower())
    return f"{server}/{folder}" if folder else server


def _fits(place: str, wanted: Reference) -> bool:
    server = _SAME.get(wanted.server, wanted.server)
    return f"{server}/{wanted.repository}/".startswith(f"{place}/")


def _named(entry: Mapping[str, Any], path: str) -> tuple[str, str] | None:
    user, password = entry.get("username"), entry.get("password")
    if user is None and password is None:
        return None
    if not isinstance(user, str) or not isinstance(password, str):
        raise _unreadable(path)
    return user, password


def _packed(value: object, path: str) -> tuple[str, str] | None:
    if not value:
        return None
    try:
        user, colon, password = base64.b64decode(str(value), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise _unreadable(path) from None
    if not colon:
        raise _unreadable(path)
    return user, password.rstrip("\0")
