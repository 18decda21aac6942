# SPDX-License-Identifier: Apache-2.0
"""Nodes that deploy themselves: parameters, names of a node, the mark on disks, and the program with its servers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bareon import cmdline
from bareon.cmd.unattended import _options
from bareon.errors import ImageFailed, InvalidInput, UnsuitableNode
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.tests.certificates import dated
from bareon.tests.imageserver import Fault, Site, serving
from bareon.tests.ironicapi import certificate
from bareon.tests.standin import MAC, laid_out
from bareon.tests.test_signatures import Signers, keyring, signers  # noqa: F401  fixtures
from bareon.unattended import events, fetch, identity, mark, parameter

DOCUMENT = json.dumps({"partitions": []}).encode()
DIGEST = hashlib.sha256(DOCUMENT).hexdigest()
HASTY = TransferSettings(back_off=0.01, longest_wait=0.02, connect_timeout=5, idle_timeout=2)
SOURCE = "bareon.input=https://deploy.example/{mac}.json"


def parsed(line: str) -> parameter.Parameters:
    return parameter.parse(line, _options())


def defects(line: str) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        parsed(line)
    return [str(defect) for defect in caught.value.defects]


def test_all_parameters() -> None:
    found = parsed(
        f'BOOT_IMAGE=vmlinuz ip=dhcp {SOURCE} "bareon.events=http://[fd00::1]:80/e" bareon.after=poweroff'
        f" bareon.timeout=60 bareon.again=changed bareon.input_sha256={DIGEST.upper()} bareon.input-keyring=/etc/k"
        " bareon.sshkey=x bareon.ca=x bareon.ntp=t bareon.medium=g bareon.deploy_driver=rsync"
        " bareon.lldp_timeout=30"
        " bareon.allow-unbootable=1"
        " bareon.image_timeout=90 bareon.allow_failing_disks=no bareon.allow_destroy=vda,vdb"
    )
    assert found.source.reveal() == "https://deploy.example/{mac}.json"
    assert found.events and found.events.host == "fd00::1"
    assert (found.after, found.timeout, found.lldp_timeout, found.again) == ("poweroff", 60.0, 30.0, "changed")
    assert (found.digest, found.keyring) == (DIGEST, "/etc/k")
    assert sorted(found.options) == [
        *("--allow_destroy=vda,vdb", "--allow_unbootable", "--deploy_driver=rsync", "--image_timeout=90"),
        "--noallow_failing_disks",
    ]


def test_defaults() -> None:
    assert parsed(SOURCE) == parameter.Parameters(Location("https://deploy.example/{mac}.json"))


@pytest.mark.parametrize(
    ("line", "defect"),
    [
        ("", "bareon.input: is not on the kernel's command line: it is the URL of the document"),
        ("bareon.input=file:///x", "bareon.input: must be a URL that begins with http:// or https:// and names a"
         " host"),
        ("bareon.input=http://h/{name}", "bareon.input: {name} is none of the words that it may have:"
         " {mac}, {serial}, {uuid}, {hostname}"),
        ("bareon.input=http://{mac}/x", "bareon.input: must name its host:"
         " words in braces are for what follows it"),
        (f"{SOURCE} bareon.after=halt", "bareon.after: halt is none of reboot, poweroff, kexec, shell"),
        (f"{SOURCE} bareon.aftr=reboot", "bareon.aftr: is neither a parameter of the ramdisk nor an option of"
         " bareon-provision; is bareon.after meant?"),
        (f"{SOURCE} bareon.timeout=1h", "bareon.timeout: 1h is no number of seconds"),
        (f"{SOURCE} bareon.lldp-timeout=30s", "bareon.lldp_timeout: 30s is no number of seconds"),
        (f"{SOURCE} bareon.timeout=0", "bareon.timeout: 0 is no number of seconds"),
        (f"{SOURCE} bareon.events=", "bareon.events: has no value"),
        (f"{SOURCE} bareon.again", "bareon.again: has no value"),
        (f"{SOURCE} bareon.input_sha256=abc", "bareon.input_sha256: must be 64 hexadecimal digits"),
        (f"{SOURCE} bareon.plan=1", "bareon.plan: is set by the unattended run itself: remove it"),
        (f"{SOURCE} bareon.kexec=1", "bareon.kexec: is set by the unattended run itself: remove it"),
        (f"{SOURCE} bareon.actions=do_reboot", "bareon.actions: do_reboot would end the run before it is told:"
         " bareon.after says what comes then"),
        (f"{SOURCE} bareon.after=shell bareon.after=reboot", "bareon.after: is there twice"
         " on the kernel's command line, with two values: leave one"),
        (f"{SOURCE} bareon.image-timeout=1 bareon.image_timeout=2", "bareon.image_timeout: is there twice"
         " on the kernel's command line, with two values: leave one"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_nothing_is_done(line: str, defect: str) -> None:
    assert defects(line) == [defect]


def test_an_older_document_by_http_is_no_changed_one() -> None:
    words = "bareon.input=http://h/x bareon.input_keyring=/etc/k bareon.again=changed"
    (defect,) = defects(words)
    assert defect.startswith("bareon.again: changed takes an older document") and "use https" in defect
    assert parsed(words.replace("http:", "https:")).again == "changed"
    assert parsed(f"{words} bareon.input_sha256={DIGEST}").again == "changed"


def test_parameters_of_others_may_be_repeated() -> None:
    assert parsed(f"{SOURCE} bareon.ca=a bareon.ca=b bareon.sshkey=a bareon.sshkey=b").options == ()


def test_what_nobody_knows_is_named_where_nothing_is_to_be_deployed() -> None:
    known = "quiet bareon.sshkey=a bareon.ca=b bareon.ntp=c bareon.medium=d"
    assert not parameter.asks(known, _options()) and not parameter.strange(known, _options())
    for words in (SOURCE, "bareon.events=x", "bareon.image-timeout=1", "bareon.input"):
        assert parameter.asks(words, _options())
    line = f"{known} bareon.inptu=https://u:secret@h/x bareon.sshkye=a bareon.zzzzzz"
    assert not parameter.asks(line, _options())
    what = "is neither a parameter of the ramdisk nor an option of bareon-provision"
    assert [str(x) for x in parameter.strange(line, _options())] == [
        f"bareon.inptu: {what}; is bareon.input meant?",
        f"bareon.sshkye: {what}; is bareon.sshkey meant?",
        f"bareon.zzzzzz: {what}",
    ]


@pytest.mark.parametrize(("efi", "most"), [(False, 2046), (True, 1536)])
def test_a_command_line_that_may_have_been_cut(tmp_path: Path, efi: bool, most: int) -> None:
    (tmp_path / "proc").mkdir()
    if efi:
        (tmp_path / "sys/firmware/efi").mkdir(parents=True)
    for size, whole in ((most, True), (most + 1, False), (2047, False), (4096, False)):
        (tmp_path / "proc/cmdline").write_bytes(b"x" * (size - 1) + b"\xe4\n")
        reason = cmdline.cut(tmp_path)
        assert (reason is None) is whole
        assert whole or (reason or "").startswith(f"has {size} bytes: a kernel ")


def test_a_value_that_an_option_does_not_take() -> None:
    assert [x.partition(":")[0] for x in defects(f"{SOURCE} bareon.image_attempts=0 bareon.image_programs=all")] == [
        *("bareon.image_attempts", "bareon.image_programs"),
    ]


def test_all_defects_are_named() -> None:
    assert len(defects("bareon.input=x bareon.after=y bareon.z=1")) == 3


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return laid_out(tmp_path)


def test_names_of_a_node(root: Path) -> None:
    found = identity.read(root)
    assert found == identity.Identity(MAC[:-1] + "1", "ABC 1/2", "4c4c4544-0000-4000-8000-000000000001")
    url = found.filled(Location("http://h/{mac}/{serial}?u={uuid}"))
    assert url.reveal() == f"http://h/{MAC[:-1]}1/ABC%201%2F2?u=4c4c4544-0000-4000-8000-000000000001"
    with pytest.raises(UnsuitableNode, match=r"\{hostname\}, and this node has none: nobody has given it a name"):
        found.filled(Location("http://h/{hostname}"))


def test_the_port_that_the_ramdisk_came_by_wins(root: Path) -> None:
    (root / "proc/cmdline").write_text("BOOTIF=01-52-54-00-aa-bb-cc\n")
    assert identity.read(root).mac == "52:54:00:aa:bb:cc"


ROUTES = "Iface\tDestination\tGateway\n"


def test_the_port_with_an_address_without_a_default_route(root: Path) -> None:
    (root / "proc/net/route").write_text(f"{ROUTES}eth0\t0000A8C0\t00000000\neth1\t00000000\t0196A8C0\n")
    assert identity.read(root).mac == MAC[:-1] + "1"
    (root / "proc/net/route").write_text(f"{ROUTES}eth1\t0000A8C0\t00000000\n")
    assert identity.read(root).mac == MAC[:-1] + "1"
    (root / "proc/net/route").write_text(ROUTES)
    address = "20010db8000000000000000000000001 02 40 00 80 eth1\n"
    (root / "proc/net/if_inet6").write_text(f"fe800000000000000000000000000001 01 40 20 80 eth0\n{address}")
    assert identity.read(root).mac == MAC[:-1] + "1"


def test_an_address_is_waited_for(root: Path) -> None:
    (root / "proc/net/route").write_text(ROUTES)
    started = time.monotonic()
    assert identity.awaited(root, 0.6).mac == MAC[:-1] + "0"
    assert time.monotonic() - started >= 0.6
    threading.Timer(0.3, (root / "proc/net/route").write_text, [f"{ROUTES}eth1\t00000000\t0196A8C0\n"]).start()
    assert identity.awaited(root, 60).mac == MAC[:-1] + "1"


def test_the_first_port_with_a_link_without_a_route(root: Path) -> None:
    (root / "proc/net/route").write_text(ROUTES)
    assert identity.read(root).mac == MAC[:-1] + "0"
    (root / "sys/class/net/eth0/carrier").write_text("0\n")
    assert identity.read(root).mac == MAC[:-1] + "1"


@pytest.mark.parametrize("serial", [
    *("", "Not Specified", "To be filled by O.E.M.", "To Be Filled By O.E.M.", "Default string", "0000", "N/A"),
    *("System Serial Number", "Chassis Serial Number", "0123456789", "123456789", "........", "xxxxxxx", "OEM"),
])  # fmt: skip
def test_a_serial_number_that_is_none(root: Path, serial: str) -> None:
    (root / "sys/class/dmi/id/product_serial").write_text(serial + "\n")
    assert identity.read(root).serial is None
    why = f"its firmware says '{serial}', as that of many machines does" if serial else "tells no serial number"
    with pytest.raises(UnsuitableNode, match=re.escape(why)):
        identity.read(root).filled(Location("http://h/{serial}"))


@pytest.mark.parametrize("serial", ["ABC 1/2", "VMware-42 1f", "BAREON-A", "0", "F", "1234567", "12345678X", "CN0F"])
def test_a_serial_number_that_is_one(root: Path, serial: str) -> None:
    (root / "sys/class/dmi/id/product_serial").write_text(serial + "\n")
    assert identity.read(root).serial == (None if serial in "0F" else serial)


@pytest.mark.parametrize("uuid", [
    *("03000200-0400-0500-0006-000700080009", "00000000-0000-0000-0000-000000000000", "Not Settable"),
    *("FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",),
])  # fmt: skip
def test_a_uuid_that_is_none(root: Path, uuid: str) -> None:
    (root / "sys/class/dmi/id/product_uuid").write_text(uuid + "\n")
    with pytest.raises(UnsuitableNode, match=f"has none: its firmware says '{uuid}', as that of many machines does"):
        identity.read(root).filled(Location("http://h/{uuid}"))


def test_the_mark_is_a_guid_that_tells_its_document() -> None:
    guid = mark.guid(DIGEST, "/dev/vda")
    assert guid.startswith("62617265-6f6e-8") and guid[19] in "89ab"  # RFC 9562: version 8, variant
    assert mark.digest_of(guid.upper()) == DIGEST[:12]
    assert mark.guid(DIGEST, "/dev/vdb") != guid
    for other in (None, "0x12345678", "62617265-6f6e-4000-8000-000000000000", "0c6f1c3e-7d0b-4f7a-9b53-b8a1f3f4d7a1"):
        assert mark.digest_of(other) is None


def nobody() -> None:
    raise AssertionError("there is nothing to mend")


def asked(
    site: Site,
    told: list[str] | None = None,
    *,
    digest: str | None = None,
    seconds: float = 5.0,
    settings: TransferSettings = HASTY,
    mend: Callable[[], None] = nobody,
) -> bytes | None:
    wanted = fetch.Wanted(Location(site.url), digest)
    tell = [].append if told is None else told.append
    return fetch.fetched(wanted, settings, time.monotonic() + seconds, tell, mend)


def test_a_document() -> None:
    with serving(DOCUMENT) as site:
        assert asked(site, digest=DIGEST) == DOCUMENT


def test_nothing_to_do() -> None:
    with serving(DOCUMENT) as site:
        site.always = Fault(status=204)
        assert asked(site) is None


def test_a_server_that_fails_at_first_and_a_document_that_comes_later() -> None:
    told: list[str] = []
    with serving(DOCUMENT) as site:
        site.faults = [Fault(status=503)] * 3 + [Fault(status=404)] * 2 + [Fault(cut=5)]
        assert asked(site, told) == DOCUMENT
        assert len(site.requests) == 7
    assert [x.removeprefix(f"{site.url}: ") for x in told] == [
        "the server answers with an error 503; asking again",
        "the server has no document for this node (404); asking again",
        "127.0.0.1 closed the connection; asking again",
    ]


def refused(site: Site, match: str, **more: Any) -> None:
    with pytest.raises(ImageFailed, match=match):
        asked(site, **more)


def test_documents_that_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "LARGEST", 1000)
    with serving(DOCUMENT) as site:
        refused(site, "has the SHA-256 .* and bareon.input_sha256 is 0000", digest="0" * 64)
        assert len(site.requests) == 1
        site.faults = [Fault(body=b"x" * 1001)]
        refused(site, "larger than 1000 B")
        site.faults = [Fault(body=b"x" * 1001, chunked=True)]
        refused(site, "larger than 1000 B")
        site.always = Fault(status=302, headers={"Location": "/again"})
        refused(site, "more than 10 redirects")
        site.always = Fault(status=403)
        refused(site, "the server refuses it")


def test_time_that_is_over() -> None:
    with serving(DOCUMENT) as site:
        site.always = Fault(status=404)
        refused(site, r"no document until bareon.timeout was over: .*\(404\)", seconds=0.3)


def test_a_server_that_is_not_there() -> None:
    with serving(DOCUMENT) as site:
        pass
    refused(site, "until bareon.timeout was over: .* refuses the connection", seconds=0.3)


def test_a_certificate_that_does_not_hold(tmp_path: Path) -> None:
    """By its authority, or by the clock: it is said, and asked again once somebody could have mended it."""
    trusted, strange = certificate(tmp_path), certificate(tmp_path, "DNS:elsewhere")
    old = dated(tmp_path / "old", "20100101000000Z", "20110101000000Z")
    new = dated(tmp_path / "new", "20900101000000Z", "20910101000000Z")
    (authorities := tmp_path / "ca.pem").write_bytes(b"".join(x.read_bytes() for x in (trusted, old, new)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(strange)
    coming, told = iter((old, new, trusted)), list[str]()
    with serving(DOCUMENT, wrap=lambda x: context.wrap_socket(x, server_side=True)) as site:
        settings = replace(HASTY, ca_file=str(authorities))
        assert asked(site, told, settings=settings, mend=lambda: context.load_cert_chain(next(coming))) == DOCUMENT
    first, *others = (x.removeprefix(f"{site.url}: the certificate of 127.0.0.1 ") for x in told)
    assert first.startswith("is not trusted (") and "clock" not in first
    clock = "by this machine's clock, which says 20[^;]* UTC; where that is wrong, its firmware or a time server"
    for said, words in zip(others, ("has expired", "is not yet valid"), strict=True):
        assert re.fullmatch(rf"{words} {clock} \(NTP\) must set it; asking again", said), said


def test_a_document_that_is_signed(signers: Signers, keyring: str) -> None:  # noqa: F811
    signature = signers.sign(DOCUMENT)
    with serving(DOCUMENT) as site:
        site.before = lambda seen: Fault(body=signature) if ".sig" in seen["path"] else None
        wanted = fetch.Wanted(Location(f"{site.url}?a=b"), keyring=keyring)
        assert fetch.fetched(wanted, HASTY, time.monotonic() + 5, print, nobody) == DOCUMENT
        assert [x["path"] for x in site.requests] == ["/image?a=b", "/image.sig?a=b"]
        site.body = DOCUMENT + b" "
        with pytest.raises(ImageFailed, match=r"until bareon\.timeout was over: .* does not fit"):
            fetch.fetched(wanted, HASTY, time.monotonic() + 1, print, nobody)
        site.before = lambda seen: Fault(status=404) if ".sig" in seen["path"] else None
        with pytest.raises(ImageFailed, match=r"its signature, .*\.sig\S*, is not there"):
            fetch.fetched(wanted, HASTY, time.monotonic() + 0.3, print, nobody)


def test_a_signature_that_comes_late(
    signers: Signers,  # noqa: F811
    keyring: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not there yet, its server fails, and then it is that of the document before; and the document changes."""
    monkeypatch.setattr(fetch, "_LONGEST_ASKED", 0.1)
    old, new = DOCUMENT + b" ", DOCUMENT
    answers = iter([
        *(Fault(body=old), Fault(status=404)),
        *(Fault(body=old), Fault(status=503, headers={"Retry-After": "99999"})),
        *(Fault(body=old), Fault(status=204)),
        *(Fault(body=old), Fault(body=signers.sign(new))),
        *(Fault(body=new), Fault(body=signers.sign(new))),
    ])  # fmt: skip
    told: list[str] = []
    with serving(b"") as site:
        site.before = lambda seen: next(answers)
        wanted = fetch.Wanted(Location(site.url), keyring=keyring)
        assert fetch.fetched(wanted, HASTY, time.monotonic() + 60, told.append, nobody) == new
    there = f"its signature, {site.url}.sig, is not there; asking again"
    late = "the server answers with an error 503 and asks to wait 99999 s"
    changed = "what was signed has been changed, or the signature is that of something else"
    assert [x.removeprefix(f"{site.url}: ") for x in told] == [
        there,
        f"its signature, {site.url}.sig: {late}; asking again",
        there,
        f"its signature does not fit: {changed}; asking again",
    ]


