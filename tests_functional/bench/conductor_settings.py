# SPDX-License-Identifier: Apache-2.0
"""ironic.conf of the bench's Ironic, and what differs from one to the next."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests_functional.bench.httpd.certificate import Certificate

#: Seconds without a heartbeat after which Ironic gives a deployment up.
CALLBACK_LIMIT = 20


@dataclass(frozen=True)
class Site:
    """Where an Ironic is, and who its ramdisks are: by default processes of this machine, reached on loopback.

    ``files_port`` is that of its HTTP server for files, 0 any. With a ``certificate`` its API speaks TLS.
    ``callback_limit`` is in seconds, as :data:`CALLBACK_LIMIT`; so are ``heartbeat``, the longest time between two,
    and ``silence``, after which bareon gives an SSH connection up.
    """

    address: str = "127.0.0.1"
    files_port: int = 0
    certificate: Certificate | None = None
    callback_limit: int = CALLBACK_LIMIT
    heartbeat: int = 300
    silence: int = 10
    kernel_parameters: str = ""


LOOPBACK = Site()


def settings(site: Site, place: Path, port: int, url: str, files_url: str) -> str:
    """Return the text.

    :param place: the folder for all files
    :param port: of the API, whose URL is ``url``
    :param files_url: where its folder ``http`` is served
    """
    secure = site.certificate
    return _CONFIGURATION.format(
        place=place,
        port=port,
        url=url,
        files_url=files_url,
        site=site,
        interval=max(1, site.callback_limit // 20),
        tls=_TLS.format(public=secure.public, private=secure.private) if secure else "",
        authority=f"api_ca_file = {secure.public}" if secure else "",
    )


_CONFIGURATION = """
[DEFAULT]
debug = true
auth_strategy = noauth
rpc_transport = none
host = bench
my_ip = {site.address}
state_path = {place}
log_file = {place}/ironic.log
tempdir = {place}
isolinux_bin = /usr/lib/ISOLINUX/isolinux.bin
enabled_hardware_types = bareon-redfish,bareon-ipmi,fake-hardware
enabled_bios_interfaces = no-bios,fake
enabled_boot_interfaces = redfish-virtual-media,ipxe,fake
enabled_console_interfaces = no-console,fake
enabled_deploy_interfaces = bareon,autodetect,direct,fake
autodetect_deploy_interfaces = bareon,direct
enabled_firmware_interfaces = no-firmware,fake
enabled_inspect_interfaces = no-inspect,fake
enabled_management_interfaces = redfish,ipmitool,noop,fake
enabled_network_interfaces = noop
enabled_power_interfaces = redfish,ipmitool,fake
enabled_raid_interfaces = no-raid,fake
enabled_rescue_interfaces = no-rescue,fake
enabled_storage_interfaces = noop,fake
enabled_vendor_interfaces = no-vendor,fake
default_network_interface = noop
[api]
host_ip = {site.address}
port = {port}
ramdisk_heartbeat_timeout = {site.heartbeat}
{tls}
[agent]
{authority}
deploy_logs_local_path = {place}/kept
certificates_path = {place}/certificates
[bareon]
ssh_timeout = {site.silence}
[conductor]
automated_clean = false
send_sensor_data = false
sync_power_state_interval = -1
deploy_callback_timeout = {site.callback_limit}
check_provision_state_interval = {interval}
file_url_allowed_paths = {place}/ramdisk
[database]
connection = sqlite:///{place}/ironic.db
[deploy]
http_root = {place}/http
http_url = {files_url}
[dhcp]
dhcp_provider = none
[inspector]
auth_type = none
[oslo_concurrency]
lock_path = {place}/locks
[pxe]
kernel_append_params = {site.kernel_parameters}
tftp_root = {place}/tftp
tftp_master_path = {place}/tftp/master
images_path = {place}/images
instance_master_path = {place}/images/master
[redfish]
kernel_append_params = {site.kernel_parameters}
use_swift = false
[service_catalog]
auth_type = none
endpoint_override = {url}
"""
_TLS = """enable_ssl_api = true
cert_file = {public}
key_file = {private}"""
