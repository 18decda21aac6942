# SPDX-License-Identifier: Apache-2.0
"""Trees of files from an rsync daemon: rsync(1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bareon.errors import CommandError
from bareon.run import Command, run

PROGRAMS = ("rsync",)
CONNECT_TIMEOUT = 20  # seconds
IDLE_TIMEOUT = 300  # seconds without any byte in either direction
_SHOWN = 5  # lines of what rsync says

# Exit codes from rsync(1).
FILE_IO = 11
PARTIAL = 23
VANISHED = 24
TRANSIENT = (10, 12, 30, 35)

# What a user may ask of rsync. Whatever else it can do runs programs, reads or writes elsewhere, follows links out of
# the target, or changes the output that bareon reads.
ALLOWED_LETTERS = "aAcDEglHNoOJprStuUWxXz"
ALLOWED = (
    "acls", "archive", "atimes", "checksum", "compress", "crtimes", "delete", "delete-after", "delete-before",
    "delete-delay", "delete-during", "devices", "executability", "force", "group", "hard-links",
    "ignore-times", "inplace", "links", "numeric-ids", "omit-dir-times", "omit-link-times", "one-file-system",
    "open-noatime", "owner", "perms", "preallocate", "recursive", "size-only", "sparse", "specials", "times",
    "update", "whole-file", "xattrs",
)  # fmt: skip
ALLOWED_WITH_VALUE = (
    "block-size", "bwlimit", "checksum-choice", "compress-choice", "compress-level", "exclude", "include",
    "modify-window", "skip-compress",
)  # fmt: skip


def refused(flags: Sequence[str]) -> list[str]:
    """Those of ``flags`` that bareon does not pass on. A value must follow its option with ``=``."""
    return [flag for flag in flags if not _allowed(flag)]


def _allowed(flag: str) -> bool:
    if not flag.startswith("--"):
        return flag[:1] == "-" and len(flag) > 1 and set(flag[1:]) <= set(ALLOWED_LETTERS)
    name, equals, value = flag[2:].partition("=")
    if equals:
        return name in ALLOWED_WITH_VALUE and value != ""
    return name.removeprefix("no-") in ALLOWED


def listing(url: str, flags: Sequence[str], empty: str) -> list[tuple[str, int]]:
    """Path and size in bytes of everything the server would send, without transferring it.

    A further name of a file that is hard-linked counts as 0 bytes.

    :param empty: an empty folder to compare with, so that everything counts as new.
    :raises CommandError: when the server cannot be reached or refuses.
    """
    found: list[tuple[str, int]] = []

    def take(line: str) -> None:
        # rsync escapes tabs and newlines in names, so that a tab is always ours.
        size, *rest = line.split("\t")
        if size.isdigit() and len(rest) == 2:
            found.append((rest[0], 0 if rest[1].startswith(" => ") else int(size)))

    run(
        ["rsync", *flags, "--dry-run", "--out-format=%l\t%n\t%L", *_limits(), url, f"{empty}/"],
        timeout=1800.0,
        on_output=take,
    )
    return found


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
        if len(words) > 1 and words[0].isdigit() and words[1].endswith("%") and words[1][:-1].isdigit():
            self.bytes = int(words[0])
            # The percentage is of what rsync knows of so far: until it has looked at every folder it is no total.
            percent = int(words[1][:-1])
            self.total = self.bytes * 100 // percent if percent and "to-chk" in line else None
            self.files = next((int(x[5:].rstrip(",")) for x in words if x.startswith("(xfr#")), self.files)
        return self.bytes, self.total


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
            *_limits(),
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


def is_local(error: CommandError) -> bool:
    """True for a failure on this side: files could not be written here, and all could be read on the server."""
    lines = error.stderr.splitlines()
    here = any(line.startswith(("rsync: [receiver]", "rsync: [generator]")) for line in lines)
    return error.code in (FILE_IO, PARTIAL) and here and not any(line.startswith("rsync: [sender]") for line in lines)


def _limits() -> list[str]:
    return [f"--contimeout={CONNECT_TIMEOUT}", f"--timeout={IDLE_TIMEOUT}"]
