# SPDX-License-Identifier: Apache-2.0
"""``mdadm.conf``, mdadm.conf(5): the arrays that it names, which an initramfs knows by its copy."""

from __future__ import annotations

import re

from bareon.system.bindings import block
from bareon.system.bindings.binding import TAKEN_OUT, Binding, Change, shown
from bareon.system.bindings.home import Home

HEADER = "# Written by bareon: the arrays of this node."
# What comes behind it may begin with a hexadecimal digit too: auto=, bitmap=, container=, devices=.
_UUID = re.compile(r"\suuid=([0-9a-f:.\-]+)", re.IGNORECASE)
_NOT_BY_ITSELF = re.compile(r"auto\s.*-all.*", re.IGNORECASE)


class MdadmConf(Binding):
    """Arrays of another machine are taken out; those of the layout are named where the image names any.

    Where it names none, mdadm assembles all that it finds.
    """

    files = ("/etc/mdadm/mdadm.conf", "/etc/mdadm.conf")
    of_node = True
    copied = True

    def bound(self, path: str, text: str | None, home: Home) -> Change:
        if text is None:
            return Change(None)
        lines: list[str] = []
        done: list[str] = []
        warnings: list[str] = []
        naming, taking = HEADER in text.split("\n"), False
        for line in _without_block(text).split("\n"):
            if not line[:1].isspace():  # a line that begins with a space goes on with the one before
                array = line[:5].lower() == "array"
                uuid = _UUID.search(line) if array else None
                strange = bool(uuid and home.lacks(f"MD={uuid[1]}"))
                naming = naming or array or bool(_NOT_BY_ITSELF.fullmatch(line))
                taking = strange and home.fresh
                if strange:
                    words = "was taken out" if taking else "is kept"
                    (done if taking else warnings).append(
                        f"{path}: {shown(line)!r} {words}; the node lacks that array"
                    )
            if not taking and _same(line, home):
                continue
            lines.append(TAKEN_OUT + line if taking and line else line)
        rest = "\n".join(lines)
        ours = home.layout.mdadm_conf() if naming else ()
        if not ours:
            return Change(rest, tuple(done), tuple(warnings))
        gap = "" if not rest or rest.endswith("\n") else "\n"
        own = "".join(f"{line}\n" for line in (HEADER, *ours, block.END))
        return Change(rest + gap + own, tuple(done), tuple(warnings))


def _same(line: str, home: Home) -> bool:
    return line in home.layout.mdadm_conf()


def _without_block(text: str) -> str:
    before, header, rest = text.partition(f"{HEADER}\n")
    return before + rest.partition(f"{block.END}\n")[2] if header and block.END in rest else text
