# SPDX-License-Identifier: Apache-2.0
"""The parameters ``bareon.…`` on a kernel's command line: all of them are understood, or nothing is done."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from bareon import cmdline
from bareon.errors import Defect, InvalidInput
from bareon.model.location import Location
from bareon.text import redacted, shown, visible

T = TypeVar("T")
#: Makes an argument of a value; a ValueError of it says why not.
Argument = Callable[[str], str]

PREFIX = "bareon."
AFTER = ("reboot", "poweroff", "kexec", "shell")
AGAIN = ("never", "changed", "always")
#: Words in braces in the URL of the document.
WORDS = ("mac", "serial", "uuid", "hostname")
#: What other parts of the ramdisk read: they judge it.
_OF_OTHERS = ("sshkey", "ca", "ntp", "medium")
_OWN = ("input", "input_sha256", "input_keyring", "events", "after", "timeout", "again", "lldp_timeout")
#: Options of bareon-provision that this program sets, or that deploy nothing.
_SET_HERE = frozenset(
    (
        *("input_data", "input_data_file", "progress", "report", "bundle", "kexec"),
        *("plan", "plan_format", "apply_plan", "node_facts", "dump_node_facts"),
    )
)
_DAY = 86400.0
_WHERE = "the kernel's command line"


@dataclass(frozen=True)
class Parameters:
    """What the ramdisk was told. ``source`` has words in braces; ``timeout`` is in seconds, for everything.

    ``lldp_timeout`` are the seconds that neighbours of the ports are waited for before the facts are sent.

    ``digest`` is the SHA-256 of the document, ``keyring`` the path of a file with keys that may sign it, and
    ``options`` are arguments for bareon-provision.
    """

    source: Location
    digest: str | None = None
    keyring: str | None = None
    events: Location | None = None
    after: str = "reboot"
    timeout: float = _DAY
    again: str = "never"
    lldp_timeout: float = 0.0
    options: tuple[str, ...] = ()


def parse(text: str, options: Mapping[str, Argument]) -> Parameters:
    """The parameters on a command line.

    :param options: those of bareon-provision by their names.
    :raises InvalidInput: with every defect.
    """
    reader = _Reader(options, dict(_values(text)))
    parameters = Parameters(
        source=reader.source(),
        digest=reader.read("input_sha256", _digest),
        keyring=reader.read("input_keyring", _path),
        events=reader.read("events", _url),
        after=reader.read("after", _one_of(AFTER)) or "reboot",
        timeout=reader.read("timeout", _seconds) or _DAY,
        again=reader.read("again", _one_of(AGAIN)) or "never",
        lldp_timeout=reader.read("lldp_timeout", _seconds) or 0.0,
        options=tuple(reader.options()),
    )
    if _replayable(parameters):
        reader.defects.append(
            Defect(
                f"{PREFIX}again",
                "changed takes an older document that was signed as well for a new one, and by http anybody can give"
                f" it: use https, or {PREFIX}input_sha256",
            )
        )
    if reader.defects:
        raise InvalidInput(reader.defects)
    return parameters


def _replayable(found: Parameters) -> bool:
    """True if a signature is all that says which document is the right one."""
    return bool(found.again == "changed" and found.keyring and not found.digest and found.source.scheme == "http")


def asks(text: str, options: Mapping[str, Argument]) -> bool:
    """True if a command line has a parameter of this program's, and not only those of others in the ramdisk."""
    return any(name in _OWN or name in options for name, _ in _named(text))


def strange(text: str, options: Mapping[str, Argument]) -> list[Defect]:
    """The words ``bareon.…`` that nobody knows, each with the nearest name that somebody does."""
    known = {*_OWN, *_OF_OTHERS, *options}
    names = dict.fromkeys(name for name, _ in _named(text) if name not in known)
    return [Defect(visible(shown(PREFIX + name)), _unknown(name, options)) for name in names]


