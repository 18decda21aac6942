# SPDX-License-Identifier: Apache-2.0
"""The location of an image: a URL or an rsync daemon's ``HOST::MODULE``, parsed once, masked where it is shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from bareon.text import shown

#: ``[USER@]HOST::MODULE[/PATH]`` of rsync(1).
_LONGEST_NAME = 253
_DAEMON = re.compile(r"([^-:/][^:/]*)::(.+)")
_DEFAULT_PORTS = {"http": 80, "https": 443}
#: Scheme, host and port.
Server = tuple[str, str, int | None]
_NOTHING = SplitResult("", "", "", "", "")


@dataclass(frozen=True, repr=False)
class Location:
    """A URL, or ``HOST::MODULE`` as an rsync daemon's; equal and hashable by its whole text.

    It may hold secrets, a password or the signature of a TempURL: ``str()`` and ``repr()`` are masked, and
    :meth:`reveal` is for the process or library that needs it whole. Parts that a broken text does not have are
    empty; nothing is raised here, since the driver that brings the image judges what it can fetch.

    ``mirrors`` are other places of the same file.
    """

    _whole: str
    mirrors: tuple[Location, ...] = ()
    _parts: SplitResult = field(init=False, compare=False)
    _sound: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        parts, sound = _parsed(self._whole)
        object.__setattr__(self, "_parts", parts)
        object.__setattr__(self, "_sound", sound)

    def __str__(self) -> str:
        return shown(self._whole)

    def __repr__(self) -> str:
        return f"Location({str(self)!r})"

    def reveal(self) -> str:
        """The text itself, with all that is secret in it."""
        return self._whole

    @property
    def sound(self) -> bool:
        """True if it can be parsed: brackets hold an address, the port is a number up to 65535."""
        return self._sound

    @property
    def scheme(self) -> str:
        """The scheme in lower case; ``rsync`` for ``HOST::MODULE``."""
        return self._parts.scheme

    @property
    def authority(self) -> str | None:
        """The authority component as written; ``None`` without ``//`` (RFC 3986, 3.2)."""
        empty = self._whole[len(self.scheme) :].startswith("://")  # urlsplit does not tell it from none
        return self._parts.netloc if self._parts.netloc or empty else None

    @property
    def host(self) -> str:
        """The name or address in lower case, without brackets."""
        return self._parts.hostname or ""

    @property
    def port(self) -> int | None:
        """The port that is given."""
        return self._parts.port if self._sound else None

    @property
    def account(self) -> tuple[str, str] | None:
        """User and password, ``None`` without a user; secret."""
        user = self._parts.username
        return None if user is None else (unquote(user), unquote(self._parts.password or ""))

    @property
    def path(self) -> str:
        """The path, with its percent-encoding undone."""
        return unquote(self._parts.path)

    @property
    def name(self) -> str:
        """The last part of the path; empty when there is none."""
        return PurePosixPath(self.path).name

    @property
    def query(self) -> str:
        return self._parts.query

    @property
    def server(self) -> Server:
        """Scheme, host and port, the scheme's own where none is given: what credentials belong to."""
        return self.scheme, self.host, self.port or _DEFAULT_PORTS.get(self.scheme)

    def without_account(self) -> Location:
        """The same without user and password."""
        return Location(self._parts._replace(netloc=self._parts.netloc.rpartition("@")[2]).geturl())

    def without_secrets(self) -> Location:
        """The same without user, password, query and fragment; itself where it is broken, or has nothing to mask."""
        if str(self) == self._whole or not self._sound:
            return self
        host = self._parts.netloc.rpartition("@")[2]
        return Location(self._parts._replace(netloc=host, query="", fragment="").geturl())

    def joined(self, reference: str) -> Location:
        """A reference resolved against this location (RFC 3986, 5.2), such as that of a redirect."""
        try:
            return Location(urljoin(self.without_account().reveal(), reference))
        except ValueError:
            return Location(reference)

    def sibling(self, suffix: str) -> Location | None:
        """The file beside this one: what follows its name's first dot is replaced, the query left out.

        ``None`` for a location that is broken or names no file.
        """
        try:
            path = PurePosixPath(self._parts.path)
            beside = str(path.with_name(path.name.split(".")[0] + suffix))
        except ValueError:
            return None
        return Location(self._parts._replace(path=beside, query="", fragment="").geturl())


def _parsed(text: str) -> tuple[SplitResult, bool]:
    """The parts of a location, and whether all of them make sense."""
    if daemon := _DAEMON.fullmatch(text):
        return SplitResult("rsync", daemon[1], f"/{daemon[2]}", "", ""), True
    if text[:1] <= " ":  # urlsplit strips blanks in front, whoever fetches need not
        return _NOTHING, False
    try:
        parts = urlsplit(text)
    except ValueError:
        return _NOTHING, False
    try:
        _ = parts.port
    except ValueError:
        return parts, False
    # Who fetches ends the authority at a backslash, and so would ask another host than the one that is read here.
    # No name in the DNS is longer (RFC 1035, 2.3.4), and what a server redirects to is shown to people.
    return parts, "\\" not in parts.netloc and len(parts.hostname or "") <= _LONGEST_NAME
