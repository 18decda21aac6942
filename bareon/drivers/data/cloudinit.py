# SPDX-License-Identifier: Apache-2.0
"""The configdrive made from templates.

Templates are chosen by a profile. They run in a sandbox, and values reach them as values: a template writes each by a
filter that makes one word of its format of it: ``yaml``, ``shell`` or ``tojson``. No message quotes any.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bareon.drivers.data import configdrive as documents
from bareon.drivers.data.document import listed_words
from bareon.errors import Defect, InvalidInput
from bareon.model.configdrive import Configdrive

if TYPE_CHECKING:
    from bareon.drivers.data.template import Sandbox

KINDS = ("boothook", "cloud_config", "meta_data")
_FOLDER = "templates/nailgun"
_ENDING = ".jinja2"
_MIME = {"boothook": "cloud-boothook", "cloud_config": "cloud-config"}
_BOUNDARY = "==bareon=="  # the parts are in base64, which cannot hold it
#: What an expression of a template, or the file of one, may raise.
_FAILURES = (TypeError, ValueError, ArithmeticError, LookupError, RecursionError, OSError)
_OVERRIDES = "$.ks_meta.cloud_init_templates"


def missing(value: dict[str, Any]) -> Iterator[Defect]:
    """Keys that are missing from a document although it has a profile."""
    meta = value["ks_meta"]
    if "hostname" not in value:
        yield Defect("$", "the key 'hostname' is missing beside 'profile'")
    for setup, host in (("puppet_auto_setup", "puppet_master"), ("mco_auto_setup", "mco_host")):
        if meta.get(setup) and host not in meta:
            yield Defect("$.ks_meta", f"the key {host!r} is missing beside {setup!r}")
    for number, repo in enumerate(meta.get("repo_setup", {}).get("repos", ())):
        if repo["type"] == "deb" and "suite" not in repo:
            yield Defect(f"$.ks_meta.repo_setup.repos[{number}]", "the key 'suite' is missing")


def configdrive(value: dict[str, Any], operators: str | None) -> Configdrive:
    """The configdrive of a document without :func:`missing` parts.

    :param operators: a folder of templates that come before those of the package.
    :raises InvalidInput: when there is no such template, or it fails.
    """
    templates = _Templates(operators)
    words = _words(value)
    texts: dict[str, str] = {}
    defects: list[Defect] = []
    for kind in KINDS:
        try:
            texts[kind] = templates.render(kind, value["profile"], _chosen(value).get(kind), words)
        except InvalidInput as error:
            defects += error.defects
    if defects:
        raise InvalidInput(defects)
    found: dict[str, Any] = {"meta_data": _meta_data(texts, value), "user_data": _multipart(texts)}
    if network := _network(words):
        found["network_data"] = network
    return documents.from_documents(found, "$.profile")


def _chosen(value: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = value["ks_meta"].get("cloud_init_templates", {})
    return found


class _Templates:
    """The templates in the operator's folder and in the package, by their plain names."""

    def __init__(self, operators: str | None) -> None:
        self._operators = Path(operators) if operators else None

    def render(self, kind: str, profile: str, chosen: str | None, words: dict[str, Any]) -> str:
        """The text that a template of a kind makes: the ``chosen`` one, else that of the profile."""
        import jinja2

        from bareon.drivers.data.template import Excess

        path = f"{_OVERRIDES}.{kind}" if chosen else "$.profile"
        name = chosen or self._of_profile(kind, profile)
        if name not in self._names:
            raise InvalidInput(
                [Defect(path, f"there is no template {name!r}; there are: {', '.join(sorted(self._names))}")]
            )
        try:
            return self._sandbox.rendered(name, words)
        except jinja2.TemplateSyntaxError as error:
            reason = f"line {error.lineno} is no valid template text"
        except Excess as error:
            reason = str(error)
        except (jinja2.TemplateError, *_FAILURES) as error:
            reason = f"it fails with {type(error).__name__}"  # whose text may quote a value
        raise InvalidInput([Defect(path, f"template {name!r}: {reason}")])

    def _of_profile(self, kind: str, profile: str) -> str:
        """The template of the longest beginning of the profile that has one, else the one for all."""
        ends = [match.start() for match in re.finditer(r"[-_.]", profile)]
        beginnings = [profile, *(profile[:end] for end in reversed(ends))]
        names = (f"{kind}_{beginning}{_ENDING}" for beginning in beginnings)
        return next((name for name in names if name in self._names), f"{kind}{_ENDING}")

    def _text(self, name: str) -> str | None:
        """The text of a template, ``None`` where there is none. The names are those that the folders list."""
        if self._operators is None or name not in self._listed:
            return _own().get(name)
        from bareon.drivers.data.template import LONGEST, Excess

        with (self._operators / name).open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
        if len(text) > LONGEST:
            raise Excess(f"it has more than {LONGEST} characters")
        return text

    @functools.cached_property
    def _listed(self) -> frozenset[str]:
        return _listed(self._operators) if self._operators else frozenset()

    @property
    def _names(self) -> set[str]:
        return {*self._listed, *_own()}

    @functools.cached_property
    def _sandbox(self) -> Sandbox:
        from bareon.drivers.data.template import Sandbox

        return Sandbox(self._text, {"yaml": as_yaml, "shell": lambda text: shlex.quote(str(text))})


