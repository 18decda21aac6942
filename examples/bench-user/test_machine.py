# SPDX-License-Identifier: Apache-2.0
"""A test of some other project on bareon's bench: a machine of its own, with a disk of its own."""

from __future__ import annotations

from tests_functional.bench.session import Session
from tests_functional.bench.template import Template

MACHINE = """
<domain type="qemu">
  <metadata>
    <node xmlns="urn:bareon:bench" like="one_disk">
      <disk target="vda" bus="virtio" serial="MINE-1" size="1 GiB"/>
      <before>mkfs.ext4 -q -L mine /dev/vda</before>
    </node>
  </metadata>
</domain>
"""


def test_machine(session: Session) -> None:
    template = Template("mine", MACHINE)
    with session.node_in_ramdisk(template, template.disks, "my-machine") as node:
        assert node.ssh.run("lsblk --noheadings --output SERIAL,LABEL /dev/vda").stdout.split() == ["MINE-1", "mine"]
        node.ssh.run(f"rsync {session.rsync.url}/small/hello /tmp/ && grep . /tmp/hello")
