# SPDX-License-Identifier: Apache-2.0
"""The words ``proxy=`` and ``no_proxy=``, and what programs are told by them: variables of their environment."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from bareon.model.location import Location

#: What neither a shell nor sshd_config(5) within quotes, nor a kernel's command line reads as something else.
_TEXT = re.compile(r"[A-Za-z0-9._~%+,;=:@\[\]/!*&()-]+")
_HOST = re.compile(
    r"\*|\.?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(:[0-9]{1,5}|/[0-9]{1,2})?|[0-9A-Fa-f:.]+(/[0-9]{1,3})?"
)


def parse(text: str) -> Location:
    """Return the proxy that ``[http://][USER:PASSWORD@]HOST:PORT`` names.

    :raises ValueError: for anything else; its text is for people, and has nothing of a password.
    """
    found = Location(text if "://" in text else f"http://{text}")
    if not _TEXT.fullmatch(text) or not found.sound or not found.host or found.path.strip("/") or found.query:
        raise ValueError("must be [http://][USER:PASSWORD@]HOST:PORT, other characters of a password as %XX")
    if found.scheme != "http":
        raise ValueError("is reached by http:// alone, for URLs of either kind")
    if found.port is None:
        raise ValueError("has no port, and programs disagree on which it is then")
    return Location(found.reveal().rstrip("/"))


def direct(text: str) -> tuple[str, ...]:
    """Return the hosts that are reached without the proxy, of a list with commas.

    :raises ValueError: for what is no name, domain, address or network; its text is for people.
    """
    found = tuple(text.split(","))
    for host in found:
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host or 'nothing'} is no host such as example.org, .example.org or 192.0.2.0/24")
    return found


def variables(proxy: Location | None, hosts: Sequence[str]) -> dict[str, str]:
    """The variables that curl, requests and urllib know; none without a proxy."""
    if proxy is None:
        return {}
    named = dict.fromkeys(("http_proxy", "https_proxy"), proxy.reveal())
    return {**named, "no_proxy": ",".join(hosts)} if hosts else named


def for_shell(found: Mapping[str, str]) -> str:
    """The text of a script that sets the variables."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in found.items())


def for_sshd(found: Mapping[str, str]) -> str:
    """The line of sshd_config(5) that does so for who logs in; only the first one of its kind counts."""
    words = [f'"{name}={value}"' for name, value in found.items()]
    return f"SetEnv {' '.join(words)}\n" if words else ""
