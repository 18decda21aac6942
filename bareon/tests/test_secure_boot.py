# SPDX-License-Identifier: Apache-2.0
"""Secure Boot: what firmware and real signatures say, what is made of it, and bytes that lie."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import random
import struct
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bareon import executor, probe
from bareon.boot import verification
from bareon.boot.disks import BootDisk
from bareon.boot.platform import PC_UEFI
from bareon.boot.secure_boot import Loader, refusal
from bareon.errors import ActionFailed, CommandError, UnsuitableNode
from bareon.facts import from_json, to_json
from bareon.model.node import NodeFacts, SecureBootFacts
from bareon.system.tree import Tree
from bareon.tests import cases, efiprogram
from bareon.tests.earlyimage import EarlyImage
from bareon.tools import authenticode, der, efi, pe, secure_boot
from bareon.tools.secure_boot import Keys
from bareon.tools.signature_list import Signatures, signatures
from bareon.tools.x509 import Certificate, certificate, common_names

CAPTURED = Path(__file__).parent / "captured"
GLOBAL, SECURITY = efi.GLOBAL, "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"
CA = "CN=Microsoft Corporation UEFI CA 2011,O=Microsoft Corporation,L=Redmond,ST=Washington,C=US"
PCA = "CN=Microsoft Windows Production PCA 2011,O=Microsoft Corporation,L=Redmond,ST=Washington,C=US"


def captured(name: str) -> bytes:
    """What was taken from OVMF_VARS_4M.ms.fd, shim 16.1 and GRUB 2.06 of Debian 12."""
    return gzip.decompress(base64.b64decode((CAPTURED / f"{name}.gz.b64").read_bytes()))


# What the firmware says.


@pytest.fixture
def firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The variables of OVMF with Microsoft's keys, as efivarfs shows them."""
    monkeypatch.setattr(Path, "is_mount", lambda self: self == tmp_path)
    variables = {
        f"SecureBoot-{GLOBAL}": b"\1",
        f"SetupMode-{GLOBAL}": b"\0",
        f"db-{SECURITY}": captured("ovmf.db"),
        f"dbx-{SECURITY}": captured("ovmf.dbx"),
    }
    for name, content in variables.items():
        (tmp_path / name).write_bytes(bytes((7, 0, 0, 0)) + content)
    return tmp_path


def test_the_keys_of_a_real_firmware(firmware: Path) -> None:
    keys = secure_boot.read(str(firmware))
    assert keys.state == "enabled"
    assert [x.subject for x in keys.db.certificates] == [PCA, CA]
    assert [x.fingerprint[:16] for x in keys.db.certificates] == ["e8e95f0733a55e8b", "48e99b991f57fc52"]
    assert len(keys.dbx.hashes) == 1
    assert not keys.dbx.certificates
    assert keys.sbat == ()


@pytest.mark.parametrize(
    ("enabled", "setup", "state"), [(1, 0, "enabled"), (0, 0, "disabled"), (0, 1, "setup"), (1, 1, "setup")]
)
def test_the_state_of_a_firmware(enabled: int, setup: int, state: str, firmware: Path) -> None:
    (firmware / f"SecureBoot-{GLOBAL}").write_bytes(bytes((6, 0, 0, 0, enabled)))
    (firmware / f"SetupMode-{GLOBAL}").write_bytes(bytes((6, 0, 0, 0, setup)))
    assert secure_boot.read(str(firmware)).state == state


def test_a_firmware_without_secure_boot(firmware: Path) -> None:
    for path in firmware.iterdir():
        path.unlink()
    assert secure_boot.read(str(firmware)) == Keys("unsupported")


def test_what_shim_shows(firmware: Path) -> None:
    (firmware / f"SbatLevelRT-{SHIM}").write_bytes(b"\6\0\0\0sbat,1,2025021800\nshim,4\ngrub,5\n")
    (firmware / f"MokListRT-{SHIM}").write_bytes(b"\6\0\0\0" + captured("ovmf.db"))
    keys = secure_boot.read(str(firmware))
    assert keys.sbat == ("sbat,1,2025021800", "shim,4", "grub,5")
    assert len(keys.mok.certificates) == 2


