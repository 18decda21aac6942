# SPDX-License-Identifier: Apache-2.0
"""Secrets are planted wherever an input can hold them, and looked for in all that a deployment leaves or shows.

The runs end in all the ways there are. Meanwhile somebody writes down the command lines of all processes.
"""

from __future__ import annotations

import base64
import copy
import io
import json
import re
import shlex
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bareon.report.page import page
from tests_functional.bench.cell import SCRATCH
from tests_functional.bench.hypervisor import SERVER
from tests_functional.bench.node import Node
from tests_functional.bench.session import Record, Session
from tests_functional.bench.template import Template

INPUT = "/tmp/provision.json"
KEY = "/tmp/key"
LIMIT = 180.0
PLANTED = {
    "password hash": "$6$c2FsdA$cGxhbnRlZGhhc2g",
    "host key": "cGxhbnRlZC1wcml2YXRlLWtleQ",
    "user data": "planted-token-in-user-data",
    "kernel parameter": "planted-luks-passphrase",
    "user of a URL": "planted-user-password",
    "key of an account": "planted-account-key",
    "key of a container": "planted-container-key",
    "URL of a key": "planted-url-of-a-key",
    "password of the ramdisk": "$6$cmFtZGlzaw$cGxhbnRlZHJhbWRpc2s",
    "token of the ramdisk": "planted-agent-token",
}
#: What is left or shown besides the output, by the command that prints it.
PLACES = {
    "log": "cat /var/log/bareon.log",
    "report": "test ! -e /tmp/bareon-report.json || cat /tmp/bareon-report.json",
    "bundle": "test ! -e /tmp/bareon-bundle.tar.gz || tar -xzOf /tmp/bareon-bundle.tar.gz",
    "mounts": "cat /proc/mounts",
    "processes": "cat /tmp/processes",
    "document at hand": (
        "if mount -o ro LABEL=multiboot /mnt 2> /dev/null; then"
        " test ! -e /mnt/boot/grub2/bareon-input.json || cat /mnt/boot/grub2/bareon-input.json; umount /mnt; fi"
    ),
}
#: As a ramdisk gets them when it boots.
COMMAND_LINE = f'rootpwd="{PLANTED["password of the ramdisk"]}" ipa-agent-token={PLANTED["token of the ramdisk"]}'
#: Writes down each command line of each process once. A shell would start three programs each time it looks.
WATCHER = """
import glob, time
seen = set()
with open("/tmp/processes", "w", errors="replace") as file:
    while True:
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            try:
                with open(path, errors="replace") as opened:
                    found = path, opened.read().replace("\\0", " ")
            except OSError:
                continue
            if found not in seen:
                seen.add(found)
                print(*found, file=file, flush=True)
        time.sleep(0.1)
"""


@dataclass
class Run:
    """One run: what it is given, the exit code it must have, and whether it leaves the document beside a menu."""

    name: str
    code: int
    document: Mapping[str, Any]
    arguments: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    at_hand: bool = False


def document(url: str, size: str = "remaining", **image: str) -> dict[str, Any]:
    """Return an input with secrets in its configdrive and its kernel parameters."""
    user_data = f"#cloud-config\n# {PLANTED['user data']}\nchpasswd: {PLANTED['password hash']}\n"
    volume = {"type": "partition", "mount": "/", "file_system": "ext4", "size": size}
    return {
        "partitions_policy": "clean",
        "images": [{"name": "root", "image_pull_url": url, **image}],
        "partitions": [{"type": "disk", "id": {"type": "name", "value": "vda"}, "volumes": [volume]}],
        "deploy_data": {"kernel_params": f"rd.luks.password={PLANTED['kernel parameter']}"},
        "configdrive": {"meta_data": {"hostname": "x", "host_key": PLANTED["host key"]}, "user_data": user_data},
    }


def encrypted(url: str, key: Mapping[str, str]) -> dict[str, Any]:
    """Return such an input with the volume in a container."""
    found = document(url)
    volumes = found["partitions"][0]["volumes"]
    volumes[0]["encryption"] = {"type": "luks2", "name": "root", "key": key}
    volumes.insert(0, {"type": "partition", "mount": "/boot", "file_system": "ext4", "size": "64 MiB"})
    return found


def several(url: str, **changed: Any) -> dict[str, Any]:
    """Return such an input with two images that can boot."""
    found = {**document(url), **changed}
    (image,), (disk,) = found["images"], found["partitions"]
    found["images"] = [{**image, "name": name} for name in ("one", "two")]
    (volume,) = disk["volumes"]
    disk["volumes"] = [{**volume, "size": "200 MiB", "images": [name]} for name in ("one", "two")]
    return found


