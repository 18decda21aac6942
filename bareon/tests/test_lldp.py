# SPDX-License-Identifier: Apache-2.0
"""What neighbours say by LLDP: a frame of lldpd's, frames of an enemy, who is remembered how long, who waits."""

from __future__ import annotations

import dataclasses
import json
import random
import time
from pathlib import Path

import pytest

from bareon import facts, hardware
from bareon.lldp import table
from bareon.lldp.unit import Announcement, parse
from bareon.model.hardware import NeighbourFacts, VlanFacts
from bareon.model.node import NodeFacts
from bareon.tests.drawn import cases
from bareon.unattended import neighbours

#: What lldpd 1.0.16 sends at a veth, without the Ethernet header: a port named swp7 with an alias, two addresses, a
#: host name, fields of 802.3, and twice VLAN 100 by ``configure lldp custom-tlv``. Recorded from the wire.
LLDPD = bytes.fromhex(
    "020704de925c7be62304050573777037060200780a0e6c6561662d312e6578616d706c650c156120737769746368206f662074686520746573"
    "74730e04009c0080100c0501c00002070200000002001018110220010db8000000000000000000000007020000000200080f7261636b20342c"
    "206e6f6465203132fe0900120f030100000000fe0900120f010080000036fe060080c2010064fe0e0080c20300640773746f72616765fe0600"
    "80c2010064fe0e0080c20300640773746f726167650000"
)
LEAF = NeighbourFacts(
    *("mac-address", "de:92:5c:7b:e6:23", "interface-name", "swp7"),
    port_description="rack 4, node 12",
    system_name="leaf-1.example",
    vlan=100,
    vlans=(VlanFacts(100, "storage"),),
    management=("192.0.2.7", "2001:db8::7"),
)
#: What lldpd says when it ends.
LEAVE = bytes.fromhex("020704de925c7be623040505737770370602000000000000")


def field(kind: int, value: bytes) -> bytes:
    return (kind << 9 | len(value)).to_bytes(2) + value


def unit(*more: bytes, chassis: bytes = b"\x07leaf", port: bytes = b"\x05swp1", seconds: int = 120) -> bytes:
    """A data unit as the standard wants it, and more fields."""
    return b"".join((field(1, chassis), field(2, port), field(3, seconds.to_bytes(2)), *more, b"\0\0"))


def test_what_lldpd_sends() -> None:
    assert parse(LLDPD) == Announcement(LEAF, 120)
    assert parse(LEAVE) == Announcement(NeighbourFacts(*dataclasses.astuple(LEAF)[:4]), 0)
    # Ethernet fills a short frame up.
    assert parse(LLDPD + b"\xff" * 40) == Announcement(LEAF, 120)


