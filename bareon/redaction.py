# SPDX-License-Identifier: Apache-2.0
"""Text without what is secret in it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>\\]+")
#: A password as crypt(5) writes it.
_HASH = re.compile(r"\$(?:1|2[abxy]|5|6|7|y|gy|sha1)\$[^\s\"',:\\]+")
#: As on a kernel's command line.
_NAMED = re.compile(
    r"""(?i)\b([\w.-]*(?:passw(?:or)?d|pwd|token|secret|temp_url_sig|api_?key)[\w.-]*=)(?:"[^"]*"|[^\s"'&]+)"""
)


def redacted(text: str) -> str:
    """``text`` without what looks like a secret.

    Log and report have none in the first place; what the kernel and other programs say is not bareon's to choose.
    """
    text = _URL.sub(lambda url: shown(url[0]), text)
    return _NAMED.sub(r"\1***", _HASH.sub("***", text))


def shown(url: str) -> str:
    """A URL for people: user, password and the values of its query are masked."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return re.sub(r"\?.*|(?<=://)[^/@]*@", "***", url, flags=re.DOTALL)
    if not parts.scheme:
        return url
    netloc = f"***@{parts.netloc.rpartition('@')[2]}" if "@" in parts.netloc else parts.netloc
    query = re.sub(r"=[^&;]*", "=***", parts.query) if "=" in parts.query else "***" if parts.query else ""
    return parts._replace(netloc=netloc, query=query, fragment="").geturl()
