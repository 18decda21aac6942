# SPDX-License-Identifier: Apache-2.0
"""GRUB's menu: grub.cfg and the environment block, for systems whose own ``grub-mkconfig`` does not write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bareon.boot.entries.entry import BootEntry
from bareon.boot.grub_script import quoted, word, words

FOLDER = "/boot/grub2"
"""That of the menu on a multiboot partition."""

TRIAL = ("panic=10", "rd.shell=0", "rd.emergency=reboot", "systemd.watchdog_sec=60")
"""What a kernel is told besides where the image is sent back unless it is confirmed.

A panic, an initramfs without its root (of initramfs-tools, which takes ``panic`` for itself too, and of dracut) and,
where there is a watchdog, a system that hangs restart then.
"""
_TRIAL = "bareon_words"


def once(copies: Sequence[str] = (), *, signed: bool = False) -> list[str]:
    """The lines of ``grub.cfg`` that boot the entry which was chosen for one boot.

    It is forgotten before it boots, so that a power cycle leaves a system that hangs. Where it cannot be forgotten it
    does not boot. None of the lines looks like "set default=N", which people and programs edit.

    :param copies: the UUIDs of the partitions with copies of the menu, where the choice is forgotten too: the next
        boot may be from another disk.
    :param signed: GRUB is a signed one, whose prefix is on the EFI system partition and which loads no modules.
    """
    file = f"{f'($root){FOLDER}' if signed else '$prefix'}/grubenv"
    everywhere = [
        f"  for uuid in {' '.join(map(word, copies))}; do",
        "    if search --no-floppy --fs-uuid --set=copy $uuid; then",
        f"      save_env --file ($copy){FOLDER}/grubenv next_entry",
        "    fi",
        "  done",
    ]
    return [
        *([] if signed else ["insmod ext2"]),
        f"if [ -s {file} ]; then",
        f"  load_env --file {file} next_entry bareon_trial",
        "fi",
        'if [ "${next_entry}" ]; then',
        '  chosen="${next_entry}"',
        "  next_entry=",
        f"  save_env --file {file} next_entry",
        *(everywhere if copies else []),
        f"  load_env --file {file} next_entry",
        '  if [ -z "${next_entry}" ]; then',
        # One whose kernel cannot be loaded must not keep the node at the menu.
        '    fallback="${default}"',
        '    default="${chosen}"',
        '    if [ "${bareon_trial}" ]; then',
        f"      {_TRIAL}={word(' '.join(TRIAL))}",
        "    fi",
        "  fi",
        "fi",
    ]


def environment() -> str:
    """An empty environment block, in which GRUB itself may write at boot; it has a fixed size."""
    return "# GRUB Environment Block\n".ljust(1024, "#")


@dataclass(frozen=True)
class Entry:
    """A menu entry. ``uuid`` is that of the file system with the kernel, which GRUB reads by ``modules``."""

    title: str
    kernel: str
    initrd: str | None
    uuid: str
    arguments: tuple[str, ...]
    modules: tuple[str, ...] = ()

    def called(self, title: str) -> Entry:
        """The same with another title."""
        return replace(self, title=title)

    def read(self, source: str) -> BootEntry:
        """What a boot loader reads of it in ``source``."""
        initrds = (self.initrd,) if self.initrd else ()
        return BootEntry(self.title, source, self.kernel, initrds, self.arguments, self.uuid, self.title)


def configuration(
    entries: Sequence[Entry],
    head: Sequence[str] = (),
    *,
    default: int = 0,
    timeout: int = 3,
    older: Mapping[int, Entry] | None = None,
    signed: bool = False,
) -> str:
    """A whole ``grub.cfg`` that needs nothing of the systems it starts; ``head`` are lines before the entries.

    :param older: entries behind all others, by the number of the one that starts a newer kernel of the same system.
        ``bareon-boot refresh`` knows them by the line before.
    :param signed: GRUB is a signed one, with all modules in it that it can have.
    """
    lines = ["# Written by bareon. Entries are counted from 0; the number in the next line is the one that boots."]
    lines += [f"set default={default}", f"set timeout={timeout}", *([] if signed else ["insmod part_gpt"]), *head]
    marked = [("", x) for x in entries]
    marked += [(f"# An older kernel of entry {n}.", x) for n, x in sorted((older or {}).items())]
    for mark, entry in marked:
        lines += ["", *filter(None, [mark]), *written(entry, signed=signed)]
    return "\n".join(lines) + "\n"


def written(entry: Entry, *, signed: bool = False) -> list[str]:
    """The lines of an entry in ``grub.cfg``."""
    return [
        f"menuentry {quoted(entry.title)} {{",
        *(f"  insmod {module}" for module in entry.modules if not signed),
        f"  search --no-floppy --fs-uuid --set=root {word(entry.uuid)}",
        # Without quotes the variable is as many words as it holds, most often none.
        f"  {words(['linux', entry.kernel, *entry.arguments])} ${{{_TRIAL}}}",
        *(["  " + words(["initrd", entry.initrd])] if entry.initrd else []),
        "}",
    ]


def terminal(settings: Mapping[str, str]) -> list[str]:
    """The lines of ``grub.cfg`` that put the menu onto the image's serial console; none where it has none."""
    both = settings.get("GRUB_TERMINAL", "")
    used = {x: settings.get(f"GRUB_TERMINAL_{x.upper()}", "") or both for x in ("input", "output")}
    if not any("serial" in value.split() for value in used.values()):
        return []
    command = settings.get("GRUB_SERIAL_COMMAND", "serial")
    if command.split()[:1] != ["serial"]:
        return []
    lines = [command.split(), *([f"terminal_{x}", *value.split()] for x, value in used.items() if value)]
    return [words(line) for line in lines]
