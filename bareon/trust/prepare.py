# SPDX-License-Identifier: Apache-2.0
"""Prepares the ramdisk: keys, the clock, and then authorities; what fails is said, and the rest is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bareon import cmdline
from bareon.errors import CommandError, ImageFailed
from bareon.network import setup
from bareon.trust import authorities, clock, keys

Say = Callable[[str], None]
#: Its time is that of the build.
RELEASE = Path("etc/bareon-release")


def prepare(root: Path, say: Say, set_clock: Callable[[float], None]) -> bool:
    """Follow ``bareon.sshkey=``, ``bareon.ntp=`` and ``bareon.ca=``; ``False`` where a word is wrong.

    :param root: the folder with ``proc``, ``etc``, ``root`` and ``run``.
    :param set_clock: takes seconds since 1970.
    """
    words = list(cmdline.parameters(cmdline.read(root)))
    admitted, sound = _read([value or "" for name, value in words if name == "bareon.sshkey"], "bareon.sshkey", say)
    if admitted:
        _admit(admitted, root / "root", say)
    given = [value or "" for name, value in words if name == "bareon.ntp"]
    sound = _set_clock(root, given, say, set_clock) and sound
    # The clock judges certificates, so it comes first.
    return _trust([value or "" for name, value in words if name == "bareon.ca"], root, say) and sound


def _read(values: Sequence[str], name: str, say: Say) -> tuple[list[str], bool]:
    found = []
    for value in values:
        try:
            found.append(keys.parse(value))
        except ValueError as error:
            say(f"{name}: {error}")
    return found, len(found) == len(values)


def _admit(admitted: Sequence[str], home: Path, say: Say) -> None:
    try:
        keys.admit(admitted, home)
    except OSError as error:
        say(f"nobody can log in by bareon.sshkey: {error}")


def _trust(values: Sequence[str], root: Path, say: Say) -> bool:
    sound, end = True, time.monotonic() + authorities.SETTINGS.total_timeout
    for value in values:
        try:
            authority = authorities.parse(value)
            settings = replace(authorities.SETTINGS, total_timeout=end - time.monotonic())
            authorities.add(authorities.certificates(authority, settings), root)
        except ValueError as error:
            say(f"bareon.ca: {error}")
            sound = False
        except (ImageFailed, OSError) as error:
            say(f"the authority of bareon.ca is not trusted: {error}")
    return sound


def _set_clock(root: Path, given: Sequence[str], say: Say, set_clock: Callable[[float], None]) -> bool:
    """By the servers of the command line, else those of DHCP; never to a time that cannot be."""
    sound, names = True, []
    for value in given:
        try:
            names += clock.servers(value)
        except ValueError as error:
            say(f"bareon.ntp={value}: {error}")
            sound = False
    if not given:
        names = [name for answer in setup.known(root) for name in answer.ntp]
    _floor(root, say, set_clock)
    if names:
        try:
            clock.set_by(names)
        except CommandError as error:
            say(f"the clock shows {_now()}, and was not set by {', '.join(names)}: {error}")
        _floor(root, say, set_clock)
    return sound


def _floor(root: Path, say: Say, set_clock: Callable[[float], None]) -> None:
    before = _now()
    release = root / RELEASE
    if release.exists() and not clock.plausible(release.stat().st_mtime, set_clock):
        when = f"before this ramdisk was built or {clock.YEARS} years after"
        say(f"the clock showed {before}, {when}; it shows the time of that now")


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
