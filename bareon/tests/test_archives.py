# SPDX-License-Identifier: Apache-2.0
"""Archives as they pass by: which members there are, where they go, and which are not believed."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bareon.drivers.deploy.listing import Survey
from bareon.drivers.deploy.placing import Placing
from bareon.errors import CommandError, ImageFailed
from bareon.run import observed
from bareon.storage.filesystem import Filesystem, Mount, Mounted, PlannedFilesystem
from bareon.tools import tar
from bareon.transfer.tarstream import Member, Walk, begins

LONG = "x" * 300
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
Entry = tuple[str, bytes, str, bytes]


def archive(*entries: Entry, form: str = "pax", headers: dict[str, str] | None = None) -> bytes:
    """An archive of such members: path, type, link, content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=FORMATS[form], pax_headers=headers or {}) as made:
        for path, kind, link, content in entries:
            info = tarfile.TarInfo(path)
            info.type, info.linkname, info.size = kind, link, len(content)
            made.addfile(info, io.BytesIO(content))
    return out.getvalue()


def walked(data: bytes, judge: Callable[[Member], bool] = lambda member: True, step: int = 1 << 20) -> bytes:
    """What goes on of an archive that comes in pieces of ``step`` bytes."""
    walk = Walk(judge)
    out = b"".join(
        bytes(part) for place in range(0, len(data), step) for part in walk.feed(data[place : place + step])
    )
    return out + walk.finish()


def names(data: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        return opened.getnames()


FILE: Entry = ("etc/hostname", tarfile.REGTYPE, "", b"node\n")
TREE: tuple[Entry, ...] = (
    ("etc", tarfile.DIRTYPE, "", b""),
    FILE,
    ("etc/big", tarfile.REGTYPE, "", bytes(range(256)) * 9),
    ("etc/link", tarfile.SYMTYPE, "../usr", b""),
    ("etc/hard", tarfile.LNKTYPE, "etc/hostname", b""),
)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("step", [1, 511, 512, 4096, 1 << 20])
def test_all_goes_on_as_it_came(form: str, step: int) -> None:
    long = () if form == "ustar" else ((f"etc/{LONG}", tarfile.SYMTYPE, LONG, b""), (f"{LONG}/é", b"0", "", b"1"))
    data = archive(*TREE, *long, form=form)
    seen: list[Member] = []
    out = walked(data, lambda member: not seen.append(member), step)
    assert data.startswith(out)
    assert not data[len(out) :].strip(b"\0")
    assert [(x.path, x.kind, x.size) for x in seen[:5]] == [
        ("etc", "d", 0),
        ("etc/hostname", "f", 5),
        ("etc/big", "f", 2304),
        ("etc/link", "L", 0),
        ("etc/hard", "h", 0),
    ]
    assert [x.link for x in seen[3:5]] == ["../usr", "etc/hostname"]
    if long:
        assert [(x.path, x.link) for x in seen[5:]] == [(f"etc/{LONG}", LONG), (f"{LONG}/é", "")]


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_what_is_left_out_goes_with_its_headers(form: str) -> None:
    data = archive(FILE, (f"{LONG}/a", b"0", "", b"1" * 2000), ("z", b"0", "", b""), form=form)
    assert names(walked(data, lambda member: LONG not in member.path)) == ["etc/hostname", "z"]


def test_what_is_said_of_all_members_stays() -> None:
    data = archive(FILE, ("z", b"0", "", b""), headers={"gid": "7"})
    for path in ("etc/hostname", "z"):
        out = walked(data, lambda member, path=path: member.path != path)  # type: ignore[misc]
        with tarfile.open(fileobj=io.BytesIO(out)) as opened:
            assert [x.gid for x in opened] == [7]


def test_what_is_an_archive() -> None:
    assert begins(archive(FILE))
    for other in (b"", bytes(512), bytes(4096), b"<html>" * 100, archive(FILE)[1:]):
        assert not begins(other)


def _altered(data: bytes, place: int, value: bytes) -> bytes:
    """An archive with other bytes in its first header, and a checksum that fits them."""
    block = bytearray(data[:512])
    block[place : place + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + data[512:]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (archive(FILE)[:600], "cut off"),
        (archive(FILE)[:1024], "cut off"),
        (archive(FILE) + archive(FILE), "something behind the end"),
        (archive(FILE)[:512] + b"garbage!" * 64 + archive(FILE)[512:], "a header makes no sense"),
        (_altered(archive(FILE), 156, b"M"), "of a kind that is not known"),
        (_altered(archive(FILE), 156, b"D"), "of a kind that is not known"),
        (_altered(archive(FILE), 156, b"5"), "has 5 bytes of content, and is no file"),
        (_altered(archive(FILE), 124, b"\xff" * 12), "negative size"),
        (archive(FILE, headers={"path": "/etc/shadow"}), "sets path of all members"),
        (_altered(archive(FILE), 156, b"x"), "an extended header makes no sense"),
    ],
)
def test_what_is_no_sound_archive(data: bytes, says: str) -> None:
    with pytest.raises(ImageFailed, match=says):
        walked(data)


