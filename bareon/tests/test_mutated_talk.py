# SPDX-License-Identifier: Apache-2.0
"""Whatever a kernel command line, Ironic or a ramdisk say: values, or an error for people that tells no secret.

``BAREON_MUTATIONS`` says how many texts of each kind are tried.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from email.message import Message

import pytest

from bareon.callback import parameter
from bareon.callback.api import Api, Failure
from bareon.callback.connection import Answer, Broken
from bareon.cmd.unattended import _options
from bareon.errors import ActionFailed, BareonError, InvalidInput
from bareon.ironic import outcome, ramdisk
from bareon.model.location import Location
from bareon.model.settings import TransferSettings
from bareon.run import Command
from bareon.tests import test_callback
from bareon.tests.ironicapi import TOKEN, UUID
from bareon.tests.test_mutated_outputs import TRIES, mutated
from bareon.unattended import events
from bareon.unattended import parameter as unattended

#: As many as of captured outputs, for each of few kinds.
MANY = 20 * TRIES
SECRET = "s3cr3t-of-the-node"
LINE = (
    f"BOOT_IMAGE=vmlinuz root=x {test_callback.GIVEN} ipa-agent-token={SECRET} ipa-insecure=1 boot_method=vmedia"
    " ipa-global-request-id=req-39b11fd7-40b4-4eb0-b69a-d0eb97747303 ipa-ca-file=/etc/ca.pem"
    ' "ipa-lookup-timeout=30" ipa-advertise-host="[2001:db8::1]" ipa-debug=1 quiet'
)
UNATTENDED = (
    f"BOOT_IMAGE=vmlinuz bareon.input=https://user:{SECRET}@h.example/{{mac}}.json?s={{serial}} bareon.timeout=60"
    ' "bareon.events=http://[fd00::1]:80/e?token=x" bareon.after=poweroff bareon.again=changed bareon.sshkey='
    f" bareon.input_sha256={'0a' * 32} bareon.input-keyring=/etc/k bareon.image_timeout=90 bareon.allow_unbootable=1"
)
LOOKUP = json.dumps(
    {"node": {"uuid": UUID, "properties": {}}, "config": {"heartbeat_timeout": 300, "agent_token": TOKEN}}
)
FAULT = json.dumps({"error_message": json.dumps({"faultstring": f"Invalid token {SECRET}", "faultcode": "Client"})})
EVENT = {
    **{"event": "progressed", "number": 3, "count": 9, "action": "do_copyimage"},
    **{"description": "copy the image", "seconds": 1.5, "done": 1, "total": 2},
}


def texts(whole: str, kind: str) -> list[str]:
    """The text as it is, and many with something changed."""
    dice = random.Random(kind)
    return [whole, *(mutated(whole, dice) for _ in range(MANY))]


def test_kernel_command_lines() -> None:
    taken = 0
    for text in texts(LINE, "line"):
        parameter.is_of_ironic(text)
        try:
            found = parameter.parse(parameter.words(text, "the kernel's command line"))
        except InvalidInput as error:
            assert error.lines() and not any(SECRET in line for line in error.lines())
            continue
        taken += 1
        assert found.api_urls and SECRET not in repr(found)
        assert found.lookup_timeout is None or math.isfinite(found.lookup_timeout)
        # What goes into authorized_keys is one key, without options.
        assert found.conductor_key.count(" ") == 1 and found.conductor_key.isprintable()
    assert 0 < taken < MANY


def test_command_lines_of_nodes_that_deploy_themselves() -> None:
    taken = 0
    for text in texts(UNATTENDED, "unattended"):
        try:
            found = unattended.parse(text, _options())
        except InvalidInput as error:
            assert error.lines() and all(SECRET not in line and line.isprintable() for line in error.lines())
            continue
        taken += 1
        assert found.source.host and SECRET not in repr(found)
        assert 0 < found.timeout < math.inf and found.after in unattended.AFTER and found.again in unattended.AGAIN
        # Whatever the value, an argument is an option of bareon-provision's.
        assert all(x.startswith("--") and "\n" not in x.partition("=")[0] for x in found.options)
        assert found.digest is None or len(found.digest) == 64
    assert 0 < taken < MANY


def test_events_of_a_deployment() -> None:
    told = events.Events(None, None, {}, TransferSettings())
    for text in texts(json.dumps(EVENT), "relayed"):
        told.relay(text)


class Connector:
    """Answers every request with the same text."""

    def __init__(self, text: str, status: int) -> None:
        self.text, self.status = text, status

    def request(self, url: Location, method: str, path: str, headers: object, body: object = None) -> Answer:
        if not path.isprintable():
            raise Broken(path)
        said = self.text.encode("utf-8", "surrogateescape")
        return Answer(self.status, "Reason", Message(), said, "192.0.2.9")


@pytest.mark.parametrize(("whole", "status"), [(LOOKUP, 200), (FAULT, 400), (FAULT, 409), (FAULT, 503)])
def test_answers_of_the_api(whole: str, status: int) -> None:
    taken = 0
    for text in texts(whole, f"answer {status}"):
        api = Api([Location("http://ironic")], Connector(text, status))  # type: ignore[arg-type]
        try:
            node = api.lookup(["52:54:00:aa:00:01"])
        except Failure as error:
            assert str(error).isprintable() and len(str(error)) < 1000
        else:
            taken += 1
            assert 0 < node.heartbeat_timeout <= 86400 and len(node.uuid) == 36
            assert node.token is None or node.token.isprintable()
        try:
            api.heartbeat(UUID, SECRET, {})
        except Failure as error:
            assert SECRET not in str(error) and str(error).isprintable()
    assert (taken > 0) is (status == 200)


class Connection:
    """A ramdisk that answers every command with the same text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def run(self, _command: str, **_options: object) -> Command:
        return Command((), 0, self.text, "", 0.0)


def test_events_and_what_a_ramdisk_answers() -> None:
    shown = 0
    for text in texts(f"running\n{json.dumps(EVENT)}\n", "events"):
        try:
            found = ramdisk.Run(Connection(text)).look()  # type: ignore[arg-type]
            note = outcome.progress(found.event)
        except (ActionFailed, InvalidInput) as error:
            assert outcome.line(error).isprintable()
            continue
        shown += "percent" in note
        json.dumps(note, allow_nan=False)
    assert shown


@pytest.mark.parametrize(
    ("read", "whole"),
    [
        (outcome.report, json.dumps({"outcome": "done", "seconds": 12.5, "steps": []})),
        (outcome.boot_info, json.dumps({"elements": [{"boot_name": "a", "root_uuid": "x", "grub_id": 0}]})),
    ],
)
def test_files_of_a_run(read: Callable[[str], dict[str, object]], whole: str) -> None:
    taken = 0
    for text in texts(whole, "files"):
        try:
            json.dumps(read(text), allow_nan=False)
            taken += 1
        except BareonError as error:
            assert outcome.line(error).isprintable()
    assert 0 < taken < MANY


def test_what_a_failed_run_says() -> None:
    whole = f"warning: x\nbareon-provision: $.partitions[0]: https://bob:{SECRET}@host is unfit\nbareon-provision: y"
    for text in texts(whole, "errors"):
        line = outcome.failure(3, text)
        assert line.isprintable() and len(line) < 2000
