# SPDX-License-Identifier: Apache-2.0
"""Manifests: what is written is read again, whatever names are like."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bareon.system import mtree

NAMES = st.binary(min_size=1, max_size=20).map(lambda x: os.fsdecode(x.replace(b"/", b"_").replace(b"\0", b"_")))


def _written(head: mtree.Head, *things: mtree.Thing) -> io.BytesIO:
    file = io.BytesIO()
    writer = mtree.Writer(file, head)
    writer.volume("/")
    for thing in things:
        writer.put(thing)
    writer.end()
    return file


@settings(deadline=None)
@given(NAMES, NAMES, NAMES, NAMES)
def test_names_of_any_bytes_come_back(name: str, image: str, glob: str, target: str) -> None:
    head = mtree.Head(image, "root", (glob,))
    thing = mtree.Thing(f"/{name}", {"type": "link", "link": mtree.vis(target)})
    file = _written(head, thing)
    assert mtree.check(file)[0] == head
    assert list(mtree.things(file, "/")) == [thing]
    assert mtree.unvis(thing.facts["link"]) == target
    assert list(mtree.things(file, "/boot")) == []


def test_the_same_things_give_the_same_bytes() -> None:
    one, other = (_written(mtree.Head("a", "root"), mtree.Thing("/x", {"type": "dir"})) for _ in range(2))
    assert one.getvalue() == other.getvalue()


def test_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    file = _written(mtree.Head("a", "root"), mtree.Thing("/x" * 1000, {"type": "dir"}))
    monkeypatch.setattr(mtree, "_LONGEST", 1000)
    with pytest.raises(mtree.BadManifestError, match="has more than any system"):
        mtree.check(file)
