# SPDX-License-Identifier: Apache-2.0
"""The configuration files, rings and device of a Swift on one machine."""

from __future__ import annotations

import os
from pathlib import Path

from building.process import run

USER = "bareon:deployer"
KEY = "swift-secret-of-the-bench"
DEVICE = "d1"
#: Where the servers listen, the proxy on every address and the others on loopback only.
PORTS = {"proxy": 8080, "account": 6202, "container": 6201, "object": 6200}
_MEMCACHED_PORT = "11211"
MEMCACHED = ("-u", "root", "-l", "127.0.0.1", "-p", _MEMCACHED_PORT, "-U", "0", "-m", "16")
#: The Python of the distribution, which its Swift is installed for.
PYTHON = "/usr/bin/python3"
#: Bytes of the file system for the device, where directories keep no extended attributes.
DEVICE_SIZE = 4 << 30

_COMMON = """\
[swift-hash]
swift_hash_path_suffix = bench
swift_hash_path_prefix = bench
[storage-policy:0]
name = only
default = yes
"""
_DEFAULT = """\
[DEFAULT]
bind_ip = {address}
bind_port = {port}
user = root
swift_dir = {place}
devices = {place}/devices
mount_check = false
# In the one process: it starts sooner, and ends with it.
workers = 0
fallocate_reserve = 0
log_level = INFO
"""
_PROXY = """\
[pipeline:main]
pipeline = catch_errors cache tempurl tempauth slo dlo proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:tempauth]
use = egg:swift#tempauth
user_{user} = {key} .admin
[filter:tempurl]
use = egg:swift#tempurl
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:proxy-logging]
use = egg:swift#proxy_logging
"""
_BACK_END = """\
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
# Three calls of swift-ring-builder for each ring would take five seconds.
MAKE_RINGS = f"""
import sys
from swift.common.ring import RingBuilder
for name, port in { ({name: port for name, port in PORTS.items() if name != "proxy"})!r}.items():
    ring = RingBuilder(part_power=0, replicas=1, min_part_hours=0)
    ring.add_dev(dict(id=0, region=1, zone=1, weight=1.0, ip="127.0.0.1", port=port, device="{DEVICE}", meta="",
                      replication_ip="127.0.0.1", replication_port=port))
    ring.rebalance()
    ring.get_ring().save(f"{{sys.argv[1]}}/{{name}}.ring.gz")
"""


def write(place: Path) -> None:
    """Write the configuration of all servers into a directory."""
    (place / "swift.conf").write_text(_COMMON)
    for name, port in PORTS.items():
        address = "0.0.0.0" if name == "proxy" else "127.0.0.1"
        text = _DEFAULT.format(address=address, port=port, place=place)
        if name == "proxy":
            text += _PROXY.format(user=USER.replace(":", "_"), key=KEY, memcached=_MEMCACHED_PORT)
        else:
            text += _BACK_END.format(name=name)
        (place / f"{name}.conf").write_text(text)


def keeps_attributes(place: Path) -> bool:
    """Tell whether files there can have the attributes in which Swift keeps what it knows of an object.

    A tmpfs can since Linux 6.6.
    """
    probe = place / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.probe", b"x" * 4000)
    except OSError:
        return False
    finally:
        probe.unlink()
    return True


def mount_file_system(place: Path, image: Path) -> None:
    """Mount a new file system there; the loop device goes with the mount, the mount with the cell."""
    with image.open("xb") as file:
        file.truncate(DEVICE_SIZE)
    run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", image], timeout=60)
    run(["mount", "-o", "loop", image, place], timeout=60)