def test_variables_that_cannot_be_read(firmware: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (firmware / f"db-{SECURITY}").write_bytes(b"\7\0\0\0" + captured("ovmf.db")[:-1])
    keys = secure_boot.read(str(firmware))
    assert (keys.state, keys.db) == ("unknown", Signatures())
    assert keys.reason.startswith("its variables cannot be read: db is a list of signatures whose sizes")

    def failing(name: str, vendor: str, place: str) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(efi, "variable", failing)
    assert secure_boot.read(str(firmware)).reason == "its variables cannot be read: Input/output error"

    def unmounted(*words: str, **options: str) -> None:
        raise CommandError(["mount"], 32, "failed with exit code 32")

    monkeypatch.setattr(efi, "mounted", unmounted)
    assert (
        secure_boot.read("/nowhere").reason == "its variables cannot be read: mount failed with exit code 32 (mount)"
    )


def test_facts_have_it_and_old_ones_do_without(firmware: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = secure_boot.read(str(firmware))
    monkeypatch.setattr(secure_boot, "read", lambda: keys)
    found = probe._secure_boot()
    assert (found.state, found.db[1].subject, found.dbx_hashes) == ("enabled", CA, 1)
    node = NodeFacts("uefi", (), secure_boot=found)
    assert from_json(json.loads(json.dumps(to_json(node)))) == node
    assert from_json({"format": 1, "firmware": "uefi", "disks": []}).secure_boot is None
    assert "secure_boot" not in to_json(NodeFacts("bios", ()))
    with pytest.raises(ValueError, match=r"^\$\.secure_boot\.state: expected one of enabled"):
        from_json({"format": 1, "firmware": "uefi", "disks": [], "secure_boot": {"state": "on"}})


@pytest.mark.parametrize(
    ("kind", "algorithm", "size"),
    [
        ("826ca512-cf10-4ac9-b187-be01496631bd", "sha1", 20),
        ("c1c41626-504c-4092-aca9-41f936934328", "sha256", 32),
        ("ff3e5307-9fd0-48c9-85f1-8ad56c701e01", "sha384", 48),
        ("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a", "sha512", 64),
    ],
)
def test_hashes_in_a_list(kind: str, algorithm: str, size: int) -> None:
    entries = [bytes([n]) * size for n in (1, 2)]
    assert signatures(_list(kind, *entries)) == Signatures(hashes=frozenset((algorithm, x) for x in entries))


def test_entries_that_are_not_known_are_counted() -> None:
    unknown = _list("11111111-1111-1111-1111-111111111111", b"12", b"34")
    broken = _list("a5c059a1-94e4-4aa7-87b5-ab155c2bf072", b"\x30\x80 no certificate")
    assert signatures(unknown + broken + captured("ovmf.dbx")).others == 3
    revoked = _list("3bd2a492-96c0-4079-b420-fcf98ef103ed", b"h" * 32 + bytes(16))
    assert signatures(revoked).certificate_hashes == {("sha256", b"h" * 32)}


def _list(kind: str, *entries: bytes) -> bytes:
    each = 16 + len(entries[0])
    content = b"".join(bytes(16) + x for x in entries)
    return uuid.UUID(kind).bytes_le + struct.pack("<III", 28 + len(content), 0, each) + content


# What signatures say.


@pytest.mark.parametrize(
    ("name", "issuers", "digest"),
    [
        ("shim.2011.p7", ["Microsoft Corporation UEFI CA 2011"], "80a66d53a945d228"),
        ("shim.2023.p7", ["Microsoft UEFI CA 2023"], "80a66d53a945d228"),
        ("grub.p7", ["Debian Secure Boot CA"], "a68f6d71ebddaa19"),
    ],
)
def test_real_signatures(name: str, issuers: list[str], digest: str) -> None:
    found = authenticode.signature(captured(name) + bytes(5))  # as they are padded in a file
    assert common_names([found.issuer]) == ", ".join(map(repr, issuers))
    assert (found.algorithm, found.digest.hex()[:16]) == ("sha256", digest)
    assert found.blob == captured(name).rstrip(b"\0") or found.blob == captured(name)
    assert len(found.content) == 76


def test_a_name_for_people_has_no_control_characters() -> None:
    found = efiprogram.certificate("a, b\x1b[2J")
    assert found.subject == "CN=a\\, b\\x1b[2J"
    assert efiprogram.certificate("").subject == "CN="


MINE, THEIRS = efiprogram.certificate("Mine"), efiprogram.certificate("Theirs")
OURS = efiprogram.certificate("Ours")
LOADER = efiprogram.certificate("the one who signs loaders", "Mine")
THEIR_LOADER = efiprogram.certificate("who signs theirs", "Theirs")
GRUB_SIGNER = efiprogram.certificate("who signs GRUB", "Ours")
SBAT = b"sbat,1,SBAT Version,sbat,1,https://x\nshim,4,UEFI shim\n"
GRUB_SBAT = b"sbat,1,SBAT Version\ngrub,5,FSF\n" + bytes(100)
LEVEL = b"\0\0\0\0\x08\0\0\0\x29\0\0\0sbat,1,2025021800\nshim,4\ngrub,5\n\0sbat,1,2025051000\nshim,9\n\0"


def _vendor(authorized: bytes, revoked: bytes = b"") -> bytes:
    return struct.pack("<IIII", len(authorized), len(revoked), 16, 16 + len(authorized)) + authorized + revoked


def shim(
    *signers: Certificate, own: bytes = OURS.content, revoked: bytes = b"", sbat: bytes = SBAT, level: bytes = LEVEL
) -> Loader:
    """A shim that starts what ``own`` allows."""
    sections = {".vendor_cert": _vendor(own, revoked), ".sbat": sbat, ".sbatlevel": level}
    return Loader("shim", efiprogram.program(sections, signers))


def grub(*signers: Certificate, sbat: bytes = GRUB_SBAT) -> Loader:
    """A GRUB."""
    return Loader("grub", efiprogram.program({".sbat": sbat, "mods": b"\0/EFI/debian\0"}, signers))


def by_issuer(signature: authenticode.Signature, certificates: Sequence[Certificate]) -> bool:
    """In the place of openssl: nobody lies about who has signed what."""
    names = {signature.signer, signature.issuer}
    return any(x.subject in names for x in certificates)


def asked(keys: Keys, first: Loader, grub: Loader | None = None, kernel: Loader | None = None) -> str | None:
    """What would be said of the loaders."""
    return refusal(keys, first, grub, kernel, by_issuer)


def hashed(loader: Loader, algorithm: str = "sha256") -> Signatures:
    """A list with the hash of a loader."""
    return Signatures(hashes=frozenset({(algorithm, pe.program(loader.data).digest(algorithm))}))


KEYS = Keys("enabled", db=Signatures((THEIRS, MINE)), sbat=("sbat,1,2024010100", "shim,4", "grub,4"))
GRUB = grub(GRUB_SIGNER)


@pytest.mark.parametrize("signers", [(LOADER,), (OURS, LOADER), (MINE,)])
def test_what_may_start(signers: tuple[Certificate, ...]) -> None:
    assert asked(KEYS, shim(*signers), GRUB) is None


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (replace(KEYS, db=Signatures((OURS,))), "shim is signed under 'Mine', and the firmware goes by 'Ours' (db)"),
        (replace(KEYS, db=Signatures()), "shim is signed under 'Mine', and the firmware goes by no certificate (db)"),
        (replace(KEYS, dbx=hashed(shim(LOADER))), "shim is revoked: its hash is in dbx"),
        (replace(KEYS, dbx=hashed(shim(LOADER), "sha512")), "shim is revoked: its hash is in dbx"),
        (
            replace(KEYS, dbx=Signatures((MINE,))),
            "shim is signed under 'Mine', which is revoked: it is in dbx",
        ),
        (
            replace(KEYS, dbx=Signatures(certificate_hashes=frozenset({("sha256", LOADER.digest("sha256"))}))),
            "shim is signed under 'Mine', which is revoked: it is in dbx",
        ),
        (
            replace(KEYS, sbat=("sbat,1,2025990100", "shim,5")),
            "shim is revoked: it is generation 4 of shim, and the SBAT level asks for 5 at least (2025990100)",
        ),
        (
            replace(KEYS, sbat=("sbat,1,2025990100", "grub,6")),
            "grub is revoked: it is generation 5 of grub, and the SBAT level asks for 6 at least (2025990100)",
        ),
        (replace(KEYS, dbx=hashed(GRUB)), "grub is revoked: its hash is in dbx, shim or MOKX"),
        (replace(KEYS, mokx=hashed(GRUB)), "grub is revoked: its hash is in dbx, shim or MOKX"),
        (
            replace(KEYS, mokx=Signatures((OURS,))),
            "grub is signed under 'Ours', which is revoked: it is in dbx, shim or MOKX",
        ),
    ],
)
def test_keys_that_keep_a_loader_from_starting(keys: Keys, words: str) -> None:
    assert asked(keys, shim(LOADER), GRUB) == words


