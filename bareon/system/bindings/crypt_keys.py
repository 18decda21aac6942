# SPDX-License-Identifier: Apache-2.0
"""Keys of encrypted devices in a deployed system, and what its initramfs needs to open them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bareon.errors import ActionFailed
from bareon.storage.kind import CryptDevice
from bareon.system import initramfs
from bareon.system.bindings import crypttab
from bareon.system.bindings.binding import Binding, Change, Result
from bareon.system.bindings.home import Home
from bareon.system.tree import Tree

FOLDER = "/etc/cryptsetup-keys.d"
MARK = "  # bareon"
"""How bareon's own line in a file of others ends."""

HOOK = "/etc/cryptsetup-initramfs/conf-hook"
UMASK = "/etc/initramfs-tools/conf.d/bareon-keys"
DRACUT = "/etc/dracut.conf.d/bareon-keys.conf"
_WRITTEN = "# Written by bareon: the initramfs has a key in it.\n"
#: What opens encrypted devices in an initramfs, and who makes that; without one of its files there is nothing to.
_OPENERS = {
    "update-initramfs": (("/usr/share/initramfs-tools/hooks/cryptroot",), "cryptsetup-initramfs"),
    "dracut": (
        tuple(f"/usr/lib/dracut/modules.d/{number}crypt/module-setup.sh" for number in (70, 90)),
        "the crypt module of dracut",
    ),
}
#: What opens by clevis in an initramfs, by who makes that, and after it: its folder, its name, and what brings it.
_CLEVIS = {
    "update-initramfs": ("/usr/share/initramfs-tools/hooks", "clevis", "clevis-initramfs"),
    "dracut": ("/usr/lib/dracut/modules.d", r"\d+clevis", "the clevis module of dracut"),
    "": ("/usr/lib/systemd/system", r"clevis-luks-askpass\.path", "clevis-systemd"),
}
_AT_START = (
    *("/usr/lib/systemd/systemd-cryptsetup", "/lib/systemd/systemd-cryptsetup", "/usr/bin/systemd-cryptsetup"),
    *("/lib/cryptsetup/cryptdisks-functions", "/usr/lib/cryptsetup/cryptdisks-functions"),
)


class CryptKeys(Binding):
    """Key files of the layout are written, for root alone to read; those that bareon wrote for others are removed.

    They are asked for now: no plan has them. A system that lacks what opens its devices is refused. Which ones were
    written for others is in bareon's own lines of crypttab, which must not be written anew before.
    """

    files = (f"{FOLDER}/*.key",)
    of_node = True

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        return Change(text)

    def apply(self, tree: Tree, home: Home, result: Result) -> None:
        wanted = home.layout.crypt_devices(home.image)
        _check(wanted, tree, home, result)
        for path in _forgotten(tree, home):
            if tree.has(path):
                tree.remove(path)
                result.stale.append(path)
                result.done.append(f"{path}: removed, as the system is given that key no more")
        for crypt in wanted:
            if crypt.key is None or crypt.key_file is None:
                continue
            key = crypt.key().decode(errors="surrogateescape")
            if tree.read(crypt.key_file) != key:
                result.stale.append(crypt.key_file)
            tree.write_private(crypt.key_file, key)
            result.done.append(f"{crypt.key_file}: written, by which {crypt.name} is opened")


class KeysInInitramfs(Binding):
    """Settings by which initramfs-tools and dracut put the key of the root file system into the initramfs.

    Without such a key bareon's own lines are taken out.
    """

    files = (HOOK, UMASK, DRACUT)
    copied = True

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        keys = [x.key_file for x in home.layout.crypt_devices(home.image) if _is_early(x) and x.key and x.key_file]
        if path == UMASK:
            return Change(f"{_WRITTEN}UMASK=0077\n" if keys else None)
        if path == DRACUT:
            return Change(f'{_WRITTEN}install_items+=" {" ".join(keys)} "\n' if keys else None)
        others = [line for line in (text or "").splitlines() if not line.endswith(MARK)]
        if not keys:
            return Change(text if text is None or len(others) == len(text.splitlines()) else _lines(others))
        return Change(_lines([*others, f'KEYFILE_PATTERN="{FOLDER}/*.key"{MARK}']))

    def apply(self, tree: Tree, home: Home, result: Result) -> None:
        program = initramfs.maker(tree)
        known = {"update-initramfs": (HOOK, UMASK), "dracut": (DRACUT,)}.get(program or "", ())
        for path in known:
            self.applied(path, tree, home, result)


def _forgotten(tree: Tree, home: Home) -> list[str]:
    """Key files that bareon wrote into a system for what it does not open by them any more."""
    text = tree.read(crypttab.PLACE) or ""
    mine = crypttab.written(text, home)
    fields = [line.split() for line in mine]
    written = {f"{FOLDER}/{line[0]}.key" for line in fields if line[2:3] == [f"{FOLDER}/{line[0]}.key"]}
    others = (line for line in text.split("\n") if line not in mine and not line.startswith("#"))
    in_use = {line.split()[2] for line in others if len(line.split()) > 2}
    in_use |= {x.key_file for x in home.layout.crypt_devices(home.image) if x.key_file}
    return sorted(written - in_use)


def _lines(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _is_early(crypt: CryptDevice) -> bool:
    return "initramfs" in crypt.options


def _check(wanted: tuple[CryptDevice, ...], tree: Tree, home: Home, result: Result) -> None:
    """See that the system can open its devices.

    :raises ActionFailed: when its initramfs cannot open that of its root file system.
    """
    early = [x.name for x in wanted if _is_early(x)]
    if early and initramfs.initial_ramdisks(tree):
        program = initramfs.maker(tree)
        files, package = _OPENERS.get(program or "", ((), "update-initramfs or dracut"))
        if not any(tree.is_file(x) for x in files):
            raise ActionFailed(
                f"image {home.image!r} would not come up: nothing in it puts into its initramfs what opens"
                f" {', '.join(early)}; it lacks {package}"
            )
        _check_pins([x for x in wanted if _is_early(x)], tree, home, _CLEVIS[str(program)])
    _check_pins([x for x in wanted if not _is_early(x)], tree, home, _CLEVIS[""])
    later = [x.name for x in wanted if not _is_early(x)]
    if later and not any(map(tree.is_file, _AT_START)):
        result.warnings.append(f"nothing in the image opens {', '.join(later)} when it starts: it lacks cryptsetup")


def _check_pins(wanted: Sequence[CryptDevice], tree: Tree, home: Home, place: tuple[str, str, str]) -> None:
    """See that clevis gets the passphrases of devices, which nobody knows.

    :raises ActionFailed: when it does not.
    """
    folder, pattern, package = place
    pins = {pin for x in wanted for pin in x.pins}
    if not pins:
        return
    lacking = [] if any(re.fullmatch(pattern, name) for name in tree.names(folder)) else [package]
    lacking += sorted(f"clevis-decrypt-{pin}" for pin in pins if not tree.is_file(f"/usr/bin/clevis-decrypt-{pin}"))
    if lacking:
        names = ", ".join(x.name for x in wanted if x.pins)
        raise ActionFailed(
            f"image {home.image!r} would not come up: nobody knows the key of {names}, and it lacks what asks"
            f" {' and '.join(sorted(pins))} for it: {', '.join(lacking)}"
        )