@pytest.mark.parametrize(
    ("place", "field", "fine"),
    [
        (100, b"\0" * 8, True),  # none: numbers of devices are missing in most headers
        (100, b"000644 \0", True),
        (100, b"   644 \0", True),
        (100, b"0o644\0\0\0", False),
        (100, b"-00644\0\0", False),
        (100, b"0000648\0", False),
        (108, b"\x80\0\0\0\0\1\0\0", True),
        (136, b"\xff" * 12, True),  # a second before 1970
        (136, b"\x81" * 12, False),
        (329, b"7\0garbag", True),  # behind the end nobody looks
        (329, b"7 garbag", False),
    ],
)
def test_numbers_of_a_header(place: int, field: bytes, fine: bool) -> None:
    data = _altered(archive(FILE), place, field)
    with contextlib.nullcontext() if fine else pytest.raises(ImageFailed, match="makes no sense"):
        assert names(walked(data)) == ["etc/hostname"]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("off", [0, 1, -256, 65521])
def test_checksums(signed: bool, off: int) -> None:
    block = bytearray(archive(FILE)[:512])
    block[345:475] = b"\xe9" * 130
    block[148:156] = b" " * 8
    block[148:156] = b"%07o\0" % (off + sum(x - 256 * (signed and x > 127) for x in block) % (1 << 21))
    with pytest.raises(ImageFailed, match="makes no sense" if off else "cut off"):
        walked(bytes(block))


