# SPDX-License-Identifier: Apache-2.0
"""Trees of files from an rsync daemon: rsync(1)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bareon.errors import CommandError
from bareon.run import Command, run

PROGRAMS = ("rsync",)
CONNECT_TIMEOUT = 20  # seconds
IDLE_TIMEOUT = 300  # seconds without any byte in either direction
_SHOWN = 5  # lines of what rsync says

# Exit codes from rsync(1).
STARTING = 5
FILE_IO = 11
PARTIAL = 23
VANISHED = 24
_TRANSIENT = (10, 12, 30, 35)

# A daemon, or whoever stands before it, says "later" in words of its own, with the exit code of a refusal.
_LATER = re.compile(r"try again|max connections|too many|busy|temporar|did not see server greeting", re.IGNORECASE)
# An answer for good, though with the exit code of a broken connection: of the resolver, and of a proxy; or of the
# daemon, about a module whose name may have such words.
_NEVER = re.compile(
    r"@ERROR: (Unknown module|access denied|auth failed)"
    r"|getaddrinfo: .*(not known|No address associated|not supported)"
    r"|bad response from proxy.* 4(?!08|29)[0-9][0-9]\b"
)
# What the side that writes complains of; not all of it is marked as such.
# Of a line of progress: bytes and percent, and files done. More digits than a size has are none.
_FIGURES, _FILES = re.compile(r"[0-9]{1,19} [0-9]{1,3}%"), re.compile(r"\(xfr#([0-9]{1,19}),")
_IN_THE_WAY = "could not make way for "
_HERE = ("rsync: [receiver]", "rsync: [generator]", _IN_THE_WAY)

# What a user may ask of rsync. Whatever else it can do runs programs, reads or writes elsewhere, follows links out of
# the target, or changes the output that bareon reads.
ALLOWED_LETTERS = "aAcDEglHnNoOJprStuUWxXz"
ALLOWED = (
    "acls", "archive", "atimes", "checksum", "compress", "crtimes", "delete", "delete-after", "delete-before",
    "delete-delay", "delete-during", "devices", "dry-run", "executability", "force", "group", "hard-links",
    "ignore-times", "inplace", "links", "numeric-ids", "omit-dir-times", "omit-link-times", "one-file-system",
    "open-noatime", "owner", "perms", "preallocate", "recursive", "size-only", "sparse", "specials", "times",
    "update", "whole-file", "xattrs",
)  # fmt: skip
ALLOWED_WITH_VALUE = (
    "block-size", "bwlimit", "checksum-choice", "compress-choice", "compress-level", "contimeout", "exclude",
    "include", "modify-window", "skip-compress", "timeout",
)  # fmt: skip
# Of these 0 is "for ever".
_SECONDS = re.compile("--(contimeout|timeout)=0*([1-9][0-9]{0,4})")


def joined(flags: Sequence[str]) -> tuple[str, ...]:
    """The same options, each value behind its option with ``=``, where it followed with a blank.

    What begins with ``-`` is taken for the next option, though rsync would take it for a value.
    """
    found: list[str] = []
    for flag in flags:
        if found and found[-1].removeprefix("--") in ALLOWED_WITH_VALUE and not flag.startswith("-"):
            found[-1] += f"={flag}"
        else:
            found.append(flag)
    return tuple(found)


def refused(flags: Sequence[str]) -> list[str]:
    """Those of ``flags``, as :func:`joined` gives them, that bareon does not pass on."""
    return [flag for flag in flags if not _allowed(flag)]


def changes_nothing(flags: Sequence[str]) -> bool:
    """True if these options ask for a trial without changes."""
    return any(flag == "--dry-run" or (not flag.startswith("--") and "n" in flag) for flag in flags)


def _allowed(flag: str) -> bool:
    if not flag.startswith("--"):
        return flag[:1] == "-" and len(flag) > 1 and set(flag[1:]) <= set(ALLOWED_LETTERS)
    name, equals, value = flag[2:].partition("=")
    if name in ("contimeout", "timeout"):
        return _SECONDS.fullmatch(flag) is not None
    if equals:
        return name in ALLOWED_WITH_VALUE and value != ""
    return name.removeprefix("no-") in ALLOWED and name != "no-dry-run"


def literal(name: str) -> str:
    """A name as a pattern, or as a path that the daemon may take for one, that means just this name."""
    return re.sub(r"([*?\[\\])", r"\\\1", name) if set(name) & set("*?[") else name


class Entry(NamedTuple):
    """A file, folder or the like that the server would send.

    ``path`` has no slash at its ends, and is empty for the top folder. ``kind`` is a letter: ``f`` file, ``d``
    folder, ``L`` symbolic link, ``D`` device, ``S`` socket or fifo. ``size`` is in bytes, ``owner`` the numbers of
    user and group, as in ``0:0``. ``link`` is what a symbolic link says, ``same`` another path of the same
    hard-linked file.
    """

    path: str
    kind: str
    size: int
    owner: str
    link: str | None = None
    same: str | None = None


def listing(url: str, flags: Sequence[str], empty: str, take: Callable[[Entry], None]) -> None:
    """Tell ``take`` of everything the server would send, without transferring it.

    :param empty: an empty folder to compare with, so that everything counts as new.
    :raises CommandError: when the server cannot be reached or refuses.
    """

    def read(line: str) -> None:
        if (entry := _entry(line)) is not None:
            take(entry)

    run(
        ["rsync", *flags, "--dry-run", "--out-format=%i\t%l\t%U:%G\t%n\t%L", *_limits(flags), url, f"{empty}/"],
        timeout=1800.0,
        on_output=read,
    )


def _entry(line: str) -> Entry | None:
    change, *rest = line.split("\t")
    if len(change) < 2 or len(rest) < 4 or not rest[0].isdigit():
        return None  # a message of the daemon's
    size, owner, *names = rest
    # rsync leaves tabs in names as they are. Where there are more than ours, it is the name that has them.
    *parts, more = names
    path, kind = _plain("\t".join(parts)), change[1]
    path = "" if path == "./" else path.rstrip("/")
    if more.startswith(" => "):
        return Entry(path, kind, int(size), owner, same=_plain(more[4:]))
    return Entry(path, kind, int(size), owner, link=_plain(more[4:]) if more.startswith(" -> ") else None)


def _plain(name: str) -> str:
    """A name as it is, where rsync wrote some of its bytes as ``\\#ooo``."""
    if "\\#" in name:
        octal = re.sub(rb"\\#([0-7]{3})", lambda found: bytes((int(found[1], 8),)), os.fsencode(name))
        name = os.fsdecode(octal)
    return name