def test_the_hash_of_a_loader_lets_it_start_unsigned() -> None:
    assert asked(replace(KEYS, db=hashed(shim())), shim(), GRUB) is None
    assert asked(KEYS, shim()) == "shim is not signed, and the firmware goes by 'Theirs', 'Mine' (db)"


def test_a_signature_of_another_program_is_none() -> None:
    changed = bytearray(shim(LOADER).data)
    changed[0x401] ^= 1
    expected = "shim has no signature that is of this program, and the firmware goes by 'Theirs', 'Mine' (db)"
    assert asked(KEYS, Loader("shim", bytes(changed)), GRUB) == expected


def test_one_of_two_signatures_is_enough_unless_the_other_is_revoked() -> None:
    both = shim(THEIR_LOADER, LOADER)
    for known in (MINE, THEIRS):
        assert asked(replace(KEYS, db=Signatures((known,))), both, GRUB) is None
    expected = "shim is signed under 'Theirs', which is revoked: it is in dbx"
    assert asked(replace(KEYS, dbx=Signatures((THEIRS,))), both, GRUB) == expected


@pytest.mark.parametrize(
    ("following", "words"),
    [
        (grub(), "grub is not signed, and the shim shim goes by 'Theirs', 'Mine', 'Ours' (shim, db or MOK)"),
        (
            grub(efiprogram.certificate("x", "Somebody")),
            "grub is signed under 'Somebody', and the shim shim goes by 'Theirs', 'Mine', 'Ours' (shim, db or MOK)",
        ),
        (grub(GRUB_SIGNER, sbat=b""), "grub tells no generation (it has no .sbat), and no shim starts such"),
        (
            grub(GRUB_SIGNER, sbat=b"grub,4,FSF\n"),
            "grub is revoked: it is generation 4 of grub, and the SBAT level asks for 5 at least (2025021800)",
        ),
        (Loader("grub", b"#!/bin/sh"), "grub is no EFI program"),
    ],
)
def test_a_next_stage_that_shim_does_not_start(following: Loader, words: str) -> None:
    assert asked(KEYS, shim(LOADER), following) == words


