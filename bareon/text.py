# SPDX-License-Identifier: Apache-2.0
"""Text for people: secrets masked, control characters escaped."""

from __future__ import annotations

import re

# Compiled when they are first used: every program is loaded with them, and most runs mask nothing.
_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*:[/\\]+"
_VALUE = r"([^=&;]*=)[^&;]*"
#: A query in a place where it is none.
_HIDDEN = r"((?:;|%3[Ff])[^=;/]*(?:=|%3[Dd]))[^;]*"
#: In what others write; as in _NAMED, nothing is looked at from each of its letters anew, since it may be long.
_URL = r"(?<![A-Za-z0-9+.-])([0-9+.-]*+)([A-Za-z][A-Za-z0-9+.-]*+://(?:[^\s@]{0,1000}@)?[^\s\"'<>\\]+)"
#: The digest behind a reference of an image in a registry, which is no secret.
_PINNED = r"(?s)(oci(?:\+http)?://.*)(@sha(?:256|512):[0-9a-f]+)"
#: A password as crypt(5) writes it.
_HASH = r"\$(?:1|2[abxy]|5|6|7|y|gy|sha1|argon2\w*)\$[^\s\"',:\\]+"
#: As on a kernel's command line.
_NAMED = r"""(?ix)
    (?<![\w.-])((?=[\w.-]*?(?:pass(?:w(?:or)?d|phrase)?|pwd?|token|secret|credential|temp_url_sig|authorization|(?:api|private|luks|auth)[_.-]?key))
    [\w.-]++["']?\s*[:=]\s*(?:bearer\s+|basic\s+)?)(?:"[^"]*"|'[^']*'|[^\s"'&,]+)"""

#: The account of a proxy, which needs no scheme before it.
_PROXY = r"""(?i)(?<![\w.-])((?=[\w.-]*?proxy)[\w.-]++=(?:[a-z]+://)?)[^\s"']*@"""


def counted(number: int, noun: str) -> str:
    """A number of things, such as ``1 partition`` or ``2 partitions``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def redacted(text: str) -> str:
    """``text`` with everything masked that looks like a secret.

    For output of the kernel and of other programs; bareon's own log and report have no secrets in the first place.
    """
    text = re.sub(_URL, lambda found: found[1] + shown(found[2]), text)
    text = re.sub(_PROXY, r"\1***@", text)
    return re.sub(_NAMED, r"\1***", re.sub(_HASH, "***", text))


def shown(url: str) -> str:
    """A URL for people: user, password and the values of its query are masked.

    Everything before the last ``@`` counts as a password, which may have a slash in it; the digest of an image in a
    registry, which has one too, stays.
    """
    if pinned := re.fullmatch(_PINNED, url):
        return shown(pinned[1]) + pinned[2]
    scheme = re.match(_SCHEME, url)
    start = scheme[0] if scheme else ""
    rest = url[len(start) :]
    if "@" in rest:
        rest = f"***@{rest.rpartition('@')[2]}"
    if not scheme:
        return start + rest
    rest, mark, query = rest.partition("#")[0].partition("?")
    if query:
        query = re.sub(_VALUE, r"\1***", query) if "=" in query else "***"
    return start + re.sub(_HIDDEN, r"\1***", rest) + mark + query


def visible(text: str, kept: str = "") -> str:
    """Text of unknown origin for a terminal or a page: control and bidirectional characters as their escapes.

    :param kept: characters to leave as they are, such as a newline.
    """
    return "".join(char if char.isprintable() or char in kept else ascii(char)[1:-1] for char in text)