def _listed(folder: Path) -> frozenset[str]:
    """The names of the templates in a folder. A link in it is one if it leads to another place in the folder."""
    try:
        place = folder.resolve(strict=True)
        found = (path for path in folder.iterdir() if path.suffix == _ENDING and path.is_file())
        return frozenset(path.name for path in found if path.resolve().is_relative_to(place))
    except OSError as error:
        raise InvalidInput([Defect(f"--template_path {folder}", f"cannot be read: {error.strerror}")]) from None


@functools.cache
def _own() -> dict[str, str]:
    folder = importlib.resources.files("bareon.drivers.data").joinpath(_FOLDER)
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir() if file.name.endswith(_ENDING)}


def as_yaml(value: object) -> str:
    """A value as one line of YAML.

    All but plain ASCII is escaped: some characters would end a line of YAML, others are not allowed in it.
    """
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"[^ -~]", lambda x: f"\\u{ord(x[0]):04x}" if ord(x[0]) < 65536 else f"\\U{ord(x[0]):08x}", text)


def _words(value: dict[str, Any]) -> dict[str, Any]:
    """The variables of the templates. All are defined: ``None`` or empty where the input does not have them."""
    meta = value["ks_meta"]
    interfaces = [
        {"name": name, "mac": x["mac_address"].lower(), "ip": x.get("ip_address"), "netmask": x.get("netmask")}
        for name, x in value.get("interfaces", {}).items()
    ]
    chosen = value.get("kernel_options", {}).get("netcfg/choose_interface", "").lower()
    with_address = [x for x in interfaces if x["ip"]]
    keys = [key.strip("\"' ") for key in (*meta.get("authorized_keys", ()), meta.get("auth_key", ""))]
    return {
        "profile": value["profile"],
        "fqdn": value["hostname"],
        "hostname": value["hostname"].partition(".")[0],
        "interfaces": interfaces,
        "admin": next(iter([x for x in interfaces if x["mac"] == chosen] or with_address), None),
        "name_servers": _several(value.get("name_servers")),
        "search": _several(value.get("name_servers_search")),
        **{word: meta.get(word) for word in ("gw", "master_ip", "timezone")},
        "authorized_keys": [key for key in keys if key],
        "repos": meta.get("repo_setup", {}).get("repos", []),
        "users": [_user(account) for account in meta.get("user_accounts", ())],
        "puppet": _puppet(meta, value["hostname"]),
        "mcollective": _mcollective(meta, value["hostname"]),
    }


def _several(value: str | list[str] | None) -> list[str]:
    texts = [value] if isinstance(value, str) else value or []
    return [word for text in texts for word in listed_words(text)]


