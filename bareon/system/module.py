# SPDX-License-Identifier: Apache-2.0
"""Modules of a kernel, as depmod(8) and the kernel's build index them: which names, and which devices, it knows."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping

from bareon.model.image import Early
from bareon.storage.disk import Driver

#: The files in a folder of modules that tell of them. The last one is there since Linux 5.2.
INDEX = ("modules.dep", "modules.alias", "modules.builtin", "modules.builtin.modinfo")
#: Of these, those that have the name of each module.
NAMES = ("modules.dep", "modules.builtin")
_FOLDERS = ("/usr/lib/modules", "/lib/modules")
_LITERAL = re.compile(rb"[^*?\[]*")
_SUFFIX = re.compile(r"\.ko(\.(gz|xz|zst|bz2))?$")


def module_folders(early: Early) -> dict[str, str]:
    """The folders of modules that an image will bring, by the releases of their kernels."""
    found = sorted(early.folders(*_FOLDERS), key=lambda x: _FOLDERS.index(posixpath.dirname(x)))
    return {posixpath.basename(x): x for x in found}


def lacking(drivers: Iterable[Driver], index: Mapping[str, bytes]) -> list[Driver]:
    """Those of the drivers for which a kernel has neither a module of that name nor one for such a device.

    :param index: the content of the files of :data:`INDEX` that there are.
    :returns: none, where there is not enough of an index to tell.
    """
    if not any(name in index for name in NAMES):
        return []
    names = named(index)
    return [x for x in drivers if x.name not in names and not _knows(index, x.modalias)]


def module_paths(index: Mapping[str, bytes]) -> dict[str, str]:
    """The files of modules in the folder of their kernel, by names as :func:`named` gives them."""
    lines = (line.split(b":")[0].decode("ascii", "replace").strip() for line in index.get(NAMES[0], b"").split(b"\n"))
    return {_name(path): path for path in lines if path}


def named(index: Mapping[str, bytes]) -> frozenset[str]:
    """The names of modules, with ``_`` for ``-`` as the kernel has them; those that are built in, too."""
    paths = (line.split(b":")[0] for name in NAMES for line in index.get(name, b"").split(b"\n"))
    return frozenset(x for path in paths if (x := _name(path.decode("ascii", "replace").strip())))


def _name(path: str) -> str:
    return _SUFFIX.sub("", path.rpartition("/")[2]).replace("-", "_")


def _knows(index: Mapping[str, bytes], modalias: str) -> bool:
    """True if a pattern of some module means the device."""
    device = modalias.encode()
    for pattern in _patterns(index):
        # Of tens of thousands nearly all are of another bus or vendor.
        literal = _LITERAL.match(pattern)
        assert literal
        if device.startswith(literal[0]) and fnmatch.fnmatchcase(modalias, pattern.decode("ascii", "replace")):
            return True
    return False


def _patterns(index: Mapping[str, bytes]) -> Iterator[bytes]:
    for line in index.get("modules.alias", b"").split(b"\n"):  # alias PATTERN MODULE
        words = line.split()
        if len(words) == 3 and words[0] == b"alias":
            yield words[1]
    for item in index.get("modules.builtin.modinfo", b"").split(b"\0"):  # MODULE.alias=PATTERN
        key, _, value = item.partition(b"=")
        if key.endswith(b".alias"):
            yield value