def test_what_lets_shim_start_a_next_stage() -> None:
    somebody = grub(efiprogram.certificate("x", "Somebody"))
    key = efiprogram.certificate("Somebody")
    assert asked(replace(KEYS, mok=Signatures((key,))), shim(LOADER), somebody) is None
    assert asked(replace(KEYS, mok=hashed(somebody)), shim(LOADER), somebody) is None
    assert asked(KEYS, shim(LOADER), grub(LOADER)) is None
    as_list = _list("a5c059a1-94e4-4aa7-87b5-ab155c2bf072", key.content)
    assert asked(KEYS, shim(LOADER, own=as_list), somebody) is None
    words = "grub is signed under 'Somebody', which is revoked: it is in dbx, shim or MOKX"
    assert asked(KEYS, shim(LOADER, own=as_list, revoked=as_list), somebody) == words
    assert asked(KEYS, shim(LOADER, own=b"neither"), grub(LOADER)) is None


def test_what_cannot_be_read_lets_nothing_start() -> None:
    reason = "its variables cannot be read: Input/output error"
    assert asked(Keys("unknown", reason=reason), shim(LOADER)) == f"nobody can tell what the firmware knows: {reason}"


def test_a_kernel_is_shims_to_judge_and_may_be_without_a_generation() -> None:
    signed, unsigned = (Loader("kernel", efiprogram.program({}, signers)) for signers in ((GRUB_SIGNER,), ()))
    assert asked(KEYS, shim(LOADER), GRUB, signed) is None
    words = "kernel is not signed, and the shim shim goes by 'Theirs', 'Mine', 'Ours' (shim, db or MOK)"
    assert asked(KEYS, shim(LOADER), GRUB, unsigned) == words
    outdated = Loader("kernel", efiprogram.program({".sbat": b"grub,1,\n"}, (GRUB_SIGNER,)))
    assert "kernel is revoked: it is generation 1 of grub" in str(asked(KEYS, shim(LOADER), GRUB, outdated))


