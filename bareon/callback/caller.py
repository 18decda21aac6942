# SPDX-License-Identifier: Apache-2.0
"""Calls Ironic until it is ended: looks the node up, then sends heartbeats. Tells each thing once."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bareon.callback.api import Api, Busy, Failure, Node, Refused
from bareon.callback.network import callback_url
from bareon.errors import ActionFailed

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """How long to wait, in seconds. Chance takes up to half off, so that nodes that start together call apart.

    ``first`` doubles with each failure up to ``longest``; ``busy`` is for a node that somebody else works on, and
    ``slow`` for what only people can mend. ``least`` is between two heartbeats, whatever a lookup has told.
    """

    first: float = 2.0
    longest: float = 30.0
    busy: float = 10.0
    slow: float = 60.0
    least: float = 1.0

    def after(self, failure: Failure, number: int) -> float:
        """The time to wait after the failure with that number, counted from 1."""
        if isinstance(failure, Refused):
            return _shaken(self.slow)
        if isinstance(failure, Busy):
            return _shaken(self.busy)
        return _shaken(min(self.first * 2.0 ** min(number - 1, 30), self.longest))


@dataclass(frozen=True)
class Ramdisk:
    """What Ironic is told of this ramdisk. ``advertised`` is its address, where it is not that of the connection."""

    addresses: Callable[[], list[str]]
    host_keys: str
    port: int
    version: str
    advertised: str | None = None

    def content(self, address: str) -> dict[str, str]:
        """A heartbeat, less the token.

        :raises Failure: without an address that others can use.
        """
        try:
            url = callback_url(self.advertised or address, self.port)
        except ValueError as error:
            raise Refused(str(error)) from None
        return {"callback_url": url, "agent_version": f"bareon-{self.version}", "agent_verify_ca": self.host_keys}


class Caller:
    """One ramdisk's calls.

    :param memory: a file that keeps the token, which Ironic tells once, for when this program is started anew.
    """

    def __init__(
        self, api: Api, ramdisk: Ramdisk, memory: Path, token: str | None = None, pace: Pace = Pace()
    ) -> None:
        self._api = api
        self._ramdisk = ramdisk
        self._memory = memory
        self._token = token
        self._pace = pace
        self._told = ""

    def look_up(self, seconds: float) -> Node:
        """The node that this is, with a token.

        :raises ActionFailed: when it is not found in that time; how it went the last time is in its text.
        """
        end = time.monotonic() + seconds
        number = 0
        while True:
            number += 1
            try:
                node = self._looked_up()
            except Failure as error:
                if (left := end - time.monotonic()) <= 0:
                    raise ActionFailed(f"no node was found within {seconds:g} s: {error}") from None
                self._tell(error)
                _pause(min(self._pace.after(error, number), left))
            else:
                LOG.info("this is node %s of %s", node.uuid, self._api.host)
                self._told = ""
                return node

    def _looked_up(self) -> Node:
        addresses = self._ramdisk.addresses()
        if not addresses:
            raise Failure("no network interface with a hardware address is there yet")
        node = self._api.lookup(addresses)
        if node.token:
            _remember(self._memory, node.uuid, node.token)
        # One that was told is right; with a token on the command line Ironic tells none.
        token = node.token or _remembered(self._memory, node.uuid) or self._token
        if not token:
            raise Refused(
                f"{self._api.host} has told the token of node {node.uuid} before, and tells it once:"
                " boot the node by Ironic again"
            )
        return Node(node.uuid, node.heartbeat_timeout, token)

    def once(self, node: Node) -> None:
        """One heartbeat.

        :raises ActionFailed: unless it was accepted.
        """
        try:
            self._heartbeat(node, self._content())
        except Failure as error:
            raise ActionFailed(str(error)) from None
        LOG.info("%s took a heartbeat", self._api.host)

    def heartbeats(self, node: Node) -> None:
        """Heartbeats without end: at least three in the time that Ironic waits for one, and two for each SIGUSR1.

        Ironic accepts a heartbeat while it has locked the node, and does nothing with it. What was asked for must not
        be lost so, hence the second one.

        :raises ActionFailed: without an address that others can use.
        """
        content = self._content()
        failed = 0
        asked = False
        while True:
            try:
                self._heartbeat(node, content)
            except Failure as error:
                failed += 1
                self._tell(error)
                asked |= _pause(self._pace.after(error, failed))
            else:
                if failed or not self._told:
                    LOG.info("%s takes heartbeats of %s", self._api.host, content["callback_url"])
                self._told, failed = "accepted", 0
                usual = max(node.heartbeat_timeout / 3, self._pace.least)
                asked = _pause(_shaken(min(self._pace.busy, usual) if asked else usual))

    def _content(self) -> dict[str, str]:
        """What all heartbeats say: Ironic refuses an address or a key that changes."""
        try:
            return self._ramdisk.content(self._api.address)
        except Failure as error:
            raise ActionFailed(str(error)) from None

    def _heartbeat(self, node: Node, content: dict[str, str]) -> None:
        assert node.token
        self._api.heartbeat(node.uuid, node.token, content)

    def _tell(self, error: Failure) -> None:
        """Say what went wrong, once as long as it stays the same."""
        text = str(error)
        LOG.log(logging.DEBUG if text == self._told else logging.WARNING, "%s; trying again", text)
        self._told = text


def _shaken(seconds: float) -> float:
    return seconds * (1 - random.random() / 2)


def _pause(seconds: float) -> bool:
    """Wait that long, or until SIGUSR1, which is kept from doing anything else; whether it came."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    return signal.sigtimedwait({signal.SIGUSR1}, seconds) is not None


def _remember(memory: Path, uuid: str, token: str) -> None:
    from bareon.atomic import replacing

    try:
        memory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(memory) as file:
            file.write(json.dumps({"node": uuid, "token": token}).encode())
    except OSError as error:
        LOG.warning("%s cannot be written (%s): a restart will have no token", memory, error.strerror)


def _remembered(memory: Path, uuid: str) -> str | None:
    try:
        descriptor = os.open(memory, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            kept = json.loads(file.read(4096))
        return str(kept["token"]) if kept["node"] == uuid else None
    except (OSError, ValueError, TypeError, KeyError):
        return None
