# SPDX-License-Identifier: Apache-2.0
"""libvirt in a cell: the daemon, the network of the nodes, and virsh."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from building.process import ProgramError, run

URI = "qemu:///system"
NETWORK = "bareon"
#: The bench's own address, on which DHCP and the image servers answer.
SERVER = "192.168.150.1"
#: Another address of the same, for what must be told apart from it: a redirect to a host that is not the first one.
OTHER_NAME = "192.168.150.2"
#: The bridge of the network.
BRIDGE = "bareon0"
#: The port at which machines that boot from the network look for iPXE's script or the ISO, if anybody serves one.
NETWORK_BOOT_PORT = 8088
#: How many nodes DHCP knows; node N has the address 192.168.150.(10 + N).
NODES = 64
#: Seconds until the daemon answers; the first start looks at what qemu can do (8 s at worst seen).
START_LIMIT = 60.0

_DAEMON = """
auth_unix_rw = "none"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
"""
# No user, label, cgroup or mount namespace of their own for the virtual machines: the cell is
# around them already, and machines without systemd lack what those need.
_QEMU = """
user = "root"
group = "root"
security_driver = "none"
dynamic_ownership = 0
remember_owner = 0
stdio_handler = "file"
namespaces = []
cgroup_controllers = []
"""
# "open": libvirt adds no firewall rules. Nothing leads out of the cell anyway.
_NETWORK = """
<network xmlns:dnsmasq="http://libvirt.org/schemas/network/dnsmasq/1.0">
  <name>{name}</name>
  <forward mode="open"/>
  <bridge name="{bridge}" stp="off" delay="0"/>
  <ip address="{server}" netmask="255.255.255.0">
    <dhcp>
      <range start="192.168.150.200" end="192.168.150.250"/>
      {hosts}
    </dhcp>
  </ip>
  <dnsmasq:options>
    <dnsmasq:option value="dhcp-match=set:ipxe,175"/>
    <dnsmasq:option value="dhcp-boot=tag:ipxe,http://{server}:{boot_port}/boot.ipxe"/>
    <dnsmasq:option value="dhcp-vendorclass=set:firmware,HTTPClient"/>
    <dnsmasq:option value="dhcp-option-force=tag:firmware,60,HTTPClient"/>
    <dnsmasq:option value="dhcp-boot=tag:firmware,http://{server}:{boot_port}/boot.iso"/>
  </dnsmasq:options>
</network>
"""


@dataclass(frozen=True)
class Port:
    """A node's place on the network."""

    mac: str
    address: str


def port(number: int) -> Port:
    """Return the hardware and IP address of node ``number`` (0 to :data:`NODES` - 1)."""
    if not 0 <= number < NODES:
        raise ValueError(f"node {number}: the network has room for {NODES}")
    return Port(f"52:54:00:ba:2e:{number:02x}", f"192.168.150.{10 + number}")


class Hypervisor:
    """A libvirtd of this cell; it ends with :meth:`stop` or with the cell.

    ``accelerator`` is what its machines run with: ``kvm`` or ``tcg``.
    """

    def __init__(self, accelerator: str) -> None:
        self.accelerator = accelerator
        self._daemon: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the daemon and the network.

        :raises ProgramError: when the daemon does not answer in time
        """
        settings = Path("/etc/libvirt")
        (settings / "libvirtd.conf").write_text(_DAEMON)
        (settings / "qemu.conf").write_text(_QEMU)
        self._daemon = subprocess.Popen(
            ["libvirtd", "--config", str(settings / "libvirtd.conf")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A Ctrl-C is for the tests; they need the daemon to clean up.
            start_new_session=True,
        )
        self._wait_for_answer(self._daemon)
        hosts = (port(number) for number in range(NODES))
        lines = "\n".join(f'<host mac="{one.mac}" ip="{one.address}"/>' for one in hosts)
        words = {"name": NETWORK, "bridge": BRIDGE, "server": SERVER, "boot_port": NETWORK_BOOT_PORT}
        text = _NETWORK.format(**words, hosts=lines)
        self.virsh("net-create", "/dev/stdin", stdin=text)
        run(["ip", "address", "add", f"{OTHER_NAME}/24", "dev", BRIDGE], timeout=10)

    def _wait_for_answer(self, daemon: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_LIMIT
        while True:
            try:
                self.virsh("version", timeout=START_LIMIT)
            except ProgramError as error:
                log = Path("/var/log/libvirt/libvirtd.log")
                said = log.read_text() if log.exists() else ""
                if daemon.poll() is not None or time.monotonic() > deadline:
                    raise ProgramError(["libvirtd"], error.reason, said or error.output) from error
                time.sleep(0.1)
            else:
                return

    def virsh(self, *arguments: str | Path, timeout: float = 60, stdin: str = "") -> str:
        """Run one virsh command and return what it printed.

        :param timeout: in seconds
        :raises ProgramError: with virsh's error
        """
        argv = ["virsh", "--quiet", "--connect", URI, *arguments]
        return run(argv, timeout=timeout, stdin=stdin).stdout

    def stop(self) -> None:
        """End the daemon; virtual machines that still run are left to the end of the cell."""
        if self._daemon and self._daemon.poll() is None:
            self._daemon.terminate()
            try:
                self._daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._daemon.kill()
                self._daemon.wait()
