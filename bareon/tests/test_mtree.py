# SPDX-License-Identifier: Apache-2.0
"""Manifests: what is written is read again, whatever names are like."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bareon.system import mtree
from bareon.system.inventory import Inventory, drift

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


def _signed(*lines: bytes) -> io.BytesIO:
    """A manifest whose last line is right for whatever its other lines are."""
    things = sum(x.startswith(b".") for x in lines)
    end = f"# bareon end: {things} {hashlib.sha256(b''.join(lines)).hexdigest()}\n".encode()
    return io.BytesIO(gzip.compress(b"".join(lines) + end))


def test_nothing_is_taken_from_behind_the_last_line() -> None:
    """The digest, which the report has too, would be that of the lines before."""
    file = _written(mtree.Head("a", "root"), mtree.Thing("/x", {"type": "dir"}))
    for more in (b"./y type=dir\n", b"# bareon volume: /usr\n"):
        changed = io.BytesIO(file.getvalue() + gzip.compress(more))
        with pytest.raises(mtree.BadManifestError, match="goes on behind its last line"):
            mtree.check(changed)


def test_a_volume_is_read_once() -> None:
    head = b"#mtree v2.0\n", b"# bareon system: a root\n", b"# bareon volume: /\n"
    mtree.check(_signed(*head))
    for again in (b"# bareon volume: /\n", b"# bareon volume: \\057\n"):
        with pytest.raises(mtree.BadManifestError, match="has a volume twice"):
            mtree.check(_signed(*head, again))


def test_words_of_a_manifest_are_no_commands_of_a_terminal(tmp_path: Path) -> None:
    wanted = mtree.Thing("/", {"type": "pipe", "\x9b2J": "\x1b[2J", "sha256digest": "0"})
    (line,) = drift(iter([wanted]), Inventory(str(tmp_path), "/", (), ()))
    assert line.isprintable()
    assert r"\x9b2J: expected \x1b[2J, found none" in line


def test_only_files_have_a_digest(tmp_path: Path) -> None:
    things = [thing for thing, _ in Inventory(str(tmp_path), "/", (), ()).things()]
    forged = [mtree.Thing(x.path, {**x.facts, "sha256digest": "0"}) for x in things]
    assert list(drift(iter(forged), Inventory(str(tmp_path), "/", (), ()))) == []