def archive(folder: Path) -> bytes:
    """Return what is in a folder as an archive."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as file:
        file.add(folder, ".")
    return content.getvalue()


def runs(session: Session) -> list[Run]:
    """Return the runs, in an order in which each finds the disk that it needs."""
    words = session.images.words()
    name = "small.img.gz"
    good = words["swift"](name)
    with_user = words["http"]("").replace("http://", f"http://operator:{PLANTED['user of a URL']}@")
    misspelt = document(good)
    misspelt["images"][0]["image_pull_urls"] = misspelt["images"][0].pop("image_pull_url")
    differing = copy.deepcopy(document(good, size="100 MiB"))
    differing["partitions_policy"] = "verify"
    account = {"OS_DEFAULT__SWIFT_KEY": PLANTED["key of an account"], "OS_DEFAULT__SWIFT_AUTH_VERSION": "1"}
    account |= {"OS_DEFAULT__SWIFT_USER": "somebody", "OS_DEFAULT__SWIFT_AUTH_URL": words["swift_auth_url"]("")}
    wrong = {"image_os_hash_algo": "sha256", "image_os_hash_value": words["sha256-wrong"](name)}
    system = session.images.swift.temp_url(session.images.swift.put("tiny.tar.gz", archive(SCRATCH / "tiny")), SERVER)
    actions = "do_partitioning,do_configdrive,do_copyimage,do_bootloader"
    booting = f"--allow_unbootable --deploy_driver auto --actions {actions}"
    return [
        Run("succeeds", 0, document(good)),
        Run("encrypts", 0, encrypted(good, {"file": KEY})),
        Run("no key", 4, encrypted(good, {"url": f"https://127.0.0.1:1/{PLANTED['URL of a key']}"})),
        Run("plan", 0, document(good), "--plan"),
        Run("plan as JSON", 0, document(good), "--plan --plan_format json"),
        Run("wrong option", 2, document(good), "--no-such-option"),
        Run("misspelt key", 3, misspelt),
        Run("disk too small", 4, document(good, size="5 TiB")),
        Run("image too large", 4, document(good, size="20 MiB")),
        Run("differs", 5, differing),
        Run("no kernel", 6, document(good), "--actions do_partitioning,do_configdrive,do_copyimage,do_bootloader"),
        Run("wrong digest", 7, document(good, **wrong)),
        Run("expired", 7, document(words["swift-expired"](name))),
        Run("wrong signature", 7, document(words["swift-wrong"](name))),
        Run("user in the URL", 7, document(f"{with_user}/404/{name}")),
        Run("wrong account", 7, document(words["swift-object"](name)), environment=account),
        Run("two images", 0, several(system, deploy_data={}), booting, at_hand=True),
        # Its kernel parameters are needed, and secret: the document of the run before goes.
        Run("two images, once more", 0, several(system, partitions_policy="verify"), booting),
    ]


@pytest.mark.long
@pytest.mark.pain("secrets")
def test_no_secret_is_said(session: Session, record_property: Record) -> None:
    template = Template.load("one_disk")
    places = size = 0
    with session.node_in_ramdisk(template, template.disks, "secrets") as node:
        node.ssh.put(COMMAND_LINE, "/tmp/cmdline")
        node.ssh.run("cat /proc/cmdline >> /tmp/cmdline; mount --bind /tmp/cmdline /proc/cmdline")
        node.ssh.put(PLANTED["key of a container"], KEY)
        node.ssh.put(WATCHER, "/tmp/watcher.py")
        node.ssh.run("python3 /tmp/watcher.py < /dev/null > /dev/null 2>&1 &")
        for run in (tried := runs(session)):
            secrets = {**PLANTED, **signatures(run)}
            shown = {**carry_out(run, node), **{place: node.ssh.run(PLACES[place]).stdout for place in PLACES}}
            assert bool(shown["document at hand"]) == run.at_hand, run.name
            if shown["report"]:
                shown["page"] = page(json.loads(shown["report"]))
            assert not (found := planted(secrets, shown)), (run.name, found)
            places += len(shown)
            size += sum(map(len, shown.values()))
        facts = node.ssh.run("bareon-provision --dump_node_facts").stdout
        assert "rootpwd=" in facts and not planted(PLANTED, {"facts": facts})
        watched = node.ssh.run("cat /tmp/processes").stdout
        assert watched.count("bareon-provision") >= len(tried)  # else nobody looked
    looked = f"none found in {places} outputs and files of {len(tried)} runs, {size} bytes"
    record_property("secrets", f"{len(PLANTED) + 1} planted, {looked}")


def planted(secrets: Mapping[str, str], shown: Mapping[str, str]) -> list[str]:
    """Return which secrets are in which text, plain or encoded."""
    return [
        f"{kind} in {place}"
        for kind, secret in secrets.items()
        for place, text in shown.items()
        for form in (secret, base64.b64encode(secret.encode()).decode().rstrip("=")[:-1])
        if form in text
    ]


def signatures(run: Run) -> dict[str, str]:
    """Return the signature of a TempURL, if the input has one."""
    found = re.search(r"temp_url_sig=(\w+)", json.dumps(run.document))
    return {"signature": found[1]} if found else {}


def carry_out(run: Run, node: Node) -> dict[str, str]:
    """Run the program with everything said that it can say, and return its output."""
    node.ssh.put(json.dumps(run.document), INPUT)
    # By file: the command line of the shell that sets them is a process too.
    node.ssh.put(
        "".join(f"export {key}={shlex.quote(value)}\n" for key, value in run.environment.items()), "/tmp/env"
    )
    node.ssh.run("rm -f /tmp/bareon-* /var/log/bareon.log; touch /var/log/bareon.log")
    actions = "" if "--actions" in run.arguments else "--actions do_partitioning,do_configdrive,do_copyimage"
    command = (
        f"bareon-provision --deploy_driver swift --debug --log-file /var/log/bareon.log --progress json {actions}"
    )
    attempts = "--image_attempts 1"
    done = node.ssh.run(f". /tmp/env; {command} {attempts} {run.arguments}", timeout=LIMIT, check=False)
    assert done.exit_code == run.code, (run.name, done)
    return {"output": done.stdout, "errors": done.stderr}
