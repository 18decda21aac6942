# SPDX-License-Identifier: Apache-2.0
"""Judgement on the members of an image's layers: what each brings, and what of those below it each takes away.

A whiteout, ``.wh.NAME``, hides what lower layers have at NAME; ``.wh..wh..opq`` hides all that they have in its
folder. The layer's own members stay, wherever in it they come. What is taken away is what this image was seen to
bring, and nothing is looked for on the disk: so no file of somebody, or of another image, can be meant.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator, Mapping

from bareon.drivers.deploy.listing import Survey
from bareon.drivers.deploy.placing import Placing, inside
from bareon.errors import ImageFailed
from bareon.system.lookup import DEEPEST
from bareon.system.tree import Tree
from bareon.transfer.tarstream import Member

_HIDES = ".wh."
_OPAQUE = ".wh..wh..opq"
#: What AUFS kept for itself at the top of its layers, as old images have it.
_OF_AUFS = ".wh..wh."


class _Node:
    """What an image has at a path. ``layer`` is the last that brought it, or something in it.

    ``here`` says that it is on the disk by this image; ``declared``, that it was a member, and no folder on the way
    to one. ``names`` are what a folder has.
    """

    __slots__ = ("declared", "here", "kind", "layer", "names")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.layer = 0
        self.here = False
        self.declared = False
        self.names: dict[str, _Node] = _NOTHING


_NOTHING: dict[str, _Node] = {}


class Layering(Placing):
    """A :class:`Placing` for layers, which come one after the other, the lowest first.

    What a layer hides of those below it is removed at once, before anything behind it goes on. On what is kept it is
    not brought at all: ``hidden`` has, of an image that was read through, the paths there and the layer that hides
    each; ``spared`` is that of the reading before.
    """

    def __init__(
        self,
        survey: Survey,
        kept: Collection[str] = (),
        own: Collection[str] = (),
        spared: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(survey, kept, own)
        self.hidden: dict[str, int] = {}
        self._spared = spared or {}
        self._layer = 0
        self._top = _Node("d")
        self._firsts: set[str] = set()  # that have other names, which need them
        self._tree: Tree | None = None

    def begin(self, layer: int) -> None:
        """Go on with a layer, counted from 1."""
        self._layer = layer

    def into(self, tree: Tree, shared: Collection[str]) -> None:
        super().into(tree, shared)
        self._tree = tree
        self.exists = lambda path: tree.has(path) and not self._brought(path)

    def __call__(self, member: Member) -> bool:
        path = inside(member.path, member.path)
        folder, name = posixpath.split(path)
        if name != _OPAQUE and path.startswith(_OF_AUFS):
            return False
        if path.count("/") > DEEPEST:
            raise ImageFailed(f"has more than {DEEPEST} folders in each other")
        self._check_way(path, path)
        if name.startswith(_HIDES):
            self._hide(folder, name)
            return False
        if f"/{_HIDES}" in f"/{path}":
            raise ImageFailed(f"has a member {path!r} in a folder that is a whiteout")
        self._make_way(path, member)
        if self._layer < self._spared.get(path, 0):
            self._record(path, member, here=False)
            return False
        torn = len(self.torn)
        wanted = super().__call__(member)
        self._record(path, member, here=wanted or len(self.torn) > torn)
        return wanted

    def _hide(self, folder: str, name: str) -> None:
        node = self._node(folder)
        if name == _OPAQUE:
            hidden = list(node.names) if node else []
        else:
            hidden = [name.removeprefix(_HIDES)]
            if hidden[0] in ("", ".", "..") or hidden[0].startswith(_HIDES):
                raise ImageFailed(f"has {posixpath.join(folder, name)!r}, a whiteout of nothing")
        for inner in hidden:
            if node and inner in node.names:
                self._drop(node, inner, posixpath.join(folder, inner))

    def _make_way(self, path: str, member: Member) -> None:
        """Remove what lower layers have at a path, and a member cannot take the place of by itself."""
        folder, name = posixpath.split(path)
        node = self._top
        for part in filter(None, folder.split("/")):
            if node.kind != "d":
                break
            node = node.names.get(part, _NONE)
        if node.kind not in ("d", _NONE.kind):
            raise ImageFailed(f"has a member {path!r}, on whose way there is no folder")
        there = node.names.get(name) if path else self._top
        if there is None or there.layer == self._layer or (not path and member.kind != "d"):
            return  # of the top folder, which nothing can take the place of, it is said at once
        if (there.kind == "d") != (member.kind == "d"):
            self._drop(node, name, path)
            return
        self._links.discard(path)
        if there.declared:
            self.survey.forget(self.survey.deployed(path))

    def _node(self, path: str) -> _Node | None:
        node: _Node | None = self._top
        for part in filter(None, path.split("/")):
            node = node.names.get(part) if node else None
        return node

    def _brought(self, deployed: str) -> bool:
        node = self._node(posixpath.relpath(deployed, self.survey.target))
        return node is not None and node.here

    def _record(self, path: str, member: Member, *, here: bool) -> None:
        deployed = self.survey.deployed(path)
        shared = self.survey.holding(deployed).mount.point in self.shared
        if member.kind == "h":
            self._firsts.add(inside(member.link, path))
            self._remember(member.link)
        node = self._top
        node.layer = self._layer
        for part in filter(None, path.split("/")):
            node = self._child(node, part, path)
            node.layer = self._layer
            node.here = node.here or (here and not shared)
        node.kind, node.declared = member.kind, True
        # A folder of another image does not become this one's.
        node.here = here and not (shared and member.kind == "d" and self.exists(deployed))

    def _child(self, node: _Node, name: str, path: str) -> _Node:
        if (found := node.names.get(name)) is None:
            self._remember(path)
            found = _Node("d")
            if node.names is _NOTHING:
                node.names = {}
            node.names[name] = found
        return found

    def _drop(self, folder: _Node, name: str, path: str) -> None:
        """Remove what lower layers brought to a path, and below it. What this layer brings stays."""
        for holder, last, place in list(_below(folder, name, path))[::-1]:
            if holder.names[last].layer != self._layer:
                self._take_away(place, holder.names.pop(last))

    def _take_away(self, path: str, node: _Node) -> None:
        deployed = self.survey.deployed(path)
        for known in (self._folders, self._links, self._declared):
            known.discard(path)
        if node.declared:
            self.survey.forget(deployed)
        if self.survey.holding(deployed).mount.point in self._kept and path not in self._firsts:
            self._remember(path)
            self.hidden[path] = self._layer
        if self._tree and node.here:
            with self._tree.same_times(posixpath.dirname(deployed)):
                if node.kind == "d":
                    self._tree.remove_folder(deployed)
                else:
                    self._tree.remove(deployed)


_NONE = _Node("")


def _below(folder: _Node, name: str, path: str) -> Iterator[tuple[_Node, str, str]]:
    """The holder, the name and the path of a node and of all that is in it, each folder before what it has."""
    waiting = [(folder, name, path)]
    while waiting:
        holder, last, place = waiting.pop()
        yield holder, last, place
        node = holder.names[last]
        waiting.extend((node, inner, f"{place}/{inner}") for inner in node.names)
