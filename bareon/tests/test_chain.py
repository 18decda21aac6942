# SPDX-License-Identifier: Apache-2.0
"""Secure Boot with several images: whose shim and GRUB start all kernels, and what is said where none do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.boot import menu
from bareon.boot.chain import Brought, VerifyChain, chain, common
from bareon.boot.disks import BootDisk
from bareon.boot.menu import Entry
from bareon.boot.platform import PC_UEFI
from bareon.boot.secure_boot import Loader
from bareon.errors import ActionFailed, UnsuitableNode
from bareon.system.tree import Tree
from bareon.tests import efiprogram
from bareon.tests.earlyimage import EarlyImage
from bareon.tests.test_secure_boot import (
    GRUB_SBAT,
    GRUB_SIGNER,
    KEYS,
    LOADER,
    OURS,
    SBAT,
    by_issuer,
    captured,
    grub,
    hashed,
    shim,
)
from bareon.tools import authenticode, secure_boot
from bareon.tools.secure_boot import Keys
from bareon.tools.signature_list import Signatures
from bareon.tools.x509 import Certificate

DEBIAN = efiprogram.certificate("Debian Secure Boot Signer 2022", "Debian Secure Boot CA")
CANONICAL = efiprogram.certificate("Canonical Ltd. Secure Boot Signing", "Canonical Ltd. Master CA")
SHIM = Loader(PC_UEFI.signed_shim, shim(LOADER).data)
#: A shim with the certificate that Debian's has built in.
REAL = Loader(
    PC_UEFI.signed_shim,
    efiprogram.program({".vendor_cert": captured("shim.vendor_cert"), ".sbat": SBAT}, (LOADER,)),
)
GRUB = Loader(PC_UEFI.signed_grub, grub(GRUB_SIGNER).data)
GOES_BY = "and the shim /usr/lib/shim/shimx64.efi.signed goes by 'Theirs', 'Mine', 'Ours' (shim, db or MOK)"


def kernel(*signers: Certificate, version: str = "6.1", sections: Mapping[str, bytes] = {}) -> Loader:
    """A kernel that is signed by some."""
    return Loader(f"/boot/vmlinuz-{version}", efiprogram.program(sections, signers))


def asked(*images: Brought, keys: Keys = KEYS) -> tuple[str | None, tuple[str, ...]]:
    """Whose loaders would start the menu, and what is missing."""
    found = chain(keys, images, PC_UEFI, by_issuer)
    return found.image, found.missing


A = Brought("a", SHIM, GRUB, (kernel(GRUB_SIGNER),))
PLAIN = Brought("b", kernels=(kernel(GRUB_SIGNER),))


def test_one_image_with_loaders_is_enough() -> None:
    assert asked(PLAIN, A) == ("a", ())
    assert asked(Brought("b"), A) == ("a", ())
    assert asked(replace(A, image="b"), A) == ("b", ())


def test_loaders_of_the_one_that_starts_all_come_before_those_of_the_default() -> None:
    debians = Loader(PC_UEFI.signed_grub, grub(DEBIAN).data)
    default = Brought("a", SHIM, GRUB, (kernel(LOADER),))
    other = Brought("b", REAL, debians, (kernel(DEBIAN),))
    assert asked(default, other) == ("b", ())


NO_SHIM = f"ships no shim (such as {PC_UEFI.signed_shim})"
NO_GRUB = f"no signed GRUB (such as {PC_UEFI.signed_grub})"


@pytest.mark.parametrize(
    ("brought", "keys", "words"),
    [
        (Brought("a"), KEYS, f"image 'a' {NO_SHIM} and {NO_GRUB}"),
        (replace(A, grub=None), KEYS, f"image 'a' ships {NO_GRUB}"),
        (
            replace(A, shim=None),
            KEYS,
            f"image 'a' ships no shim beside {PC_UEFI.signed_grub} (such as {PC_UEFI.signed_shim})",
        ),
        (
            A,
            replace(KEYS, db=Signatures((OURS,))),
            f"image 'a' would not start: {PC_UEFI.signed_shim} is signed under 'Mine', and the firmware"
            " goes by 'Ours' (db)",
        ),
        (
            A,
            replace(KEYS, dbx=hashed(GRUB)),
            f"image 'a' would not start: {PC_UEFI.signed_grub} is revoked: its hash is in dbx, shim or MOKX",
        ),
        (
            A,
            replace(KEYS, sbat=("sbat,1,2099010100", "grub,6")),
            f"image 'a' would not start: {PC_UEFI.signed_grub} is revoked: it is generation 5 of grub, and the SBAT"
            " level asks for 6 at least (2099010100)",
        ),
        (
            replace(A, grub=Loader(PC_UEFI.signed_grub, grub(CANONICAL).data)),
            KEYS,
            f"image 'a' would not start: {PC_UEFI.signed_grub} is signed under 'Canonical Ltd. Master CA', {GOES_BY}",
        ),
    ],
)
def test_no_image_has_loaders_that_start(brought: Brought, keys: Keys, words: str) -> None:
    assert asked(brought, PLAIN, keys=keys) == (None, (words, f"image 'b' {NO_SHIM} and {NO_GRUB}"))


@pytest.mark.parametrize(
    ("kernels", "keys", "words"),
    [
        ((kernel(CANONICAL),), KEYS, f"/boot/vmlinuz-6.1 is signed under 'Canonical Ltd. Master CA', {GOES_BY}"),
        ((kernel(DEBIAN),), KEYS, f"/boot/vmlinuz-6.1 is signed under 'Debian Secure Boot CA', {GOES_BY}"),
        ((kernel(),), KEYS, f"/boot/vmlinuz-6.1 is not signed, {GOES_BY}"),
        (
            (kernel(GRUB_SIGNER, sections={"x": b"y"}),),
            replace(KEYS, dbx=hashed(kernel(sections={"x": b"y"}))),
            "/boot/vmlinuz-6.1 is revoked: its hash is in dbx, shim or MOKX",
        ),
        (
            (kernel(GRUB_SIGNER, sections={".sbat": b"linux,1,Linux\n"}),),
            replace(KEYS, sbat=("sbat,1,2099010100", "linux,2")),
            "/boot/vmlinuz-6.1 is revoked: it is generation 1 of linux, and the SBAT level asks for 2 at least"
            " (2099010100)",
        ),
        # Which of them boots is seen when the image is there; the newest is the one that is told of.
        ((kernel(CANONICAL), kernel(GRUB_SIGNER, version="5")), KEYS, None),
        (
            (kernel(CANONICAL), kernel(DEBIAN, version="5")),
            KEYS,
            f"/boot/vmlinuz-6.1 is signed under 'Can.*{GOES_BY}",
        ),
        ((Loader("/boot/vmlinuz-6.1", b"\x1f\x8b"),), KEYS, "/boot/vmlinuz-6.1 is no EFI program"),
    ],
)
def test_a_kernel_that_the_loaders_do_not_start(kernels: tuple[Loader, ...], keys: Keys, words: str | None) -> None:
    image, missing = asked(A, Brought("b", kernels=kernels), keys=keys)
    assert image == "a"
    if words is None:
        assert missing == ()
    else:
        (said,) = missing
        start, _, end = f"the kernel of image 'b': {words}".partition(".*")
        assert said.startswith(start)
        assert said.endswith(end)


def test_what_shim_and_the_owner_trust_starts_kernels() -> None:
    debians = Brought("b", kernels=(kernel(DEBIAN),))
    real = Brought("a", REAL, Loader(PC_UEFI.signed_grub, grub(DEBIAN).data), (kernel(DEBIAN),))
    assert asked(real, debians) == ("a", ())
    known = Signatures((efiprogram.certificate("Debian Secure Boot CA"),))
    for keys in (
        replace(KEYS, mok=known),
        replace(KEYS, db=Signatures((*KEYS.db.certificates, *known.certificates))),
    ):
        assert asked(A, debians, keys=keys) == ("a", ())


# The step.


def _files(release: str, *signers: Certificate) -> dict[str, bytes]:
    return {
        f"/boot/vmlinuz-{release}": kernel(*signers).data,
        f"/usr/lib/modules/{release}/modules.dep": b"",
    }


WITH_LOADERS = {
    PC_UEFI.signed_shim: SHIM.data,
    PC_UEFI.signed_grub: GRUB.data,
    **_files("6.12.1", GRUB_SIGNER),
}


@pytest.fixture
def _firmware(monkeypatch: pytest.MonkeyPatch) -> None:
    """A firmware with the keys of the tests of Secure Boot, and the truth of signatures."""
    trusted = (b"Mine", b"Ours")
    monkeypatch.setattr(secure_boot, "read", lambda: KEYS)
    monkeypatch.setattr(
        authenticode, "verified", lambda *files: any(x in Path(files[0]).read_bytes() for x in trusted)
    )


def _step(*images: Mapping[str, bytes] | None) -> VerifyChain:
    """The step for two images, of which those that are ``None`` cannot be asked."""
    early = {name: EarlyImage(files) for name, files in zip("ab", images, strict=True) if files is not None}
    return VerifyChain("do_bootloader", ("a", "b"), early, (BootDisk("/dev/vda", "bareon A", PC_UEFI),))


def _refused(a: Mapping[str, bytes], b: Mapping[str, bytes]) -> str:
    with pytest.raises(UnsuitableNode) as caught:
        _step(a, b).preflight()
    return str(caught.value)


@pytest.mark.usefixtures("_firmware")
def test_before_the_first_write_all_is_told_that_is_missing() -> None:
    plain = _files("6.1", GRUB_SIGNER)
    assert _refused(plain, plain) == (
        f"Secure Boot is on, and none of the images would start: image 'a' {NO_SHIM} and {NO_GRUB}; image 'b'"
        f" {NO_SHIM} and {NO_GRUB}; have one of the images bring a shim that the firmware starts and a GRUB that this"
        " shim starts, or turn Secure Boot off in the firmware"
    )
    assert _refused(_files("6.1", CANONICAL), WITH_LOADERS) == (
        "Secure Boot is on, and not all of the images would start: with the shim and the GRUB of image 'b',"
        f" the kernel of image 'a': /boot/vmlinuz-6.1 is signed under 'Canonical Ltd. Master CA', {GOES_BY}; bring"
        " kernels that are signed under one of these and not revoked, make the certificate of the others known to"
        " shim as the owner's (mokutil --import), or turn Secure Boot off in the firmware"
    )


@pytest.mark.usefixtures("_firmware")
def test_of_the_newest_kernels_one_that_starts_is_enough() -> None:
    both = {**_files("6.1", GRUB_SIGNER), **_files("6.12", CANONICAL), **_files("6.13-rc1", CANONICAL)}
    _step(both, WITH_LOADERS).preflight()
    assert "/boot/vmlinuz-6.12 is signed" in _refused({**both, **_files("6.1", CANONICAL)}, WITH_LOADERS)
    nameless = {**_files("6.1", CANONICAL), "/lib/modules/6.14/modules.dep": b"", "/boot/vmlinuz-lts": b"who knows"}
    _step(nameless, WITH_LOADERS).preflight()


@pytest.mark.usefixtures("_firmware")
def test_an_image_that_cannot_be_asked_may_have_what_is_missing() -> None:
    _step({}, None).preflight()
    _step(WITH_LOADERS, None).preflight()


# In their trees.


def _tree(place: Path, files: Mapping[str, bytes]) -> Tree:
    for path, content in files.items():
        file = place / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return Tree(str(place))


@pytest.mark.usefixtures("_firmware")
def test_the_loaders_that_are_installed(tmp_path: Path) -> None:
    trees = {"a": _tree(tmp_path / "a", _files("6.1", GRUB_SIGNER)), "b": _tree(tmp_path / "b", WITH_LOADERS)}
    kernels = {"a": "vmlinuz-6.1", "b": "vmlinuz-6.12.1"}
    found = common(trees, kernels, PC_UEFI)
    assert (found.folder, found.files["shimx64.efi"]) == ("debian", SHIM.data)
    _tree(tmp_path / "a", _files("6.1", CANONICAL))
    with pytest.raises(ActionFailed, match=r"the kernel of image 'a': /boot/vmlinuz-6\.1 is signed under 'Canonical"):
        common(trees, kernels, PC_UEFI)
    with pytest.raises(ActionFailed, match="none of the images would start: image 'a' ships no shim"):
        common(trees, {"a": "vmlinuz-6.1"}, PC_UEFI)


# The menu.


def test_a_signed_grub_is_told_of_no_modules_and_no_prefix() -> None:
    entry = Entry("a", "/boot/vmlinuz", None, "u-1", ("quiet",), ("btrfs",))
    own, found = (
        menu.configuration([entry], menu.once(["u-2"], signed=signed), signed=signed) for signed in (False, True)
    )
    assert ("insmod btrfs" in own, "insmod part_gpt" in own, "load_env --file $prefix/grubenv" in own) == (True,) * 3
    assert "insmod" not in found
    assert "prefix" not in found
    for line in (
        *("if [ -s ($root)/boot/grub2/grubenv ]; then", "  load_env --file ($root)/boot/grub2/grubenv next_entry"),
        *("  save_env --file ($root)/boot/grub2/grubenv next_entry", "set default=0"),
        *(
            "      save_env --file ($copy)/boot/grub2/grubenv next_entry",
            "  linux /boot/vmlinuz quiet ${bareon_words}",
        ),
    ):
        assert line in found.splitlines()


@pytest.mark.usefixtures("_firmware")
def test_a_grub_without_a_folder_of_its_own_is_none() -> None:
    nameless = efiprogram.program({".sbat": GRUB_SBAT}, (GRUB_SIGNER,))
    assert f"image 'a' ships {NO_GRUB};" in _refused({**WITH_LOADERS, PC_UEFI.signed_grub: nameless}, {})
