# SPDX-License-Identifier: Apache-2.0
"""Sets the network up, and says on the console what keeps it from being there."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bareon import cmdline
from bareon.atomic import replacing
from bareon.errors import CommandError, InvalidInput
from bareon.network import answers, client, proxy, words
from bareon.network.commands import Found, commands, placed
from bareon.network.wanted import Wanted
from bareon.run import run

Say = Callable[[str], None]
PLACE = Path("run/bareon-network")
#: The program that dhcpcd tells what it has learned.
SCRIPT = Path("etc/dhcpcd-answer")
_ETHERNET = "1"  # ARPHRD_ETHER of if_arp.h
#: Seconds that a switch may take to bring up a link, and that an answer may take; longer ones come as well.
_LINK, _ANSWER = 5.0, 20.0
_PAUSE = 0.1


def set_up(root: Path, say: Say) -> bool:
    """Give this node its network by the kernel's command line, and wait for it a while; ``False`` is a wrong word.

    Whatever goes wrong is said, and the rest is done: a node that can be reached can be looked at.

    :param root: the folder with ``proc``, ``sys``, ``etc`` and ``run``.
    """
    sound = True
    try:
        wanted = words.parse(cmdline.read(root))
    except InvalidInput as error:
        for line in error.lines():
            say(line)
        say("the network is set up as without these and all the like: every port is asked for an address")
        wanted, sound = Wanted(), False
    found = Found(dict(ports(root)))
    wanted, problems = placed(wanted, found)
    for problem in problems:
        say(problem)
    _run_all(wanted, found, say)
    _write(root / "etc/resolv.conf", answers.resolver([str(one) for one in wanted.nameservers], ()))
    place = root / PLACE
    _write(place / "nameservers", "".join(f"{one}\n" for one in wanted.nameservers))
    environment = proxy.variables(wanted.proxy, wanted.direct)
    # Its password is no secret to who reads the command line, but it is to what runs as somebody else.
    _write(place / "environment", proxy.for_shell(environment), 0o600)
    _write(place / "sshd.conf", proxy.for_sshd(environment), 0o600)
    new = {mac: name for name, mac in wanted.names}
    names = [new.get(mac, old) for mac, old in found.names.items()]
    if text := client.configuration(wanted, sorted(names), str(root / SCRIPT)):
        _write(place / "dhcpcd.conf", text)
        log = str(root / "var/log/dhcpcd.log")
        _try(["dhcpcd", "--background", "--config", str(place / "dhcpcd.conf"), "--logfile", log], say)
    _wait(root, asked=text is not None, say=say)
    return sound and not problems


def _run_all(wanted: Wanted, found: Found, say: Say) -> None:
    for host in (port.hostname for port in wanted.ports if port.hostname):
        socket.sethostname(host)
    for command in commands(wanted, found):
        _try(command, say)


def _try(command: list[str], say: Say) -> None:
    try:
        run(command, timeout=30.0)
    except CommandError as error:
        say(str(error))


def ports(root: Path) -> Iterator[tuple[str, str]]:
    """Hardware address and name of each Ethernet port; bridges, bonds and the like have no device behind them."""
    for place in sorted((root / "sys/class/net").glob("*")):
        with contextlib.suppress(OSError):
            if (place / "device").exists() and (place / "type").read_text().strip() == _ETHERNET:
                yield (place / "address").read_text().strip().lower(), place.name


def _wait(root: Path, *, asked: bool, say: Say) -> None:
    """Wait for a link, and for the first answer if anybody was asked."""
    if not list(ports(root)):
        say("this node has no Ethernet port that the ramdisk has a driver for")
        return
    if not _until(lambda: any(_linked(root)), _LINK):
        names = ", ".join(name for _, name in ports(root))
        say(f"no port has a link ({names}): look at cable and switch; as soon as one has, it is used")
        return
    if asked and not _until(lambda: bool(known(root)), _ANSWER):
        say(f"nobody has answered at {', '.join(_linked(root))} within {_ANSWER:g} s; they are asked again and again")


def _linked(root: Path) -> list[str]:
    found = []
    for _, name in ports(root):
        with contextlib.suppress(OSError):  # what is down has no carrier to read
            if (root / "sys/class/net" / name / "carrier").read_text().strip() == "1":
                found.append(name)
    return found


def _until(reached: Callable[[], bool], limit: float) -> bool:
    deadline = time.monotonic() + limit
    while not reached():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def known(root: Path) -> answers.Answers:
    """What servers and routers have answered so far."""
    return answers.from_text(_read(root / PLACE / "answers.json"))


def learn(root: Path, said: Mapping[str, str]) -> None:
    """Take a word of dhcpcd: note it, and change default route and name servers if it changes who is first."""
    before = known(root)
    after = answers.heard(before, said)
    if after == before:
        return
    given = _read(root / PLACE / "nameservers").split()
    _write(root / "etc/resolv.conf", answers.resolver(given, after))
    if (way := answers.way_out(after)) != answers.way_out(before):
        with contextlib.suppress(CommandError):
            run(["ip", *way], timeout=30.0)
    # Last: whoever waits for an answer may use the network then.
    _write(root / PLACE / "answers.json", answers.to_text(after))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, mode) as file:
        file.write(text.encode())