def _extended(*records: tuple[str, str], kind: bytes = b"x") -> bytes:
    """An extended header."""
    text = b""
    for key, value in records:
        body = f" {key}={value}\n".encode()
        length = next(x for x in range(len(body), len(body) + 8) if x == len(body) + len(str(x)))
        text += str(length).encode() + body
    return _altered(archive(("x", b"0", "", text))[: 512 + -(-len(text) // 512) * 512], 156, kind)


def _holes(kind: bytes, *parts: int, more: int = 0, size: int = 0) -> bytes:
    """A file with holes in GNU's own format, of which the archive has such parts."""
    slots = b"".join(b"%011o\0%011o\0" % (0, part) for part in parts).ljust(96, b"\0") + bytes([more])
    whole = _altered(_altered(archive(("s", b"0", "", bytes(size)))[: 512 + size], 386, slots), 156, kind)
    return _altered(_altered(whole, 483, b"%011o\0" % (1 << 20)), 257, b"ustar  \0")


_INNER = archive(("etc/fstab", b"0", "", b""))[:512]
_HIDING = archive(("a", b"0", "", _INNER))
_FAR = b"1\n%d\n0\n" % (1 << 59)
_OF_PAX = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0")]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        # A size that is read in two ways makes a member of what another has as its content.
        (_altered(_HIDING, 124, b"0o1000\0"), "a header makes no sense"),
        (_altered(_HIDING, 124, b"0_1000\0"), "a header makes no sense"),
        (_altered(_HIDING, 124, b"+1000\0"), "a header makes no sense"),
        (_altered(_HIDING, 124, b"\x0000000001000"), "a header makes no sense"),
        (_altered(_HIDING, 124, b"\x80\0\0\x80" + bytes(8)), "a header makes no sense"),
        (_altered(_HIDING, 124, b"            "), "a header makes no sense"),
        (_extended(("size", "9" * 19)) + _HIDING, "of the size '9999"),
        (_extended(("size", "9" * 5000)) + _HIDING, "of the size '9999"),
        (_extended((" size", "0")) + _HIDING, "an extended header makes no sense"),
        (_extended(("\tpath", "etc/fstab")) + _HIDING, "an extended header makes no sense"),
        (_extended((" path", "etc/fstab"), kind=b"g") + _HIDING, "an extended header makes no sense"),
        (_extended(("path\0", "etc/fstab")) + _HIDING, "an extended header makes no sense"),
        # What is not told from another name.
        (_extended(("path", "etc/fstab\0x")) + _HIDING, "characters that programs leave out"),
        (_extended(("path", "etc/fst\U000e0041ab")) + _HIDING, "characters that programs leave out"),
        (_extended(("linkpath", "a\0b")) + _altered(archive(("l", b"2", "a", b"")), 0, b"l"), "leave out"),
        (_extended(("path", "a/" * 200000)) + _HIDING, "a name of 399999 bytes"),
        # GNU tar takes what the list of a file with holes has, whatever its size is.
        (_holes(b"S", 512) + _HIDING, "'s', whose list of holes does not fit its size"),
        (_holes(b"S", 512, size=1024) + _HIDING, "'s', whose list of holes does not fit its size"),
        (_holes(b"S", 512, 0, more=1, size=512) + _HIDING, "a list of holes makes no sense"),
        (_holes(b"S", 2 << 20) + _HIDING, "a list of holes makes no sense"),
        (_altered(_holes(b"S", 512, size=512), 257, b"ustar\00000") + _HIDING, "in a form that makes no sense"),
        (_holes(b"S", 1, 1, 1, 1, more=1) + (b"00000000000\0" * 42 + b"\1" + bytes(7)) * 3000, "has no end"),
        (_extended(*_OF_PAX) + archive(("s", b"0", "", b"1\n0\n512\n"), TREE[2]), "does not fit its size"),
        (_extended(*_OF_PAX) + archive(("s", b"0", "", b"1\n0\n-1\n")), "a list of holes makes no sense"),
        (_extended(*_OF_PAX) + archive(("s", b"0", "", b"9\n0\n0\n")), "has no end"),
        (_extended(*_OF_PAX) + archive(("s", b"2", "a", b"")), "in a form that makes no sense"),
        (_extended(("GNU.sparse.map", "0,512")) + _HIDING, "in a form that is not known"),
        # A hole that no file system has room behind.
        (_extended(*_OF_PAX) + archive(("s", b"0", "", _FAR)), "has a file of 512 PiB with its holes: at most 4 TiB"),
        (_extended(*_OF_PAX, ("GNU.sparse.realsize", "9" * 18)) + _HIDING, "has a file of 888.1 PiB with its holes"),
        (_extended(*_OF_PAX, ("GNU.sparse.realsize", "-1")) + _HIDING, "a list of holes makes no sense"),
        (_altered(_holes(b"S", 512, size=512), 483, b"\x80\0\0\0\0\1" + bytes(6)), "has a file of 256 TiB with its"),
    ],
)
def test_what_tar_would_read_otherwise(data: bytes, says: str) -> None:
    with pytest.raises(ImageFailed, match=says):
        walked(data)


@pytest.mark.parametrize("step", [1, 511, 1 << 20])
def test_files_with_holes(step: int) -> None:
    pax = _extended(*_OF_PAX, ("GNU.sparse.name", "p"), ("GNU.sparse.realsize", "9999"))
    content = b"2\n0\n5\n1024\n512\n".ljust(512, b"\0") + bytes(512) + b"\1" * 512
    data = _holes(b"S", 512, 5, 0, size=1024) + pax + archive(("s", b"0", "", content), FILE)
    seen: list[str] = []
    assert data.startswith(walked(data, lambda member: not seen.append(member.path), step))
    assert seen == ["s", "p", "etc/hostname"]


def test_whose_prefix_is_a_part_of_the_name() -> None:
    for magic, path in ((b"ustar\00000", "usr/a"), (b"ustar  \0", "a"), (bytes(8), "a")):
        seen: list[str] = []
        data = _altered(_altered(archive(("a", b"0", "", b"")), 345, b"usr"), 257, magic)
        walked(data, lambda member, seen=seen: not seen.append(member.path))  # type: ignore[misc]
        assert seen == [path]


def test_a_slash_in_a_name_that_another_one_replaces_makes_no_folder() -> None:
    seen: list[str] = []
    data = _extended(("path", "y")) + _altered(archive(("x", b"0", "", b"")), 0, b"x/")
    walked(_altered(data, 0, b"x")[:1024] + _altered(data[1024:], 156, b"\0"), lambda m: not seen.append(m.kind))
    assert seen == ["f"]


def test_a_comment_for_all_is_none_of_a_member() -> None:
    assert names(walked(archive(FILE, headers={"comment": "6b1f"}))) == ["etc/hostname"]


def _mounted(point: str, kind: str = "ext4", decision: str = "create") -> Mounted:
    wanted = Filesystem(kind, (Mount(point),), path=f"$.volumes[{point}]")
    planned = PlannedFilesystem(f"/dev{point}", 1 << 30, kind, "", wanted, decision=decision)  # type: ignore[arg-type]
    return Mounted(planned, Mount(point))


def placed(*entries: Entry, target: str = "/", kept: tuple[str, ...] = (), boot: str = "ext4") -> Placing:
    """What becomes of the members of an archive on volumes for ``/``, ``/boot`` and ``/usr``."""
    mounts = [_mounted(x, boot if x == "/boot" else "ext4") for x in ("/", "/boot", "/usr")]
    placing = Placing(Survey(target, mounts), kept, ("/etc/fstab",))
    walked(archive(*entries), placing)
    return placing


DIR, REG, SYM, HARD = tarfile.DIRTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


def test_each_member_is_counted_on_its_volume() -> None:
    placing = placed(("./usr", DIR, "", b""), ("./usr/a", REG, "", bytes(5000)), ("./b", REG, "", b"1"))
    assert [(x.mount.point, x.files, x.bytes) for x in placing.survey.shares] == [
        ("/", 1, 1024),
        ("/boot", 0, 0),
        ("/usr", 1, 5120),
    ]


@pytest.mark.pain("links-across-volumes")
def test_a_hard_link_across_volumes_is_left_for_a_copy() -> None:
    kernel = ("usr/lib/vmlinuz", REG, "", b"kernel")
    placing = placed(
        kernel, ("boot/vmlinuz", HARD, "./usr/lib/vmlinuz", b""), ("usr/same", HARD, "usr/lib/vmlinuz", b"")
    )
    assert placing.torn == [("/boot/vmlinuz", "/usr/lib/vmlinuz")]


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([("/etc/passwd", REG, "", b"")], "leads out of the archive"),
        ([("../etc/passwd", REG, "", b"")], "leads out of the archive"),
        ([("a/../../etc/passwd", REG, "", b"")], "leads out of the archive"),
        ([("a/..", DIR, "", b"")], "leads out of the archive"),
        ([("a", HARD, "/etc/shadow", b"")], "leads out of the archive"),
        ([("a", HARD, "../../etc/shadow", b"")], "leads out of the archive"),
        ([("a", SYM, "/", b""), ("a/etc/passwd", REG, "", b"")], "no link is followed"),
        ([("a", SYM, "usr", b""), ("./a//b", REG, "", b"")], "no link is followed"),
        ([("a", SYM, "/", b""), ("b", HARD, "a/etc/shadow", b"")], "no link is followed"),
        ([("a", SYM, "usr", b""), ("b", HARD, "a", b""), ("b/c", REG, "", b"")], "no link is followed"),
        ([("a", SYM, "usr", b""), ("b", HARD, "a", b""), ("b", DIR, "", b"")], "twice, the first time as a link"),
        ([("a/b", REG, "", b""), ("a", SYM, "/", b"")], "twice, as a folder and as something else"),
        ([("a", SYM, "/", b""), ("a", DIR, "", b"")], "twice, the first time as a link"),
        ([("a", SYM, "/", b""), ("a", REG, "", b"")], "twice, the first time as a link"),
        ([("a", SYM, "/", b""), ("a", SYM, "usr", b"")], "twice, the first time as a link"),
        ([("boot", SYM, "usr/boot", b"")], "a link to usr/boot at /boot"),
        ([("usr", REG, "", b"")], "a file at /usr"),
    ],
)
def test_members_that_lie(entries: list[Entry], says: str) -> None:
    with pytest.raises(ImageFailed, match=says):
        placed(*entries)