def test_a_keyring_that_cannot_be_used_is_known_before_anybody_is_asked(tmp_path: Path) -> None:
    with serving(DOCUMENT) as site:
        wanted = fetch.Wanted(Location(site.url), keyring=str(tmp_path / "keys"))
        with pytest.raises(ImageFailed, match=r"the keyring .* cannot be read"):
            fetch.fetched(wanted, HASTY, time.monotonic() + 5, print, nobody)
        assert not site.requests


def test_a_server_that_asks_to_wait_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_LONGEST_ASKED", 0.1)
    told: list[str] = []
    with serving(DOCUMENT) as site:
        site.faults = [Fault(status=503, headers={"Retry-After": "999999999"})]
        assert asked(site, told, seconds=60) == DOCUMENT
    assert told == [f"{site.url}: the server answers with an error 503 and asks to wait 1e+09 s; asking again"]


@pytest.mark.parametrize("when", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "soon", "-1", "Mon, 99 Foo 0"])
def test_a_time_to_wait_that_is_none(when: str) -> None:
    told: list[str] = []
    with serving(DOCUMENT) as site:
        site.faults = [Fault(status=503, headers={"Retry-After": when})]
        assert asked(site, told, seconds=60) == DOCUMENT
        site.faults = [Fault(status=503, headers={"Retry-After": when})]
        events_told = events.Events(Location(site.url), None, NAMES, HASTY)
        events_told.tell("waiting")
        assert events_told.flush(60)


