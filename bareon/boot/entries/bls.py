# SPDX-License-Identifier: Apache-2.0
"""Entries of the Boot Loader Specification, type 1: a file for each kernel, as ``blscfg`` of GRUB reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bareon.boot.entries.entry import BootEntry
from bareon.boot.grub_script import expanded
from bareon.system.bindings.boot_entries import CMDLINE, ENDING, FOLDER, with_options
from bareon.system.kernel import by_version
from bareon.system.tree import Tree

_LARGEST = 64 << 10  # bytes of an entry
RECORD = "/etc/bareon/kernel_params"
"""The words that bareon added to these entries."""

_KEY = re.compile(r"[ \t]*([a-z-]+)[ \t]+(.*?)[ \t\r]*")
_LONGEST = 4096  # characters of a line, and of the options once their variables have their values


def read(tree: Tree, variables: Mapping[str, str] | None = None) -> list[BootEntry]:
    """Those of a system, newest first, as ``blscfg`` of GRUB sorts them: by the names of their files.

    :param variables: of GRUB, which ``options`` may name, such as ``$kernelopts``.
    """
    names = [x for x in tree.names(FOLDER) if x.endswith(ENDING)]
    names.sort(key=lambda x: by_version(x.removesuffix(ENDING)), reverse=True)
    paths = [path for x in names if _is_entry(tree, path := f"{FOLDER}/{x}")]
    found = (parse(tree.read(path) or "", path, variables or {}) for path in paths)
    return [x for x in found if x.kernel]


def _is_entry(tree: Tree, path: str) -> bool:
    status = tree.status(path)
    return status is not None and status.st_size <= _LARGEST


def parse(text: str, source: str, variables: Mapping[str, str]) -> BootEntry:
    """The entry in one file. One without a kernel, such as of an EFI program, has an empty one."""
    title, kernel = "", ""
    initrds: list[str] = []
    options: list[str] = []
    for line in text.split("\n"):
        match = _KEY.fullmatch(line) if len(line) <= _LONGEST else None
        if not match:
            continue
        key, value = match.groups()
        if key == "title":
            title = value
        elif key == "linux":
            kernel = value
        elif key == "initrd":
            initrds += [x for word in value.split() for x in expanded(word, variables)]
        elif key == "options":
            options += _resolved(value, variables)
    name = source.rpartition("/")[2].removesuffix(ENDING)
    return BootEntry(title or name, source, kernel, tuple(initrds), tuple(options), name=name)


def add(tree: Tree, asked: Sequence[str]) -> None:
    """Add kernel parameters to those of all entries, and to what makes new ones; former ones are replaced.

    There are no comments in some of these files, so that another one tells which words are bareon's.
    """
    former = added(tree)
    if not former and not asked:
        return

    def renewed(values: Sequence[str]) -> list[str]:
        *lines, last = (" ".join(x for x in value.split() if x not in former or x in asked) for value in values)
        return [*lines, " ".join([last, *(x for x in asked if x not in last.split())]).strip()]

    changed = False
    for path in [*(f"{FOLDER}/{x}" for x in tree.names(FOLDER) if x.endswith(ENDING)), CMDLINE]:
        text = tree.read(path)
        if text and (renewed_text := with_options(path, text, renewed)) != text:
            tree.write(tree.real(path), renewed_text)
            changed = True
    if changed and former != [*asked]:
        tree.write(RECORD, f"{' '.join(asked)}\n")


def added(tree: Tree) -> list[str]:
    """The kernel parameters that bareon added, which may be those of an earlier document."""
    return (tree.read(RECORD) or "").split()


def _resolved(value: str, variables: Mapping[str, str]) -> list[str]:
    """The words of ``options``: variables alone are looked at, there are no quotes."""
    left = _LONGEST

    def resolved(found: re.Match[str]) -> str:
        nonlocal left
        text = variables.get(found[1], "")[:left]
        left -= len(text)
        return text

    return re.sub(r"\$\{?(\w+)\}?", resolved, value).split()