def test_without_shim_the_firmware_decides_alone() -> None:
    assert asked(KEYS, grub(LOADER, sbat=b"")) is None
    assert asked(KEYS, GRUB) == "grub is signed under 'Ours', and the firmware goes by 'Theirs', 'Mine' (db)"


def test_the_key_in_a_real_shim() -> None:
    program = efiprogram.program({".vendor_cert": captured("shim.vendor_cert"), ".sbat": SBAT}, (LOADER,))
    words = (
        "grub is not signed, and the shim shim goes by 'Theirs', 'Mine', 'Debian Secure Boot CA' (shim, db or MOK)"
    )
    assert asked(KEYS, Loader("shim", program), grub()) == words


# Bytes that lie.


def test_no_bytes_lead_to_more_than_a_reason() -> None:
    """Programs with bytes changed, cut off and repeated: read, or refused with a reason."""
    whole = shim(LOADER, THEIR_LOADER).data
    chance = random.Random(28)
    for _ in range(1500):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(0x200) if chance.random() < 0.6 else chance.randrange(len(data))
            data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        data = data[: chance.randrange(len(data))] if chance.random() < 0.2 else data
        said = asked(KEYS, Loader("shim", bytes(data)), Loader("grub", bytes(data)))
        assert said is None or said.startswith(("shim", "grub"))


@pytest.mark.parametrize("read", [signatures, certificate, authenticode.signature, pe.program, der.elements])
def test_noise_is_refused_with_a_value_error(read: object) -> None:
    chance = random.Random(28)
    names = ("ovmf.db", "shim.2023.p7", "grub.p7")
    for number in range(600):
        data = bytearray(captured(names[number % 3]))
        for _ in range(1 + number % 4):
            data[chance.randrange(min(len(data), 300))] = chance.randrange(256)
        try:
            read(bytes(data[: chance.randrange(len(data))] if number % 5 == 0 else data))  # type: ignore[operator]
        except ValueError as error:
            assert str(error)


def test_few_bytes_are_not_hashed_many_times() -> None:
    data = bytearray(efiprogram.program({f".s{n}": b"x" * 64 for n in range(9)}))
    for number in range(10):
        struct.pack_into("<II", data, 0x58 + 240 + 40 * number + 16, len(data) - 0x400, 0x400)
    with pytest.raises(ValueError, match="whose sections contradict its size"):
        pe.program(bytes(data))


# The step.


