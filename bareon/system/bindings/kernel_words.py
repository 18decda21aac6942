# SPDX-License-Identifier: Apache-2.0
"""Words of ``/etc/default/grub`` that name devices: a kernel or an initramfs would wait for them."""

from __future__ import annotations

import re
from collections.abc import Callable

from bareon.system.bindings.binding import TAKEN_OUT, Binding, Change, shown
from bareon.system.bindings.home import Home, normal
from bareon.system.shell import LONGEST, statements

_PARAMETERS = re.compile(r"\s*(?:export\s+)?GRUB_CMDLINE_[A-Z_]+\+?=.*", re.DOTALL)
_DEVICE = re.compile(r"\s*(?:export\s+)?GRUB_(DEVICE(?:_BOOT)?|DEVICE(?:_BOOT)?_UUID|FORCE_PARTUUID)=(.*)")
_BY_NAME = re.compile(r"\s*(?:export\s+)?GRUB_DISABLE_LINUX_UUID=[\"']?true[\"']?\s*")
OWN = "  # bareon"
"""How bareon's own line in ``/etc/default/grub`` ends, with the parameters of the document."""

#: What the value of a word names, in words of fstab(5).
_WORDS: dict[str, Callable[[str], str]] = {
    "root": str,
    "resume": str,
    "rd.md.uuid": lambda value: f"MD={value}",
    "rd.lvm.lv": lambda value: f"/dev/{value}",
    "rd.lvm.vg": lambda value: f"VG={value}",
    "rd.luks.uuid": lambda value: f"UUID={value.removeprefix('luks-')}",
    "rd.luks.name": lambda value: f"UUID={value.partition('=')[0]}",
    "rd.luks.key": str,
    "luks.uuid": lambda value: f"UUID={value.removeprefix('luks-')}",
    "cryptdevice": lambda value: value.partition(":")[0],
    "mount.usr": str,
    "usr": str,
}
# Not what is made of variables and commands.
_WORD = re.compile(rf"(?<![^\s\"'=])({'|'.join(map(re.escape, _WORDS))})=([^\s\"'$`\\]+)(?![^\s\"'])")
_SUBVOLUME = re.compile(r"(?<![^\s\"'=])(rootflags=)(?=\S*subvol)([^\s\"'$`\\]+)(?![^\s\"'])")


class KernelWords(Binding):
    """Words that name what the node lacks are taken out; ``resume=`` becomes that of the layout's swap area.

    On a kept root too: a boot that waits for what is not there is nobody's wish.
    """

    files = ("/etc/default/grub", "/etc/default/grub.d/*.cfg")

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        if text is None:
            return Change(None)
        lines, done, warnings = [], [], []
        for line in (statement.text for statement in statements(text)):
            if len(line) > LONGEST:
                pass  # words may hide in words
            elif _PARAMETERS.fullmatch(line) and not line.endswith(OWN):
                line, removed = without_strangers(line, home)
                done += [f"{path}: {shown(x)} was taken out: that is not of this node" for x in removed]
            elif (found := _DEVICE.fullmatch(line)) and home.lacks(_named(found[1], found[2].strip())):
                done.append(f"{path}: {shown(line)} was taken out, since the node lacks that")
                line = TAKEN_OUT + line
            elif _BY_NAME.fullmatch(line):
                warnings.append(f"{path}: by {shown(line)} root has the name that its disk has in the ramdisk")
            lines.append(line)
        return Change("\n".join(lines), tuple(done), tuple(warnings))


def _named(setting: str, value: str) -> str:
    tag = {"FORCE_PARTUUID": "PARTUUID="}.get(setting, "UUID=" if setting.endswith("_UUID") else "")
    return tag + value.strip("\"'")


def named_by_words(line: str) -> list[str]:
    """What the words of a kernel's command line name, in words of fstab(5)."""
    return [_WORDS[word](value) for word, value in _WORD.findall(line[:LONGEST])]


def without_strangers(line: str, home: Home) -> tuple[str, list[str]]:
    """A line without the words that name what the node lacks, and these words."""
    removed: list[str] = []

    def judged(word: re.Match[str]) -> str:
        named = _WORDS[word[1]](word[2])
        # The last root= counts, and it is not bareon's: another device of that name would do as much harm as none.
        another = word[1] == "root" and normal(named) not in home.root
        # dracut takes the beginning of a UUID for all of it.
        begun = word[1] == "rd.luks.uuid" and home.knows_beginning(named)
        if not another and (begun or not home.lacks(named)):
            return word[0]
        removed.append(word[0])
        return f"resume=UUID={home.swap.uuid}" if word[1] == "resume" and home.swap else ""

    def flags(word: re.Match[str]) -> str:
        if home.subvolume and {f"subvol={x}{home.subvolume}" for x in ("", "/")} & set(word[2].split(",")):
            return word[0]
        removed.append(word[0])
        left = [x for x in word[2].split(",") if not x.startswith(("subvol=", "subvolid="))]
        return word[1] + ",".join(left) if left else ""

    changed = _WORD.sub(judged, line)
    if not home.may_have_subvolumes:
        changed = _SUBVOLUME.sub(flags, changed)
    if any(word.startswith("resume=") for word in removed):
        changed = re.sub(r"(?<![^\s\"'=])resume_offset=\d+", "", changed)
    if not removed:
        return line, []
    # What is left are gaps: one space is enough between words, none beside a quote where nothing stands before.
    start, equals, value = changed.partition("=")
    value = re.sub(r"[ \t]+", " ", value)
    gap = r" ([\"'])$" if start.endswith("+") else r"^([\"']) | ([\"'])$"
    return start + equals + re.sub(gap, lambda x: "".join(filter(None, x.groups())), value), removed