class Progress:
    """Figures of ``--info=progress2``: ``bytes`` so far, those of the ``total`` where known, and ``files`` done."""

    def __init__(self) -> None:
        self.bytes = 0
        self.total: int | None = None
        self.files = 0

    def read(self, line: str) -> tuple[int, int | None]:
        """Take in a line of output such as ``1238099  95%  146.38kB/s  0:00:08 (xfr#5, to-chk=0/396)``.

        :returns: bytes so far and in all.
        """
        words = line.split()
        if len(words) > 1 and _FIGURES.fullmatch(" ".join(words[:2])):
            self.bytes = int(words[0])
            # The percentage is of what rsync knows of so far: until it has looked at every folder it is no total.
            percent = int(words[1][:-1])
            self.total = self.bytes * 100 // percent if percent and "to-chk" in line else None
            self.files = next((int(x[1]) for x in map(_FILES.fullmatch, words) if x), self.files)
        return self.bytes, self.total


def some(url: str, flags: Sequence[str], paths: Sequence[str], largest: int, target: str) -> None:
    """Bring those of ``paths`` that are there, files or links as they are, into the folder ``target``.

    :param paths: absolute, in the tree at ``url``.
    :param flags: options that come before, such as what is left out.
    :param largest: bytes of a file; larger ones do not come.
    :raises CommandError: when the server cannot be reached or refuses.
    """
    named = dict.fromkeys(part for path in paths for part in (*_folders(path), path))
    run(
        [
            *("rsync", *flags, "--recursive", "--links", f"--max-size={largest}"),
            *(f"--include={literal(x)}" for x in named),
            *("--exclude=*", *_limits(flags), url, f"{target}/"),
        ],
        timeout=1800.0,
    )


