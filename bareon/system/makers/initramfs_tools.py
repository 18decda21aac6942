# SPDX-License-Identifier: Apache-2.0
"""initramfs-tools of Debian: update-initramfs(8), with what ``MODULES`` in initramfs.conf(5) has it put in.

``most`` needs nothing. ``dep`` goes by the sysfs of the machine, which it does not see in the sandbox: there it is
run as with ``most``, and on the node itself it finds the disks. ``list`` and ``netboot`` put in no driver of a disk
that is not in the list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from bareon.system.carried import Needs, index_of
from bareon.system.makers.maker import Lines, Maker, others
from bareon.system.module import named
from bareon.system.tree import Tree

CONF = "/etc/initramfs-tools/initramfs.conf"
_DROP_INS = "/etc/initramfs-tools/conf.d"
_OF_PACKAGES = "/usr/share/initramfs-tools/conf.d"
_LIST = "/etc/initramfs-tools/modules"
_USED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: sh(1) reads these files.
_MODULES = re.compile(r"""^([ \t]*(?:export[ \t]+)?MODULES=)["']?(\w*)["']?""", re.MULTILINE)
_WITHOUT_DISKS = ("list", "netboot")


def _lines(tree: Tree, needs: Needs) -> Lines:
    """The list of modules, with those that it lacks."""
    chosen = [match[2] for path in _files(tree) for match in _MODULES.finditer(tree.read(path) or "")]
    if not chosen or chosen[-1] not in _WITHOUT_DISKS:
        return {}
    known = {x for release in tree.names("/lib/modules") for x in _modules(tree, release)}
    listed = (line.split() for line in others(tree.read(_LIST) or "").split("\n"))
    there = {words[0].replace("-", "_") for words in listed if words}
    wanted = dict.fromkeys([*(x.name for x in needs.drivers), *needs.modules])
    return {_LIST: [x for x in wanted if x in known and x not in there]}


def _modules(tree: Tree, release: str) -> frozenset[str]:
    """Those of a kernel that are not built in."""
    index = index_of(tree, release)
    return named({name: index[name] for name in index if name == "modules.dep"})


def _instead(tree: Tree) -> Mapping[str, str]:
    """Its settings, with ``most`` for ``dep``."""
    found = ((path, tree.read(path) or "") for path in _files(tree))
    changed = ((path, text, _MODULES.sub(_most, text)) for path, text in found)
    shown = {path: new for path, text, new in changed if new != text}
    return {path: new.encode(errors="surrogateescape").decode(errors="replace") for path, new in shown.items()}


def _most(match: re.Match[str]) -> str:
    return f"{match[1]}most" if match[2] == "dep" else match[0]


def _files(tree: Tree) -> Iterator[str]:
    """The files of settings, in the order in which they are read."""
    own = tree.names(_DROP_INS)
    yield CONF
    yield from (f"{_OF_PACKAGES}/{x}" for x in tree.names(_OF_PACKAGES) if _is_used(x) and x not in own)
    yield from (f"{_DROP_INS}/{x}" for x in own if _is_used(x))


def _is_used(name: str) -> bool:
    return bool(_USED.fullmatch(name)) and ".dpkg-" not in name


MAKER = Maker("update-initramfs", None, (_LIST,), _lines, _instead)
