# SPDX-License-Identifier: Apache-2.0
"""What the deploy interface does in a node's ramdisk, and what it notes of it in the node.

All notes are in ``driver_internal_info``: :data:`RAMDISK` and :data:`RUN` for the conductor itself,
:data:`PROGRESS` and :data:`REPORT` for people.
"""

from __future__ import annotations

import json
import logging
import shlex
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ironic.conf import CONF

from bareon.errors import ActionFailed, CommandError, Defect, InvalidInput, UnsuitableNode
from bareon.ironic import conf, configdrive, document, keeping, outcome, root_disk, ssh
from bareon.ironic.ramdisk import Look, Run
from bareon.version import version

LOG = logging.getLogger(__name__)

RAMDISK = "bareon_ramdisk"
RUN = "bareon_run"
PROGRESS = "bareon_progress"
REPORT = "bareon_report"

STEPS = ("provision", "verify", "switch_boot")
"""The steps that are done in the ramdisk."""

LARGEST_FACTS = 16 << 20  # bytes; those of a machine with a thousand disks have two million

_PATIENCE = 3
"""How many heartbeats in a row the ramdisk may send without being reached over SSH."""


def settings(node: Any) -> conf.Settings:
    """How the node's ramdisk is worked with.

    :raises InvalidInput: when ``driver_info`` is wrong.
    """
    return conf.settings(CONF, node.driver_info)


def hints(node: Any) -> Mapping[str, Any] | None:
    """The hints for the root disk: the instance's, else the node's."""
    return node.instance_info.get("root_device") or node.properties.get("root_device")  # type: ignore[no-any-return]


def request(node: Any, argument: dict[str, Any] | None = None) -> document.Request:
    """What the node is asked to become.

    :param argument: the document that the step was given.
    :raises InvalidInput: with every defect.
    """
    # Where Ironic sets the boot device, bareon leaves the order of the firmware's entries as it is.
    order = None if node.management_interface == "noop" else "unchanged"
    found = document.request(node.instance_info, node.properties, argument, order)
    wanted = hints(node)
    if found.asks_for_root and wanted:
        root_disk.check(wanted)
    return found


def running(node: Any) -> bool:
    """Whether a run was started and has not been seen to end."""
    return RUN in node.driver_internal_info


def forget(node: Any, *names: str) -> None:
    """Remove notes. With :data:`RAMDISK` also that of the run in it."""
    for name in (*names, *([RUN] if RAMDISK in names else [])):
        node.del_driver_internal_info(name)
    node.save()


def meet(node: Any) -> None:
    """Note where the ramdisk that has sent a heartbeat is, and by which key it is known.

    Ironic forgets the address before it has a failed node tidied up.

    :raises ActionFailed: when it is none that can be worked with.
    """
    info = node.driver_internal_info
    if problem := outcome.mismatch(str(info.get("agent_version") or "nothing"), version()):
        raise ActionFailed(problem)
    try:
        there = info.get("agent_verify_ca")
        text = Path(there).read_text(errors="replace") if there else ""
    except OSError as error:
        raise ActionFailed(f"the ramdisk's host key cannot be read: {error}") from None
    address = ssh.Address.of_url(str(info.get("agent_url") or ""), settings(node).port)
    note = {"host": address.host, "port": address.port, "host_keys": list(ssh.host_keys(text))}
    node.set_driver_internal_info(RAMDISK, note)
    node.save()


def arrived(node: Any, step: str) -> bool:
    """The heartbeat of a deployment in which nothing runs: true where its first step waits for the ramdisk.

    :raises ActionFailed: when it is none that can be worked with, or there should be a run.
    """
    if step != "deploy":
        raise ActionFailed("there is no run to look at")
    meet(node)
    return True


def do(node: Any, step: str, arguments: Mapping[str, Any]) -> bool:
    """Do the work of one of :data:`STEPS`. True when it is done, false when it goes on in the ramdisk.

    :raises BareonError: when it fails.
    """
    if step == "switch_boot":
        switch(node, arguments.get("image"), arguments.get("once", False))
    elif step == "verify":
        compare(node, request(node, arguments.get("provision")))
    else:
        start(node, request(node, arguments.get("provision")))
        return False
    return True


def start(node: Any, asked: document.Request) -> None:
    """Start the run.

    :raises BareonError: when that fails.
    """
    run = _run(node)
    options = {"data_driver": "ironic", "deploy_driver": asked.deploy_driver}
    if asked.actions:
        options["actions"] = asked.actions
    run.start(settings(node).script, options, _document(node, asked), _configdrive(asked))
    node.set_driver_internal_info(RUN, {"started": time.time(), "unreached": 0})
    node.set_driver_internal_info(PROGRESS, outcome.progress(None))
    forget(node, REPORT)


