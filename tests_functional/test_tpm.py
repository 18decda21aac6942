# SPDX-License-Identifier: Apache-2.0
"""A node whose root file system is encrypted with a key that its TPM has: it starts without anybody, and no other."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests_functional.bench.case import machine
from tests_functional.bench.node import Node
from tests_functional.bench.session import Session
from tests_functional.bench.tpm import Tpm
from tests_functional.test_secrets import WATCHER

INPUT = "/tmp/provision.json"
LOG = "/var/log/bareon.log"
OPTIONS = f"--progress plain --input_data_file {INPUT}"
COMMAND = f"bareon-provision --data_driver ironic --deploy_driver rsync --debug --log-file {LOG} {OPTIONS}"
LIMIT = 900.0
#: Prints the key as the deployed system gets it.
KEY = (
    "cryptsetup token export --token-id 0 {} | python3 -c 'import json, sys;"
    ' x = json.load(sys.stdin)["jwe"];'
    ' print(".".join(x[y] for y in ("protected", "encrypted_key", "iv", "ciphertext", "tag")), end="")\''
    " | clevis decrypt"
)
ASKED = "Please unlock disk root"
#: Seconds until the initramfs asks for a passphrase, and in which nobody answers.
ASKED_LIMIT, UNANSWERED = 180.0, 30.0


def deployment(url: str) -> dict[str, Any]:
    """Return an input with a root file system that is opened early, another one, and swap on what has no name."""
    sealed = {"tpm2": {"pcrs": [7]}}
    volumes = [
        {"type": "partition", "mount": "/boot", "file_system": "ext4", "size": "300 MiB"},
        {
            **{"type": "partition", "mount": "/", "file_system": "ext4", "size": "1900 MiB"},
            "encryption": {"type": "luks2", "name": "root", "key": sealed},
        },
        {
            **{"type": "partition", "mount": "/srv", "file_system": "ext4", "size": "200 MiB"},
            "encryption": {"type": "luks2", "name": "srv", "key": sealed},
        },
    ]
    return {
        "partitions_policy": "clean",
        "images": [{"name": "sealed", "image_pull_url": f"{url}/sealed/"}],
        "partitions": [{"type": "disk", "id": {"type": "name", "value": "sda"}, "volumes": volumes}],
    }


@pytest.mark.long
@pytest.mark.thorough("it deploys, and boots three times; test_sealed_keys.py has the keys without a machine")
def test_the_node_of_the_tpm_starts_alone(session: Session, tmp_path: Path) -> None:
    tpm = Tpm(tmp_path)
    tpm.start()
    try:
        # On a disk that cannot be plugged in: a machine that is restored has the TPM of the one that was saved.
        template, disks = machine({"template": "sata_disk", "disks": [{"size": "4 GiB", "bus": "sata"}]})
        with session.node_in_ramdisk(template.with_tpm(tpm.socket), disks, "tpm") as node:
            _deployed(node, session.rsync.url)
            session.strategy.deployed(node)
            assert node.ssh.run("findmnt -no SOURCE /; findmnt -no SOURCE /srv").stdout.split() == [
                "/dev/mapper/root",
                "/dev/mapper/srv",
            ]
            assert node.ssh.run("systemctl is-system-running --wait", timeout=LIMIT).stdout.strip() == "running"
            tpm.stop()
            tpm.start()
            assert not _starts(node), "it was opened with another TPM"
    finally:
        tpm.stop()


def _deployed(node: Node, url: str) -> None:
    """Deploy, then open again what is kept; nowhere is a key left."""
    node.ssh.put(json.dumps(deployment(url)), INPUT)
    node.ssh.put(WATCHER, "/tmp/watcher.py")
    node.ssh.run("python3 /tmp/watcher.py < /dev/null > /dev/null 2>&1 &")
    done = node.ssh.run(COMMAND, timeout=LIMIT)
    assert "nothing else opens root where a key that the TPM seals to PCR 7 is lost" in done.stderr
    node.ssh.run(f'cryptsetup close root; cryptsetup close srv; sed -i \'s/"clean"/"verify"/\' {INPUT}')
    again = node.ssh.run(f"bareon-bootloader {OPTIONS}", timeout=LIMIT)
    assert "Open /dev/mapper/root on /dev/sda3 with a key that the TPM seals to PCR 7" in again.stdout
    for device in ("/dev/sda3", "/dev/sda4"):
        key = node.ssh.run(KEY.format(device), timeout=LIMIT).stdout
        assert len(key) == 64
        node.ssh.put(key, "/tmp/planted")
        found = node.ssh.run(f"grep -rlaFf /tmp/planted /tmp/bareon-* /tmp/processes {LOG}", check=False)
        assert (found.exit_code, found.stdout) == (1, "")
    assert "clevis" in node.ssh.run("cat /tmp/processes").stdout, "nobody looked"


def _starts(node: Node) -> bool:
    """Whether a node that is powered on starts, or asks for a passphrase and waits."""
    node.power_off()
    node.console.write_text("")
    node.power_on()
    deadline = time.monotonic() + ASKED_LIMIT
    while ASKED not in node.console.read_text(errors="replace"):
        if time.monotonic() > deadline:
            raise AssertionError(f"nobody was asked; the console ends:\n{node.console_tail()}")
        time.sleep(0.5)
    time.sleep(UNANSWERED)
    return "login:" in node.console.read_text(errors="replace")
