# SPDX-License-Identifier: Apache-2.0
"""Options of mkfs: those that an input may give, and how features are turned off. What is allowed is a table.

Left out is what bareon decides itself (UUID, label, the kind of FAT), what names files or other devices, and what
only prints. An item of ``mkfs_options`` is one option as on the command line: ``-m bigtime=1,rmapbt=0`` or ``-K``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bareon.storage.reader import FEATURES, Feature, Version

_NUMBER = r"[0-9]{1,12}"
_SIZE = r"[0-9]{1,12}[kmg]?"
_FLAG = r"[01]"


@dataclass(frozen=True)
class Option:
    """An option of an mkfs. ``value`` is a pattern for all of what it takes, empty for nothing.

    Else it takes a list with commas of ``words``, each with the pattern of what follows its ``=``, empty for nothing.
    Of a ``switch`` the words are features, which a ``^`` turns off.
    """

    value: str = ""
    words: Mapping[str, str] | None = None
    switch: bool = False

    def refusal(self, value: str) -> str | None:
        """Why it does not take a value; ``None`` if it does."""
        if self.words is None:
            return None if re.fullmatch(self.value, value) else f"{value!r} is no value for it"
        for item in value.split(","):
            name, equals, given = item.partition("=")
            name = name.removeprefix("^") if self.switch else name
            if name not in self.words:
                return f"{name!r} is not allowed there; allowed: {', '.join(sorted(self.words))}"
            pattern = self.words[name]
            if bool(equals) != bool(pattern) or not re.fullmatch(pattern, given):
                return f"{item!r} has no value that {name} takes"
        return None


def _features(*names: str) -> Option:
    return Option(words=dict.fromkeys(names, ""), switch=True)


_EXT = {
    "-b": Option(r"1024|2048|4096"),
    "-e": Option(r"continue|remount-ro|panic"),
    "-i": Option(_NUMBER),
    "-I": Option(r"128|256|512|1024"),
    "-j": Option(),
    "-J": Option(words={"size": _NUMBER, "fast_commit_size": _NUMBER}),
    "-m": Option(r"[0-4]?[0-9](\.[0-9]{1,3})?|50"),
    "-N": Option(_NUMBER),
    "-T": Option(r"[a-z0-9_]{1,32}"),
    "-E": Option(
        words={
            "stride": _NUMBER,
            "stripe_width": _NUMBER,
            "resize": _SIZE,
            "packed_meta_blocks": _FLAG,
            "lazy_itable_init": _FLAG,
            "lazy_journal_init": _FLAG,
            "discard": "",
            "nodiscard": "",
        }
    ),
    "-O": _features(
        *("64bit", "bigalloc", "casefold", "dir_index", "dir_nlink", "ea_inode", "encrypt", "ext_attr", "extent"),
        *("extra_isize", "fast_commit", "filetype", "flex_bg", "has_journal", "huge_file", "inline_data"),
        *("large_dir", "large_file", "metadata_csum", "metadata_csum_seed", "orphan_file", "project", "quota"),
        *("resize_inode", "sparse_super", "sparse_super2", "stable_inodes", "uninit_bg", "verity"),
    ),
}

_PROFILE = r"single|dup"

ALLOWED: dict[str, dict[str, Option]] = {
    "ext2": _EXT,
    "ext3": _EXT,
    "ext4": _EXT,
    "xfs": {
        "-b": Option(words={"size": _SIZE}),
        "-d": Option(
            words={
                **dict.fromkeys(("agcount", "sunit", "swidth", "sw"), _NUMBER),
                **dict.fromkeys(("agsize", "su"), _SIZE),
                "noalign": "",
            }
        ),
        "-i": Option(
            words={
                **dict.fromkeys(("sparse", "nrext64", "exchange"), _FLAG),
                **dict.fromkeys(("size", "maxpct", "perblock"), _NUMBER),
            }
        ),
        "-K": Option(),
        "-l": Option(words={"size": _SIZE, "su": _SIZE, "sunit": _NUMBER, "lazy-count": _FLAG}),
        "-m": Option(words=dict.fromkeys(("bigtime", "finobt", "inobtcount", "reflink", "rmapbt"), _FLAG)),
        "-n": Option(words={"size": _SIZE, "parent": _FLAG}),
        "-s": Option(words={"size": _SIZE}),
    },
    "btrfs": {
        "-d": Option(_PROFILE),
        "-K": Option(),
        "-m": Option(_PROFILE),
        "-M": Option(),
        "-n": Option(_SIZE),
        "-O": _features("block-group-tree", "extref", "mixed-bg", "no-holes", "quota", "skinny-metadata", "squota"),
        "-R": _features("free-space-tree", "quota"),
        "-s": Option(_SIZE),
        "--checksum": Option(r"crc32c|xxhash|sha256|blake2"),
    },
    "vfat": {
        "-a": Option(),
        "-f": Option(r"[12]"),
        "-r": Option(_NUMBER),
        "-R": Option(_NUMBER),
        "-s": Option(r"1|2|4|8|16|32|64|128"),
    },
}
"""The options that may be given, by the type of the file system. A swap area has none."""


def refusals(kind: str, given: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The items of ``mkfs_options`` that are not allowed: their numbers, and why."""
    allowed = ALLOWED.get(kind, {})
    seen: set[str] = set()
    for number, item in enumerate(given):
        option, value = _parts(item)
        if option not in allowed:
            listed = ", ".join(sorted(allowed)) or "none"
            yield number, f"{option} is not allowed for {kind}; allowed: {listed}"
        elif reason := allowed[option].refusal(value):
            yield number, f"{option}: {reason}"
        elif option in seen:
            yield number, f"{option} is there twice: give it once, with commas between its words"
        seen.add(option)


def _parts(item: str) -> tuple[str, str]:
    option, _, value = item.partition(" ")
    return option, value.strip()


def named(given: Iterable[str]) -> dict[str, str]:
    """What options name, by its name: ``0`` or ``1`` for a feature, the value for anything else."""
    found = {}
    for item in given:
        _, value = _parts(item)
        for word in filter(None, value.split(",")):
            name, equals, set_to = word.removeprefix("^").partition("=")
            found[name] = set_to if equals else str(int(not word.startswith("^")))
    return found


def left_off(features: Iterable[Feature], given: Sequence[str]) -> tuple[Feature, ...]:
    """Those of some features that options leave to bareon."""
    told = named(given)
    return tuple(x for x in features if x.name not in told)


def turned_on(features: Iterable[Feature], given: Sequence[str]) -> tuple[Feature, ...]:
    """Those of some features that options turn on."""
    told = named(given)
    return tuple(x for x in features if told.get(x.name) == "1")


def arguments(kind: str, without: Iterable[str], given: Sequence[str], version: Version | None) -> list[str]:
    """The arguments by which an mkfs leaves out features and does what options say.

    :param without: names of features.
    :param version: of the mkfs, which is not told of what it does not know; ``None`` where that is not known.
    """
    off = [x for x in FEATURES.get(kind, ()) if x.name in without and (version is None or version >= x.mkfs)]
    words: dict[str, list[str]] = {}
    for feature in off:
        word = f"{feature.name}=0" if kind == "xfs" else f"^{feature.name}"
        words.setdefault(feature.option, []).append(word)
    for item in given:
        option, value = _parts(item)
        # mke2fs takes the last of several -O alone.
        words.setdefault(option, []).extend([value] if value else [])
    return [part for option, values in words.items() for part in (option, *([",".join(values)] if values else []))]