def look(node: Any) -> bool:
    """Look how the run stands, and note it. True once it is done.

    :raises BareonError: when it failed, was lost, or takes too long.
    """
    note = dict(node.driver_internal_info[RUN])
    run = _run(node)
    try:
        found = run.look()
    except ActionFailed as error:
        note["unreached"] = note.get("unreached", 0) + 1
        node.set_driver_internal_info(RUN, note)
        node.save()
        if note["unreached"] >= _PATIENCE:
            forget(node, RUN, PROGRESS)
            raise
        LOG.warning("node %s: %s; looking again at the next heartbeat", node.uuid, outcome.line(error))
        return False
    if found.state == "running":
        _note_progress(node, note, found)
        _check_time(node, note)
        return False
    forget(node, RUN, PROGRESS)
    if found.state == "absent":
        raise ActionFailed("the ramdisk knows nothing of the run: the node was restarted in the middle of it")
    return _ended(node, run, found)


def end(node: Any) -> None:
    """End the run by SIGTERM, and keep its report. A ramdisk that cannot be reached is no error: it will be off."""
    try:
        run = _run(node)
        run.terminate()
        found = run.look()
        keeping.keep(node, run, found)
    except (ActionFailed, InvalidInput) as error:
        LOG.warning("node %s: the run cannot be ended: %s", node.uuid, outcome.line(error))
    forget(node, RUN, PROGRESS)


def compare(node: Any, asked: document.Request) -> None:
    """Compare the disks with the document.

    :raises ActionFailed: when they differ, or cannot be compared.
    """
    run = _run(node)
    wanted = {**_document(node, asked), "partitions_policy": "verify"}
    options = {"data_driver": "ironic", "actions": "do_partitioning,do_configdrive"}
    done = run.plan(settings(node).script, options, wanted, _configdrive(asked))
    if done.code:
        raise ActionFailed(outcome.failure(done.code, done.stderr))


def switch(node: Any, image: object, once: object) -> None:
    """Have another image boot from now on, or the next time only.

    :raises BareonError: when that fails.
    """
    if not isinstance(image, str) or not image or image.startswith("-") or not image.isprintable():
        raise InvalidInput([Defect("image", "is no name of an image")])
    if not isinstance(once, bool):
        raise InvalidInput([Defect("once", "is neither true nor false")])
    command = f"bareon-boot switch {shlex.quote(image)}{' --once' if once else ''}"
    done = _run(node).connection.run(command, timeout=120, ok=range(255))
    if done.code:
        raise ActionFailed(outcome.failure(done.code, done.stderr))


def sync(node: Any) -> None:
    """Have everything in the ramdisk written to the disks.

    :raises ActionFailed: when it cannot be reached.
    """
    _run(node).sync()


def _run(node: Any) -> Run:
    if RAMDISK not in node.driver_internal_info:
        meet(node)
    note = node.driver_internal_info[RAMDISK]
    own = settings(node)
    ssh.check_key_file(own.key_file, "driver_info.bareon_key_filename")
    address = ssh.Address(note["host"], note["port"])
    return Run(ssh.Connection(address, own.user, own.key_file, tuple(note["host_keys"]), own.patience))


def _document(node: Any, asked: document.Request) -> dict[str, Any]:
    """The document, with the root disk that the node has."""
    if not asked.asks_for_root:
        return asked.document
    command = f"{shlex.quote(settings(node).script)} --dump_node_facts"
    try:
        done = _run(node).connection.run(command, timeout=120, at_most=LARGEST_FACTS)
        facts = json.loads(done.stdout)
    except CommandError as error:
        raise ActionFailed(outcome.failure(error.code, error.stderr)) from None
    except (ValueError, RecursionError):
        raise UnsuitableNode("what the ramdisk says of its disks is no JSON") from None
    return asked.on(root_disk.found(facts, hints(node)))


def _configdrive(asked: document.Request) -> str | None:
    return configdrive.content(asked, CONF.webserver_verify_ca)


def _note_progress(node: Any, note: dict[str, Any], found: Look) -> None:
    try:
        node.set_driver_internal_info(PROGRESS, outcome.progress(found.event))
    except InvalidInput as error:
        LOG.warning("node %s: progress is not in the published form: %s", node.uuid, outcome.line(error))
    node.set_driver_internal_info(RUN, {**note, "unreached": 0})
    node.save()


def _check_time(node: Any, note: Mapping[str, Any]) -> None:
    limit = settings(node).timeout
    if time.time() - note["started"] > limit:
        end(node)  # whether the ramdisk can be asked to or not: this is why the deployment fails
        raise ActionFailed(f"the run was ended after {limit} s, the limit of bareon_deploy_timeout")


def _ended(node: Any, run: Run, found: Look) -> bool:
    left = keeping.keep(node, run, found)
    if found.state == "lost":
        raise ActionFailed("the run is gone without an exit code: something in the ramdisk killed it")
    if found.code != 0:
        raise ActionFailed(outcome.failure(found.code, left.errors))
    if not left.is_success:
        raise ActionFailed(
            "the run ended with exit code 0, and no report of it says that it is done: see that bareon_deploy_script"
            " hands its arguments and the exit code of bareon-provision on"
        )
    if (text := run.file("boot-info.json")) is not None:
        node.set_instance_info("bareon_boot_info", outcome.boot_info(text))
        node.save()
    return True