DISK = BootDisk("/dev/vda", "bareon A", PC_UEFI)
OF_IMAGE = {PC_UEFI.signed_shim: shim(LOADER).data, PC_UEFI.signed_grub: GRUB.data}


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firmware with the keys above, and the truth of signatures."""
    monkeypatch.setattr(verification, "missing", lambda programs: [])
    monkeypatch.setattr(secure_boot, "read", lambda: KEYS)
    monkeypatch.setattr(authenticode, "verified", lambda *files: b"Mine" in Path(files[0]).read_bytes())


def _step(found: Mapping[str, bytes] | None, *, enabled: bool = True) -> verification.VerifyLoader:
    early = None if found is None else EarlyImage(found)
    layout = cases.plan_of(cases.load(cases.HERE / "cases/plan/secure-boot.yaml")).layout
    return verification.VerifyLoader("do_bootloader", "a", layout, (DISK,), enabled, early)


@pytest.mark.usefixtures("keys")
def test_before_the_first_write() -> None:
    good = {**OF_IMAGE, PC_UEFI.signed_grub: grub(LOADER).data}
    assert list(_step(good).preflight()) == []
    assert list(_step(None).preflight()) == []
    bad = {**good, PC_UEFI.signed_shim: shim(efiprogram.certificate("x", "Somebody")).data}
    with pytest.raises(UnsuitableNode) as caught:
        _step(bad).preflight()
    assert str(caught.value) == (
        "Secure Boot is on, and the node would not start: image 'a': /usr/lib/shim/shimx64.efi.signed is signed under"
        " 'Somebody', and the firmware goes by 'Theirs', 'Mine' (db); bring an image with other signed loaders, add a"
        " key to the firmware, or turn Secure Boot off in the firmware"
    )
    (warning,) = _step(bad, enabled=False).preflight()
    assert warning.startswith("Secure Boot is off; with it on, the node would not start: image 'a': /usr/lib/shim")
    plan = cases.plan_of(cases.load(cases.HERE / "cases/plan/secure-boot.yaml"))
    steps = (_step(None), _step(bad, enabled=False), _step(good))
    assert executor.preflight(replace(plan, steps=steps)) == [warning]


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("path", "words"),
    [
        (PC_UEFI.signed_grub, f"it has no {PC_UEFI.signed_grub}, and a GRUB that is put together on the node"),
        (PC_UEFI.signed_shim, f"{PC_UEFI.signed_grub} is signed under 'Ours', and the firmware goes by"),
    ],
)
def test_an_image_that_lacks_a_stage(path: str, words: str) -> None:
    with pytest.raises(UnsuitableNode, match=f"image 'a': {words}"):
        _step({x: data for x, data in OF_IMAGE.items() if x != path}).preflight()


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("shim_path", "grub_path"),
    [
        ("/boot/efi/EFI/fedora/shimx64.efi", "/boot/efi/EFI/fedora/grubx64.efi"),
        ("/usr/share/efi/x86_64/shim.efi", "/usr/share/efi/x86_64/grub.efi"),
        (
            "/usr/lib/efi/shim/16.1-5/EFI/fedora/shimx64.efi",
            "/usr/lib/efi/grub2/1:2.12-60.fc44/EFI/fedora/grubx64.efi",
        ),
    ],
)
def test_an_image_that_ships_its_loaders_elsewhere(shim_path: str, grub_path: str) -> None:
    good = {shim_path: shim(LOADER).data, grub_path: grub(LOADER).data}
    assert list(_step(good).preflight()) == []
    bad = {**good, shim_path: shim(efiprogram.certificate("x", "Somebody")).data}
    with pytest.raises(UnsuitableNode, match=f"image 'a': {shim_path} is signed under 'Somebody'"):
        _step(bad).preflight()


@pytest.mark.usefixtures("keys")
def test_a_grub_that_could_not_be_installed() -> None:
    of_nobody = efiprogram.program({".sbat": GRUB_SBAT}, (LOADER,))
    with pytest.raises(
        UnsuitableNode, match=r"grubx64\.efi\.signed names no folder of its own below EFI; one that is"
    ):
        _step({**OF_IMAGE, PC_UEFI.signed_grub: of_nobody}).preflight()


@pytest.mark.usefixtures("keys")
def test_without_openssl_a_run_with_secure_boot_off_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "missing", lambda programs: [*programs])
    expected = "openssl is not installed: what Secure Boot would start is not looked at"
    assert list(_step({}, enabled=False).preflight()) == [expected]
    assert _step({}, enabled=False).run(lambda done, total: None) == {}
    with pytest.raises(UnsuitableNode):
        _step({}).preflight()


def test_whom_secure_boot_concerns() -> None:
    assert [
        name
        for name in (
            "secure-boot",
            "secure-boot-off",
            "secure-boot-setup",
            "secure-boot-unknown",
            "uefi",
            "two-disks",
        )
        if verification.concerns(cases.node(name).secure_boot)
    ] == ["secure-boot", "secure-boot-off"]
    assert verification.concerns(SecureBootFacts("setup", db_hashes=1))
    assert verification.concerns(SecureBootFacts("enabled"))


@pytest.mark.usefixtures("keys")
def test_after_the_boot_loader_was_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def installed(disk: BootDisk, kernel: Loader | None) -> str | None:
        assert kernel == Loader("/boot/vmlinuz-6.1", b"kernel")
        return "on /dev/vda1, EFI/BOOT/BOOTX64.EFI is not signed"

    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-6.1").write_bytes(b"kernel")
    tree = Tree(str(tmp_path))
    monkeypatch.setattr(verification, "mounted_tree", lambda mounts, writing: contextlib.nullcontext(tree))
    monkeypatch.setattr(verification, "installed", installed)
    with pytest.raises(ActionFailed, match="would not start: image 'a': on /dev/vda1, EFI/BOOT/BOOTX64"):
        _step(None).run(lambda done, total: None)
    told = "image 'a': on /dev/vda1, EFI/BOOT/BOOTX64.EFI is not signed"
    expected = f"Secure Boot is off; with it on, the node would not start: {told}"
    assert _step(None, enabled=False).run(lambda done, total: None) == {"warnings": expected}
    assert caplog.messages == [expected]
