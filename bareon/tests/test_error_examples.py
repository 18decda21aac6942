# SPDX-License-Identifier: Apache-2.0
"""What ``exit-codes.rst`` quotes for errors that a laptop cannot show is what the program says when they happen."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bareon import plugin
from bareon.actions.base import Action
from bareon.cmd.exit import CODES, Terminated, guarded
from bareon.cmd.lock import node_lock
from bareon.decide import decide
from bareon.drivers.data.base import DataDriver
from bareon.drivers.deploy.base import DeployDriver
from bareon.facts import from_json
from bareon.model.settings import TransferSettings
from bareon.run import run
from bareon.tests.test_documentation import EXAMPLES, SOURCE, regenerate

PAGE = (SOURCE / "reference/exit-codes.rst").read_text()
Said = Callable[[Callable[[], None]], tuple[int, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs something as a program does: its exit code, and its standard error as the page would quote it."""

    def find(body: Callable[[], None]) -> tuple[int, str]:
        code = guarded("bareon-provision", body, lambda _: ["the log is /var/log/bareon.log"])
        return code, "".join(f"    {line}\n" for line in capsys.readouterr().err.splitlines())

    return find


def test_a_command_fails(said: Said, tmp_path: Path) -> None:
    uuid = "5f1656b7-204f-43cf-bbc4-dd89e3232e03"

    def body() -> None:
        run(["mkfs.ext4", "-q", "-F", "-U", uuid, f"{tmp_path}/vdb2"])

    code, text = said(body)
    assert code == 6
    assert text.replace(str(tmp_path), "/dev") in PAGE


def test_an_image_cannot_be_fetched(said: Said) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # nobody listens
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        text = (EXAMPLES / "two-disks.json").read_text().replace("192.0.2.1", server)
        deployment = plugin.load("bareon.drivers.data", "ironic", DataDriver).parse(text.encode())  # type: ignore[type-abstract]
        node = from_json(json.loads((EXAMPLES / "nodes/two-disks.json").read_bytes()))
        transport = plugin.load("bareon.drivers.deploy", "rsync", DeployDriver)  # type: ignore[type-abstract]
        actions = [plugin.load("bareon.actions", "do_copyimage", Action)]  # type: ignore[type-abstract]
        actions.insert(0, plugin.load("bareon.actions", "do_partitioning", Action))  # type: ignore[type-abstract]
        settings = dataclasses.replace(TransferSettings(), attempts=1)
        plan = decide(deployment, node, actions, transport, regenerate.SEED, settings).plan
        (step,) = (step for step in plan.steps if step.description.startswith("Copy image"))
        code, text = said(step.preflight)
    assert code == 7
    assert text.replace("127.0.0.1", "192.0.2.1") in PAGE


def test_another_run_holds_the_lock(said: Said, tmp_path: Path) -> None:
    path = str(tmp_path / "bareon.lock")

    def second() -> None:
        with node_lock(path), node_lock(path):
            pass

    code, text = said(second)
    assert code == 8
    known = {
        r"process \d+": "process 1432",
        r"since \S+": "since 2026-03-02T17:50:29Z",
        re.escape(path): "/run/lock/bareon.lock",
    }
    for pattern, word in known.items():
        text = re.sub(pattern, word, text)
    assert text in PAGE


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (Terminated(), 143)])
def test_somebody_ends_it(error: BaseException, code: int, said: Said) -> None:
    def body() -> None:
        raise error

    assert said(body)[0] == code
    assert said(body)[1] in PAGE


def test_a_bug(said: Said) -> None:
    code, text = said(lambda: [][0])
    assert code == 1
    first, last = text.splitlines()[0], "\n".join(text.splitlines()[-2:])
    assert f"{first}\n      ...\n" in PAGE
    assert last in PAGE


@pytest.mark.pain("errors-for-nobody")
def test_every_class_of_error_has_its_section() -> None:
    for number in {code for _, code in CODES} | {1, 143}:
        assert re.search(rf"^(.*\b)?{number}\b.*: .*\n=+\n", PAGE, re.M), number
    assert PAGE.count("*Remedy:*") == 9