@pytest.mark.parametrize(
    ("value", "chassis", "port"),
    [
        (b"\x01\x0bslot 1", None, ("interface-alias", "0b736c6f742031")),
        (b"\x03\x00\x11\x22\x33\x44\x55", ("port-component", "001122334455"), ("mac-address", "00:11:22:33:44:55")),
        (b"\x04\x00\x11\x22\x33\x44\x55", ("mac-address", "00:11:22:33:44:55"), None),
        (b"\x04\x01\xc0\x00\x02\x01", None, ("network-address", "192.0.2.1")),
        (b"\x05\x02" + bytes(15) + b"\x01", ("network-address", "::1"), None),
        # An address that is too short for its family.
        (b"\x05\x01\xc0\x00\x02", ("network-address", "01c00002"), None),
        (b"\x06swp1\x00", ("interface-name", "swp1"), None),
        (b"\x07Ethernet1/7", ("local", "Ethernet1/7"), ("local", "Ethernet1/7")),
        (b"\x07\x00\x00", ("local", "0000"), ("local", "0000")),
    ],
)  # fmt: skip
def test_identifiers(value: bytes, chassis: tuple[str, str] | None, port: tuple[str, str] | None) -> None:
    if chassis:
        found = parse(unit(chassis=value)).neighbour
        assert (found.chassis_id_subtype, found.chassis_id) == chassis
    if port:
        found = parse(unit(port=value)).neighbour
        assert (found.port_id_subtype, found.port_id) == port


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "does not begin"),
        (b"\0\0", "does not begin"),
        (LLDPD[:-20], "longer than the frame"),
        (field(1, b"\x07leaf") + b"\x05\xff\x05swp1", "longer than the frame"),
        (field(2, b"\x05swp1") + field(1, b"\x07leaf") + field(3, b"\0\x78"), "does not begin"),
        (field(1, b"\x07leaf") + field(2, b"\x05swp1") + field(3, b"\x78"), "does not begin"),
        (unit(field(1, b"\x07other")), "two of"),
        (unit(chassis=b"\x00leaf"), "identifier"),
        (unit(chassis=b"\x08leaf"), "identifier"),
        (unit(chassis=b"\x07"), "identifier"),
        (unit(port=b"\x07" + b"x" * 256), "identifier"),
    ],
)
def test_what_is_no_data_unit(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse(data)


def test_fields_that_lie_are_left_out() -> None:
    more = (
        field(4, b""),
        field(8, b"\xff\x01\xc0\x00\x02\x01"),
        field(8, b""),
        field(8, b"\x05\x01\xc0\x00\x02\x01\x02\0\0\0\0\0"),
        field(127, b"\x00\x80\xc2\x01\x00"),
        field(127, b"\x00\x80\xc2\x01\x0f\xff"),
        field(127, b"\x00\x80\xc2\x03\x00\x07\xff" + b"lied"),
        field(127, b"\x00\x80"),
        field(100, b"nobody knows"),
    )
    assert parse(unit(*more)).neighbour == NeighbourFacts(
        "local", "leaf", "interface-name", "swp1", management=("192.0.2.1",)
    )


def test_texts_of_strangers_move_no_cursor_and_tell_no_secrets() -> None:
    more = (
        field(4, b"\x1b[2Jhttp://me:hunter2@192.0.2.1/ \xff\xe2\x80\xae"),
        field(5, b"x" * 511),
        field(127, b"\x00\x80\xc2\x03\x00\x07\x07a\nb\x9f\x00\r\n"),
    )
    found = parse(unit(*more, chassis=b"\x07token=hunter2")).neighbour
    assert found.port_description == "\\x1b[2Jhttp://***@192.0.2.1/ \\xff\\u202e"
    assert found.system_name == "x" * 255
    assert found.vlans == (VlanFacts(7, "a\\nb\\x9f"),)
    assert found.chassis_id == "token=***"


def test_damaged_frames_are_read_or_refused() -> None:
    draw, read = random.Random("lldp"), 0
    for _ in range(cases(20000)):
        data = bytearray(LLDPD)
        for _ in range(draw.randint(1, 6)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        try:
            found = parse(bytes(data[: draw.randint(1, len(data))])).neighbour
        except ValueError:
            continue
        read += 1
        text = json.dumps(dataclasses.asdict(found), ensure_ascii=False)
        assert text.isprintable() and len(text) < 6000
    assert 0 < read < cases(20000)


def test_who_was_heard_is_in_the_facts(tmp_path: Path) -> None:
    for name, carrier in (("eth0", "1"), ("eth1", "1")):
        place = tmp_path / "sys/class/net" / name
        (place / "device").mkdir(parents=True)
        for file, said in (("type", "1"), ("address", f"52:54:00:00:00:0{name[-1]}"), ("carrier", carrier)):
            (place / file).write_text(said + "\n")
    assert [port.neighbours for port in hardware.read(tmp_path).ports] == [None, None]
    kept = table.Table(tmp_path)
    assert [port.neighbours for port in hardware.read(tmp_path).ports] == [(), ()]
    kept.take("eth1", parse(LLDPD))
    found = hardware.read(tmp_path)
    assert [port.neighbours for port in found.ports] == [(), (LEAF,)]
    node = NodeFacts("bios", (), hardware=found)
    document = json.loads(json.dumps(facts.to_json(node)))
    assert document["hardware"]["ports"][1]["neighbours"][0]["vlans"] == [{"id": 100, "name": "storage"}]
    assert facts.from_json(document) == node
    # Facts of an older bareon.
    del document["hardware"]["ports"][1]["neighbours"]
    assert facts.from_json(document).hardware.ports[1].neighbours is None  # type: ignore[union-attr]


def test_neighbours_go_and_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, now = table.Table(tmp_path), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    kept.take("eth0", parse(LLDPD))
    renamed = dataclasses.replace(LEAF, system_name="leaf-2.example")
    kept.take("eth0", Announcement(renamed, 120))
    assert table.known(tmp_path) == {"eth0": (renamed,)}
    now += 119
    assert table.known(tmp_path) == {"eth0": (renamed,)}
    kept.take("eth0", parse(unit(seconds=1)))
    assert [x.system_name for x in table.known(tmp_path)["eth0"]] == ["leaf-2.example", None]  # type: ignore[index]
    now += 2
    assert table.known(tmp_path) == {"eth0": ()}
    kept.take("eth0", parse(LLDPD))
    kept.take("eth0", parse(LEAVE))
    assert table.known(tmp_path) == {"eth0": ()}


def test_who_invents_neighbours_fills_no_memory(tmp_path: Path) -> None:
    kept = table.Table(tmp_path)
    for number in range(100):
        kept.take("eth0", parse(unit(chassis=b"\x07leaf-%d" % number)))
    found = (table.known(tmp_path) or {})["eth0"]
    assert [x.chassis_id for x in found] == [f"leaf-{number}" for number in range(table.MOST)]
    # One that is known is still heard.
    kept.take("eth0", parse(unit(field(5, b"new"), chassis=b"\x07leaf-0")))
    assert "new" in [x.system_name for x in (table.known(tmp_path) or {})["eth0"]]


def test_only_ports_with_a_link_are_waited_for(tmp_path: Path) -> None:
    for name, carrier in (("eth0", "1"), ("eth1", "0")):
        place = tmp_path / "sys/class/net" / name
        (place / "device").mkdir(parents=True)
        for file, said in (("type", "1"), ("address", "52:54:00:00:00:01"), ("carrier", carrier)):
            (place / file).write_text(said + "\n")
    start = time.monotonic()
    assert neighbours.awaited(tmp_path, 60) == []  # nobody listens
    kept = table.Table(tmp_path)
    assert neighbours.awaited(tmp_path, 0) == []
    assert neighbours.awaited(tmp_path, 0.01) == ["eth0"]
    kept.take("eth0", parse(LLDPD))
    assert neighbours.awaited(tmp_path, 60) == []
    assert time.monotonic() - start < 30