@pytest.mark.parametrize("rubbish", [
    *(b"HTTP/1.1 abc x\r\n\r\n", b"hello\n", b"", bytes(1000), b"HTTP/1.1 100 Continue\r\n\r\n" * 2000),
    b"HTTP/1.1 200 x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabcdef\r\n0\r\n\r\n",
])  # fmt: skip
def test_an_answer_that_is_none_is_asked_for_again(rubbish: bytes) -> None:
    """Such as that of a server that is just starting, or of another one on its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.recv(1 << 16)
                with contextlib.suppress(OSError):
                    connection.sendall(rubbish)
                connection.close()

    threading.Thread(target=answer, daemon=True).start()
    wanted = fetch.Wanted(Location(f"http://127.0.0.1:{listener.getsockname()[1]}/x"))
    with pytest.raises(ImageFailed, match=r"until bareon\.timeout was over: .* broke the connection"):
        fetch.fetched(wanted, HASTY, time.monotonic() + 0.3, print, nobody)
    listener.close()


def test_a_document_that_comes_slowly_gets_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_ATTEMPT", 1.0)
    told: list[str] = []
    with serving(DOCUMENT) as site:
        site.always = Fault(drip=3.0 / len(DOCUMENT))
        assert asked(site, told, seconds=120) == DOCUMENT
    assert "took longer than 1 s in all; asking again" in told[0] and len(told) > 1


NAMES = {"mac": MAC}
STEP = {"number": 1, "count": 2, "description": "Bring the image"}


def lines(site: Site) -> list[dict[str, Any]]:
    """The events of all requests, less those that were not taken."""
    return [json.loads(line) for request in site.requests for line in request["body"].splitlines()]


def test_events_are_signed_and_sent_again_in_their_order() -> None:
    with serving(b"") as site:
        site.faults = [Fault(status=503), Fault(status=403), Fault(reset=True, cut=0, length=5)]
        told = events.Events(Location(site.url), b"0123456789abcdef", NAMES, HASTY)
        for number in range(5):
            told.tell("waiting", reason=str(number))
        assert told.flush(20)
        head = {"run": told.run, "node": NAMES, "event": "waiting"}
        assert len(site.requests) > 2
        # All of the first two again; the third was taken by its status.
        taken = lines(Site(b"", requests=site.requests[2:]))
        assert [(x["sequence"], x["reason"]) for x in taken] == [(n + 1, str(n)) for n in range(5)]
        assert all(head.items() <= x.items() for x in taken)
        for request in site.requests:
            good = events.signature(b"0123456789abcdef", told.run, events.LINES, request["body"].encode())
            assert request["X-Bareon-Signature"] == f"sha256={good}" and request["X-Bareon-Run"] == told.run


def test_what_is_kept_has_an_end_and_progress_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_MOST", 4)
    monkeypatch.setattr(events, "_SELDOM", 0.0)
    with serving(b"") as site:
        site.always = Fault(status=503)
        told = events.Events(Location(site.url), None, NAMES, HASTY)
        told.relay(json.dumps({"event": "started", **STEP}))
        for done in range(6):
            told.relay(json.dumps({"event": "progressed", **STEP, "done": done}))
        told.relay(json.dumps({"event": "finished", **STEP}))
        told.tell("ended", outcome="done")
        assert not told.flush(0.1)
        site.requests.clear()
        site.always = None
        assert told.flush(20)
        kept = {x["sequence"]: (x["event"], x.get("done")) for x in lines(site)}
        assert list(kept.values()) == [("started", None), ("progressed", 5), ("finished", None), ("ended", None)]
        assert "X-Bareon-Signature" not in site.requests[-1]


def test_progress_comes_seldom_and_rubbish_not_at_all() -> None:
    with serving(b"") as site:
        told = events.Events(Location(site.url), None, NAMES, HASTY)
        for done in range(50):
            told.relay(json.dumps({"event": "progressed", **STEP, "done": done}))
        for rubbish in ("", "[]", "{", '{"number": 1}', "null"):
            told.relay(rubbish)
        told.relay(json.dumps({"event": "finished", "sequence": 99, "node": "another", **STEP}))
        assert told.flush(20)
        assert [(x["event"], x["sequence"], x["node"]) for x in lines(site)] == [
            *(("progressed", 1, NAMES), ("finished", 2, NAMES)),
        ]


@pytest.mark.parametrize("status", [400, 413])
def test_an_event_that_is_refused_keeps_no_other_one_back(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_BATCH", 8)
    with serving(b"") as site:
        taken: list[dict[str, Any]] = []

        def judge(seen: dict[str, str]) -> Fault:
            batch = [json.loads(line) for line in seen["body"].splitlines()]
            if any(x.get("reason") == "5" or "report" in x for x in batch):
                return Fault(status=status)
            taken.extend(batch)
            return Fault(status=204)

        site.before = judge
        told = events.Events(Location(site.url), None, NAMES, HASTY)
        for number in range(12):
            told.tell("waiting", reason=str(number))
        told.tell("ended", outcome="done", report={"outcome": "done"})
        told.tell("last")
        assert told.flush(60)
    assert [x["sequence"] for x in taken] == [1, 2, 3, 4, 5, *range(7, 15)]
    assert taken[-2]["outcome"] == "done" and taken[-2]["left_out"] == ["report"]


def test_a_key_that_is_none(tmp_path: Path) -> None:
    assert events.key(tmp_path) is None
    (tmp_path / "etc/bareon").mkdir(parents=True)
    (tmp_path / "etc/bareon/events.key").write_text("short\n")
    with pytest.raises(InvalidInput, match=r"/etc/bareon/events\.key: must have at least 16 bytes"):
        events.key(tmp_path)
    (tmp_path / "etc/bareon/events.key").write_text(" 0123456789abcdef\n")
    assert events.key(tmp_path) == b"0123456789abcdef"
