# SPDX-License-Identifier: Apache-2.0
"""Command lines of kernels: in entries of the Boot Loader Specification, and in what makes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from bareon.system.bindings.binding import Binding, Change
from bareon.system.bindings.home import Home
from bareon.system.bindings.kernel_words import without_strangers
from bareon.system.shell import LONGEST

FOLDER, ENDING = "/boot/loader/entries", ".conf"
"""Where GRUB's ``blscfg`` finds entries, and how their files are called."""
CMDLINE = "/etc/kernel/cmdline"
"""What kernel-install(8) makes the options of new entries of."""

_OPTIONS = re.compile(r"([ \t]*options[ \t]+)(.*)")
_FILE = re.compile(r"([ \t]*(?:linux|initrd)[ \t]+)(.*)")
_KERNELOPTS = re.compile(r"(kernelopts=)(.*)")
_BLOCK = 1024  # bytes of an environment block, which GRUB itself may write to: neither more nor less
#: What lies in /boot itself, or in a folder of kernel-install or ostree there.
_IN_BOOT = re.compile(r"/(?:[^/\s]+|(?:[0-9a-f]{32}|ostree)/\S+)")


class BootEntries(Binding):
    """They get the root of the node, whatever root they had, and lose words that name what the node lacks.

    GRUB reads their files from the file system of ``/boot``, so the paths in them follow where that is.
    """

    files = (f"{FOLDER}/*{ENDING}", CMDLINE, "/boot/grub/grubenv", "/boot/grub2/grubenv")

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        root = next((x for x in home.volumes if x.point == "/"), None)
        if text is None or root is None:
            return Change(text)
        if path.endswith("grubenv"):
            changed = _environment(text, home)
        else:
            changed = with_options(path, text, lambda values: [_with_root(x, home) for x in values])
        if path.endswith(ENDING):
            changed = "\n".join(_line(line, home) for line in changed.split("\n"))
        return Change(changed, (f"{path}: the root is UUID={root.uuid}",) if changed != text else ())


def with_options(path: str, text: str, change: Callable[[Sequence[str]], Sequence[str]]) -> str:
    """An entry, or what makes new ones, with its command line changed.

    :param path: where the text is from: :data:`CMDLINE` is one command line as a whole.
    :param change: is given the command line as it is in the lines of an entry, of which there may be several, and
        gives as many. It is not asked where there is none.
    """
    if path == CMDLINE:
        words = " ".join(text.split())
        if not words or len(text) > LONGEST or (changed := change([words])[0]) == words:
            return text
        return f"{changed}\n"
    lines = text.split("\n")
    there = [(i, found) for i, x in enumerate(lines) if len(x) <= LONGEST and (found := _OPTIONS.fullmatch(x))]
    values = change([found[2] for _, found in there]) if there else []
    for (i, found), value in zip(there, values, strict=True):
        lines[i] = found[1] + value
    return "\n".join(lines)


def _line(line: str, home: Home) -> str:
    """A line of an entry that names a file."""
    if len(line) <= LONGEST and (found := _FILE.fullmatch(line)):
        return found[1] + " ".join(_at_its_place(x, home) for x in found[2].split())
    return line


def _with_root(line: str, home: Home) -> str:
    """A command line with the root of the node; one that takes it from a variable of GRUB's is left to that."""
    root = next(x for x in home.volumes if x.point == "/")
    words = without_strangers(f"x={line}", home)[0].removeprefix("x=").split()
    others = [x for x in words if not x.startswith("root=") and not _is_of_another_type(x, root.type)]
    if "$kernelopts" in line and not re.search(r"(?<!\S)root=", line):
        return " ".join(others)
    return " ".join([f"root=UUID={root.uuid}", *others])


def _is_of_another_type(word: str, kind: str) -> bool:
    return word.startswith("rootfstype=") and word != f"rootfstype={kind}"


def _at_its_place(path: str, home: Home) -> str:
    apart = any(x.point == "/boot" for x in home.volumes)
    if apart:
        return path.removeprefix("/boot") if path.startswith("/boot/") else path
    return f"/boot{path}" if _IN_BOOT.fullmatch(path) and not path.startswith("/boot/") else path


def _environment(text: str, home: Home) -> str:
    """An environment block with the root of the node in ``kernelopts``, and of the size that it had."""
    lines = text.rstrip("#").split("\n")
    changed = [
        found[1] + _with_root(found[2], home) if (found := _KERNELOPTS.fullmatch(x)) and len(x) <= LONGEST else x
        for x in lines
    ]
    if changed == lines:
        return text
    block = "\n".join(changed)
    return block + "#" * (_BLOCK - len(block.encode(errors="surrogateescape"))) if len(block) <= _BLOCK else text