def test_names_without_end_take_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bareon.drivers.deploy.placing._MEMORY", 1 << 20)
    for entry in (("a/" * 1500, DIR), ("%04d/a", DIR), ("%04d", SYM), ("boot/%04d", HARD)):
        with pytest.raises(ImageFailed, match="1 MiB of memory"):
            placed(*((entry[0] % i if "%" in entry[0] else entry[0], entry[1], "usr/a", b"") for i in range(6000)))


def test_what_vfat_cannot_hold() -> None:
    assert placed(("boot", DIR, "", b""), boot="vfat").survey.entries == 1
    with pytest.raises(ImageFailed, match="/boot is vfat"):
        placed(("boot", DIR, "", b""), ("boot/vmlinuz", REG, "", b""), boot="vfat")


def test_on_what_is_kept_no_link_lies_on_the_way() -> None:
    fine = [(".", DIR, "", b""), ("etc", DIR, "", b""), ("etc/a", REG, "", b""), ("top", REG, "", b"")]
    assert placed(*fine, kept=("/", "/usr")).survey.entries == 4
    with pytest.raises(ImageFailed, match="which is kept, may have a link there"):
        placed(("srv/a", REG, "", b""), kept=("/",))


def test_files_of_the_node_stay_where_it_is_kept() -> None:
    entries = [("etc", DIR, "", b""), ("etc/fstab", REG, "", b""), ("etc/a", REG, "", b"")]
    for kept, wanted in ((("/",), ["etc", "etc/a"]), ((), ["etc", "etc/fstab", "etc/a"])):
        placing = Placing(Survey("/", [_mounted("/")]), kept, ("/etc/fstab",))
        assert names(walked(archive(*entries), placing)) == wanted


def test_what_an_image_before_this_one_brought_stays() -> None:
    placing = Placing(Survey("/", [_mounted("/"), _mounted("/home")]))
    placing.shared, placing.exists = {"/home"}, lambda path: path.endswith("a")
    out = walked(archive(("a", REG, "", b""), ("home/a", REG, "", b""), ("home/b", REG, "", b"")), placing)
    assert names(out) == ["a", "home/b"]
    assert placing.left == ["/home/a"]


def test_what_tar_says_has_an_end(tmp_path: Path) -> None:
    names = _extended(*((f"SCHILY.xattr.{number}{'a' * 50000}", "1") for number in range(9)))
    (tmp_path / "a.tar").write_bytes(names + archive(FILE))
    said: list[int] = []
    with (
        (tmp_path / "a.tar").open("rb") as file,
        observed(lambda command: said.append(len(command.stderr))),
        contextlib.suppress(CommandError),  # of owners, where it does not run as root
    ):
        tar.extract(file.fileno(), str(tmp_path))
    assert 0 < said[0] <= 64 * 1024