def _user(account: dict[str, Any]) -> dict[str, Any]:
    """An entry for cloud-init's ``users``."""
    found = {"name": account["name"], "shell": "/bin/bash", "lock_passwd": "password" not in account}
    found |= {new: account[old] for old, new in (("homedir", "homedir"), ("sudo", "sudo")) if account.get(old)}
    if account.get("ssh_keys"):
        found["ssh_authorized_keys"] = account["ssh_keys"]
    if password := account.get("password"):
        found["passwd" if password.startswith("$") else "plain_text_passwd"] = password
    return found


def _puppet(meta: dict[str, Any], fqdn: str) -> dict[str, Any] | None:
    if not meta.get("puppet_auto_setup"):
        return None
    conf = {"main": {"server": meta["puppet_master"]}, "agent": {"certname": fqdn, "pluginsync": "true"}}
    enabled = bool(meta.get("puppet_enable"))
    return {"install": False, "start_service": enabled, "conf": conf, "enabled": enabled}


def _mcollective(meta: dict[str, Any], fqdn: str) -> dict[str, Any] | None:
    """``conf`` for ``server.cfg``."""
    if not meta.get("mco_auto_setup"):
        return None
    connector = meta.get("mco_connector", "rabbitmq")
    pool = f"plugin.{connector}.pool.1"
    identity = meta.get("mco_identity", -1)
    conf = {
        "main_collective": "mcollective",
        "collectives": "mcollective",
        "identity": fqdn if identity in (-1, "-1", "") else str(identity),
        "connector": connector,
        f"plugin.{connector}.vhost": meta.get("mco_vhost", "mcollective"),
        f"plugin.{connector}.pool.size": "1",
        f"{pool}.host": meta["mco_host"],
        f"{pool}.port": "61613",
        f"{pool}.user": meta.get("mco_user", "mcollective"),
        f"{pool}.password": meta.get("mco_password", ""),
        "securityprovider": "psk",
        "plugin.psk": meta.get("mco_pskey", "unset"),
    }
    return {"conf": conf, "enabled": bool(meta.get("mco_enable"))}


def _meta_data(texts: dict[str, str], value: dict[str, Any]) -> dict[str, Any]:
    try:
        found = json.loads(texts["meta_data"])
    except ValueError:
        found = None
    if not isinstance(found, dict):
        path = f"{_OVERRIDES}.meta_data" if "meta_data" in _chosen(value) else "$.profile"
        raise InvalidInput([Defect(path, "the template for meta_data makes no JSON object")])
    return found


def _multipart(texts: dict[str, str]) -> str:
    """Boothook and cloud-config in one, as cloud-init takes it."""
    from email.mime.multipart import MIMEMultipart
    from email.mime.text import MIMEText

    whole = MIMEMultipart(boundary=_BOUNDARY)
    for kind, subtype in _MIME.items():
        part = MIMEText(texts[kind], subtype, "utf-8")
        part.add_header("Content-Disposition", "attachment", filename=kind)
        whole.attach(part)
    return whole.as_string()


def _network(words: dict[str, Any]) -> dict[str, Any] | None:
    """``network_data.json`` of the interfaces that have an address; ``None`` where none has, which means DHCP."""
    static = [x for x in words["interfaces"] if x["ip"]]
    if not static:
        return None
    networks: list[dict[str, Any]] = []
    for x in static:
        address = {"type": "ipv4", "ip_address": x["ip"], "netmask": x["netmask"]}
        networks.append({"id": f"network-{x['name']}", "link": x["name"], **address})
        if words["gw"] and x is words["admin"]:
            networks[-1]["routes"] = [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": words["gw"]}]
    return {
        "links": [
            {"id": x["name"], "name": x["name"], "type": "phy", "ethernet_mac_address": x["mac"]} for x in static
        ],
        "networks": networks,
        "services": [{"type": "dns", "address": address} for address in words["name_servers"]],
    }