def contents(url: str, flags: Sequence[str], paths: Sequence[str], empty: str, take: Callable[[Entry], None]) -> None:
    """Tell ``take`` of what lies in some folders of the tree at ``url``, and of the folders on the way to them.

    :param paths: absolute, in the tree at ``url``; what is a link on the way is not followed.
    :param flags: options that come before, such as what is left out.
    :param empty: an empty folder to compare with.
    :raises CommandError: when the server cannot be reached or refuses.
    """
    named = dict.fromkeys(part for path in paths for part in (*_folders(path), f"{path}/"))
    wanted = [f"--include={literal(x)}" for x in named] + [f"--include={literal(x)}/*" for x in paths]
    listing(url, [*flags, "--recursive", "--links", *wanted, "--exclude=*"], empty, take)


def _folders(path: str) -> list[str]:
    """The folders on the way to a path, from the top, each with a slash at its end."""
    parts = path.strip("/").split("/")[:-1]
    return ["/" + "/".join(parts[: n + 1]) + "/" for n in range(len(parts))]


def copy(url: str, flags: Sequence[str], target: str, output: Callable[[str], None]) -> Command:
    """Bring the tree at ``url`` into the folder ``target``; ``output`` is told each line, for :class:`Progress`.

    :raises CommandError: with rsync's exit code.
    """
    return run(
        [
            "rsync",
            *flags,
            "--info=progress2",
            "--no-human-readable",
            "--outbuf=Line",
            *_limits(flags),
            url,
            f"{target}/",
        ],
        timeout=None,
        on_output=output,
    )


def reason(error: CommandError) -> str:
    """The reason for rsync's failure: its messages, less the one that only repeats the exit code."""
    lines = [line.strip() for line in error.stderr.splitlines()]
    telling = [line for line in lines if line and not line.startswith("rsync error:")]
    more = [f"and {len(telling) - _SHOWN} more like these"] if len(telling) > _SHOWN else []
    return "; ".join(telling[:_SHOWN] + more) or str(error)


def culprit(error: CommandError) -> str | None:
    """Who failed, where it was neither the server nor this node, in words to put before the reason."""
    said = error.stderr
    if "getaddrinfo: " in said:
        return "the resolver"
    if "bad response from proxy" in said or (os.environ.get("RSYNC_PROXY") and "failed to connect to" in said):
        return "the proxy that RSYNC_PROXY names"
    if "@ERROR: auth failed" in said:
        return "the credentials, user in the URL and RSYNC_PASSWORD in the environment"
    return None


def is_transient(error: CommandError) -> bool:
    """True for a failure that another attempt may mend: a broken connection, or an answer that says "later"."""
    if _NEVER.search(error.stderr):
        return False
    return error.code in _TRANSIENT or (error.code == STARTING and _LATER.search(error.stderr) is not None)


def is_full(error: CommandError) -> bool:
    """True where the daemon serves as many others as it may, by ``max connections`` of rsyncd.conf(5)."""
    return error.code == STARTING and "@ERROR: max connections" in error.stderr


def is_local(error: CommandError) -> bool:
    """True for a failure on this side: files could not be written here, and all could be read on the server."""
    lines = error.stderr.splitlines()
    here = any(line.startswith(_HERE) for line in lines)
    return error.code in (FILE_IO, PARTIAL) and here and not any(line.startswith("rsync: [sender]") for line in lines)


def is_in_the_way(error: CommandError) -> bool:
    """True if a folder with something in it, or a mount point, is where the server has something else."""
    return error.code == PARTIAL and any(line.startswith(_IN_THE_WAY) for line in error.stderr.splitlines())


def _limits(flags: Sequence[str] = ()) -> list[str]:
    """Time limits, as far as these options have none."""
    usual = (("--contimeout=", CONNECT_TIMEOUT), ("--timeout=", IDLE_TIMEOUT))
    return [f"{name}{seconds}" for name, seconds in usual if not any(x.startswith(name) for x in flags)]