def _unknown(name: str, options: Mapping[str, Argument]) -> str:
    known = [*_OWN, *_OF_OTHERS, *(x for x in options if x not in _SET_HERE)]
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; is {PREFIX}{near[0]} meant?" if near else ""
    return f"is neither a parameter of the ramdisk nor an option of bareon-provision{hint}"


def _values(text: str) -> dict[str, str]:
    """The values of all that begin with ``bareon.``, less the parameters of others; a hyphen is an underscore."""
    # Others may be repeated.
    named = ((name, value) for name, value in _named(text) if name not in _OF_OTHERS)
    found = cmdline.unambiguous(((visible(PREFIX + name), value or "") for name, value in named), _WHERE)
    return {name.removeprefix(PREFIX): value for name, value in found.items()}


def _named(text: str) -> Iterable[tuple[str, str | None]]:
    for name, value in cmdline.parameters(text):
        if name.startswith(PREFIX):
            yield name.removeprefix(PREFIX).replace("-", "_"), value


class _Reader:
    """Reads each parameter by its grammar, and collects the defects."""

    def __init__(self, options: Mapping[str, Argument], values: Mapping[str, str]) -> None:
        self._options = options
        self._values = values
        self.defects: list[Defect] = []

    def read(self, name: str, grammar: Callable[[str], T]) -> T | None:
        value = self._values.get(name)
        if value is None:
            return None
        try:
            if not value:
                raise ValueError("has no value")
            return grammar(value)
        except ValueError as error:
            # A blank or a ``=`` that was forgotten puts a URL where none belongs.
            self.defects.append(Defect(visible(shown(PREFIX + name)), visible(redacted(str(error)))))
            return None

    def source(self) -> Location:
        if "input" not in self._values:
            self.defects.append(Defect(f"{PREFIX}input", f"is not on {_WHERE}: it is the URL of the document"))
        return self.read("input", _template) or Location("")

    def options(self) -> Iterable[str]:
        """Arguments of all that are none of our own."""
        for name in self._values:
            if name in _OWN:
                continue
            if argument := self.read(name, self._argument(name)):
                yield argument

    def _argument(self, name: str) -> Argument:
        def refused(_: str) -> str:
            if name in _SET_HERE:
                raise ValueError("is set by the unattended run itself: remove it")
            raise ValueError(_unknown(name, self._options))

        def judged(value: str) -> str:
            if name == "actions" and "do_reboot" in value:
                raise ValueError(f"do_reboot would end the run before it is told: {PREFIX}after says what comes then")
            return self._options[name](value)

        return judged if name in self._options and name not in _SET_HERE else refused


def _url(text: str) -> Location:
    location = Location(text)
    if location.scheme not in ("http", "https") or not location.sound or not location.host:
        # What is no URL is not shown: nobody knows what of it is a password.
        raise ValueError("must be a URL that begins with http:// or https:// and names a host")
    return location


def _template(text: str) -> Location:
    for word in re.findall(r"\{([^{}]*)\}", text):
        if word not in WORDS:
            known = ", ".join(f"{{{x}}}" for x in WORDS)
            shown_word = f"{{{word}}}" if re.fullmatch("[a-z]{1,12}", word) else "what is there in braces"
            raise ValueError(f"{shown_word} is none of the words that it may have: {known}")
    location = _url(text)
    if "{" in location.host:
        raise ValueError("must name its host: words in braces are for what follows it")
    return location


def _digest(text: str) -> str:
    if not re.fullmatch("[0-9A-Fa-f]{64}", text):
        raise ValueError("must be 64 hexadecimal digits")
    return text.lower()


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(f"{text} must be an absolute path of the ramdisk")
    return text


def _seconds(text: str) -> float:
    if not re.fullmatch("[0-9]{1,7}", text) or not int(text):
        raise ValueError(f"{text} is no number of seconds")
    return float(text)


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    def grammar(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text} is none of {', '.join(choices)}")
        return text

    return grammar
