# SPDX-License-Identifier: Apache-2.0
"""Parameters that Ironic gives a ramdisk: on the kernel's command line, or in a file of a virtual medium."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from bareon import cmdline
from bareon.callback.key import conductors
from bareon.errors import Defect, InvalidInput
from bareon.model.location import Location
from bareon.text import visible

#: Nothing that could end a line, a header or a URL.
_PRINTABLE = re.compile(r"[!-~]+")
#: Labels of one to 63 characters; the resolver of Python ends by an error of its own at others.
_HOST = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}(\.[a-z0-9_-]{1,63})*(?<!-)\.?")
_REQUEST = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off")
_NAMES = (
    *("ipa-api-url", "ipa-agent-token", "ipa-global-request-id", "ipa-ca-file", "ipa-insecure"),
    *("ipa-lookup-timeout", "ipa-advertise-host", "bareon-key", "boot_method"),
)


@dataclass(frozen=True)
class Parameters:
    """What a ramdisk was told. ``conductor_key`` is type and key as in authorized_keys(5).

    ``lookup_timeout`` is in seconds, ``advertised`` the address that the conductor is to come back to.
    """

    api_urls: tuple[Location, ...]
    conductor_key: str
    token: str | None = field(default=None, repr=False)
    request_id: str | None = None
    ca_file: Path | None = None
    insecure: bool = False
    lookup_timeout: float | None = None
    advertised: str | None = None


def words(text: str, where: str) -> dict[str, str]:
    """The parameters of ``text`` that a ramdisk knows, by name; later grammar is that of :func:`parse`.

    :param where: what the text is, for errors.
    :raises InvalidInput: when one is there twice with two values.
    """
    known = ((name, value) for name, value in cmdline.parameters(text) if name in _NAMES and value is not None)
    return cmdline.unambiguous(known, where)


def is_of_ironic(text: str) -> bool:
    """Whether a kernel's command line, sound or not, is one of Ironic's, which has booted a ramdisk then."""
    return any(
        name == "bareon-key" or name.startswith("ipa-") or (name == "boot_method" and value == "vmedia")
        for name, value in cmdline.parameters(text)
    )


def parse(values: Mapping[str, str]) -> Parameters:
    """The parameters as values.

    :raises InvalidInput: with every defect, by the name of the parameter. No value that may be a secret is shown.
    """
    reader = _Reader(values)
    parameters = Parameters(
        api_urls=reader.urls(),
        conductor_key=reader.key(),
        token=reader.text("ipa-agent-token"),
        request_id=reader.request(),
        ca_file=reader.file("ipa-ca-file"),
        insecure=reader.flag("ipa-insecure"),
        lookup_timeout=reader.seconds("ipa-lookup-timeout"),
        advertised=reader.address("ipa-advertise-host"),
    )
    if reader.defects:
        raise InvalidInput(reader.defects)
    return parameters


class _Reader:
    """Reads each parameter by its grammar, and collects the defects."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.defects: list[Defect] = []

    def _wrong(self, name: str, message: str) -> None:
        self.defects.append(Defect(name, message))

    def text(self, name: str) -> str | None:
        value = self._values.get(name)
        if value is None:
            return None
        if not _PRINTABLE.fullmatch(value):
            self._wrong(name, "must be printable ASCII without blanks" if value else "is empty")
            return None
        return value

    def urls(self) -> tuple[Location, ...]:
        name = "ipa-api-url"
        if name not in self._values:
            self._wrong(name, "is neither on the kernel's command line nor on a virtual medium: Ironic adds it")
        found = []
        for text in (self.text(name) or "").split(","):
            if text and (why := _unfit(Location(text))):
                self._wrong(name, f"{visible(str(Location(text)))} {why}")
            elif text:
                found.append(Location(text.rstrip("/")))
        if not found and not self.defects:
            self._wrong(name, "has no URL")
        return tuple(found)

    def key(self) -> str:
        name = "bareon-key"
        if name not in self._values:
            self._wrong(
                name, "is not on the kernel's command line: bareon's deploy interface adds the conductor's key"
            )
            return ""
        try:
            return conductors(self.text(name) or "")
        except ValueError as error:
            if not any(defect.path == name for defect in self.defects):
                self._wrong(name, str(error))
            return ""

    def request(self) -> str | None:
        value = self.text("ipa-global-request-id")
        if value is not None and not _REQUEST.fullmatch(value):
            self._wrong("ipa-global-request-id", "must be req- and a UUID")
        return value

    def file(self, name: str) -> Path | None:
        value = self.text(name)
        if value is None:
            return None
        if not value.startswith("/"):
            self._wrong(name, f"{value} must be an absolute path of the ramdisk")
        return Path(value)

    def flag(self, name: str) -> bool:
        value = (self.text(name) or "0").lower()
        if value not in (*_YES, *_NO):
            self._wrong(name, f"{value} is neither 1 nor 0")
        return value in _YES

    def seconds(self, name: str) -> float | None:
        value = self.text(name)
        if value is None:
            return None
        if not re.fullmatch(r"[0-9]{1,6}", value):
            self._wrong(name, f"{value} is no number of seconds")
            return None
        return float(value)

    def address(self, name: str) -> str | None:
        value = self.text(name)
        if value is None:
            return None
        bare = value[1:-1] if value.startswith("[") and value.endswith("]") else value
        if not _is_address(bare):
            self._wrong(name, f"{value} is no address")
        return bare


def _unfit(url: Location) -> str | None:
    """What is wrong with the URL of an API, in the words after it."""
    if url.scheme not in ("http", "https"):
        return "must begin with http:// or https://"
    if not url.sound or not (_HOST.fullmatch(url.host) or _is_address(url.host)):
        return "has no host, or one that cannot be"
    if url.account:
        return "must have no user: looking up and heartbeats need none"
    if url.query or "#" in url.reveal() or "?" in url.reveal():
        return "must have no query"
    return None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
