# SPDX-License-Identifier: Apache-2.0
"""The nailgun dialect beyond its cases: the configdrive that templates make, of values that nobody should trust."""

from __future__ import annotations

import copy
import email
import json
import random
import shlex
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bareon.drivers.data import cloudinit
from bareon.drivers.data.nailgun import Nailgun
from bareon.errors import InvalidInput
from bareon.model.deployment import Deployment
from bareon.model.location import Location
from bareon.tests.cases import HERE, load
from bareon.tests.damage import damaged, inputs

HOSTILE = "a: b # 'c' \"d\" $(touch /e) `f` {{ 7 * 7 }} {% raw %} \\ \u2028\u0085 \U0001f600 --==bareon=="
LINE = HOSTILE.replace("\u2028\u0085", "")


def document(**changes: Any) -> dict[str, Any]:
    """The example of two disks, with keys of ``ks_meta`` added."""
    value = copy.deepcopy(load(HERE / "cases/plan/nailgun-two-disks.yaml")["input"])
    value["ks_meta"] |= changes
    found: dict[str, Any] = value
    return found


def parsed(value: dict[str, Any], templates: Path | None = None) -> Deployment:
    driver = Nailgun()
    driver.template_path = str(templates) if templates else None
    return driver.parse(json.dumps(value).encode())


def files(value: dict[str, Any], templates: Path | None = None) -> dict[str, Any]:
    """The files of the configdrive, its JSON read; and the parts of the user data by their types."""
    drive = parsed(value, templates).configdrive
    assert drive
    found: dict[str, Any] = dict(drive.files)
    for part in email.message_from_bytes(found.pop("user_data")).walk():
        if not part.is_multipart():
            text = part.get_payload(decode=True)
            assert isinstance(text, bytes)
            found[part.get_content_subtype()] = text.decode()
    return {name: json.loads(x) if name.endswith(".json") else x for name, x in found.items()}


def cloud_config(value: dict[str, Any]) -> dict[str, Any]:
    text = files(value)["cloud-config"]
    assert text.startswith("#cloud-config\n")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def test_a_small_document() -> None:
    found = files(document())
    assert found["meta_data.json"] == {"name": "node-1", "hostname": "node-1.example.org", "public_keys": {}}
    assert found["cloud-boothook"].startswith("#cloud-boothook\n#!/bin/sh\n")
    assert "network_data.json" not in found
    assert yaml.safe_load(found["cloud-config"])["hostname"] == "node-1"


def test_hostile_values_stay_values() -> None:
    config = cloud_config(
        document(
            authorized_keys=[HOSTILE],
            auth_key='"key"',
            user_accounts=[{"name": "a", "password": HOSTILE, "sudo": [LINE], "ssh_keys": [HOSTILE]}],
            mco_auto_setup=True,
            mco_host="broker",
            mco_password=HOSTILE,
        )
    )
    assert config["ssh_authorized_keys"] == [HOSTILE, "key"]
    user = config["users"][1]
    assert (user["plain_text_passwd"], user["sudo"], user["ssh_authorized_keys"]) == (HOSTILE, [LINE], [HOSTILE])
    assert config["mcollective"]["conf"]["plugin.rabbitmq.pool.1.password"] == HOSTILE


def test_hostile_values_in_metadata() -> None:
    assert files(document(authorized_keys=[HOSTILE]))["meta_data.json"]["public_keys"] == {"key-0": HOSTILE}


@pytest.mark.parametrize("profile", ["debian", "centos"])
def test_boothook_is_a_script_whose_words_stay_words(profile: str) -> None:
    """Even of values that no document can have."""
    hostile = {"name_servers": ["10.0.0.1", "$(touch"], "search": ["a;b"], "master_ip": f"{LINE}\nx"}
    text = cloudinit._Templates(None).render("boothook", profile, None, hostile)
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    words = shlex.split(text, comments=True)
    assert {"search a;b", "10.0.0.1", "$(touch", f"{LINE}\nx"} <= set(words)


@pytest.mark.parametrize(("password", "key"), [("$6$salt$hash", "passwd"), ("plain", "plain_text_passwd")])
def test_passwords(password: str, key: str) -> None:
    user = cloud_config(document(user_accounts=[{"name": "a", "password": password}]))["users"][1]
    assert (user[key], user["lock_passwd"]) == (password, False)


def test_secrets_are_not_in_a_repr() -> None:
    value = document(user_accounts=[{"name": "a", "password": "hunter2"}], mco_password="hunter2")
    assert "hunter2" not in repr(parsed(value))


def test_repositories_by_profile() -> None:
    repos = [
        {"name": "a", "type": "deb", "uri": "http://me@server:80/a", "suite": "b", "section": "c d", "priority": 900},
        {"name": "e", "type": "rpm", "uri": "http://server/e", "priority": None},
    ]
    value = document(repo_setup={"repos": repos})
    config = cloud_config(value)
    assert config["apt"]["sources"] == {"a.list": {"source": "deb http://me@server:80/a b c d"}}
    assert config["write_files"][0]["content"] == 'Package: *\nPin: origin "server"\nPin-Priority: 900\n'
    assert "yum_repos" not in config
    config = cloud_config(value | {"profile": "centos-7_x86_64"})
    assert config["yum_repos"]["e"]["baseurl"] == "http://server/e"
    assert "apt" not in config


def test_services() -> None:
    config = cloud_config(document(puppet_auto_setup=1, puppet_enable=0, puppet_master="p", timezone="Europe/Prague"))
    assert config["puppet"]["conf"]["main"] == {"server": "p"}
    assert config["runcmd"] == [["systemctl", "disable", "--now", "puppet"]]
    assert config["timezone"] == "Europe/Prague"


def test_network() -> None:
    value = document(gw="10.0.0.1") | {
        "name_servers": ["10.0.0.2"],
        "interfaces": {
            "eth0": {"mac_address": "08:00:27:79:DA:80", "ip_address": "10.0.0.3", "netmask": "255.255.255.0"},
            "eth1": {"mac_address": "08:00:27:46:43:60"},
        },
    }
    found = files(value)["network_data.json"]
    assert [x["ethernet_mac_address"] for x in found["links"]] == ["08:00:27:79:da:80"]
    assert found["networks"][0]["routes"] == [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"}]
    assert found["services"] == [{"type": "dns", "address": "10.0.0.2"}]


def test_templates_of_the_operator(tmp_path: Path) -> None:
    (tmp_path / "boothook_debian_12.jinja2").write_text("#cloud-boothook\necho {{ fqdn | shell }}\n")
    (tmp_path / "own.jinja2").write_text('{"name": {{ hostname | tojson }}, "own": true}')
    found = files(document(cloud_init_templates={"meta_data": "own.jinja2"}), tmp_path)
    assert found["cloud-boothook"] == "#cloud-boothook\necho node-1.example.org\n"
    assert found["meta_data.json"] == {"name": "node-1", "own": True}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ fqdn", "line 1 is no valid template text"),
        ("{{ nobody }}", "it fails with UndefinedError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "it fails with SecurityError"),
        ("{% include '../../../../etc/passwd' %}", "it fails with TemplateNotFound"),
        ("{{ 1 / 0 }}", "it fails with ZeroDivisionError"),
        ("[1]", "makes no JSON object"),
        ("{{ users.append(1) }}", "it fails with SecurityError"),
        ("{{ name_servers.append('x') }}", "it fails with SecurityError"),
        ("{% for i in range(1000) %}{% for j in range(1000) %}{% endfor %}{% endfor %}", "more than 100000 rounds"),
        ("{% for i in range(100001) %}{% endfor %}", "it fails with OverflowError"),
        ("{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}", "rounds"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "it fails with RecursionError"),
        (
            "{% for i in range(9) recursive %}{{ loop(range(9)) }}{% endfor %}",
            "more than 100000 rounds|RecursionError",
        ),
        ("{% for i in range(2000) %}{{ ' ' * 1000 }}{% endfor %}", "it makes more than 1048576 characters"),
        ("{{ 'x' * 10000000000 }}", "it makes a text of more than 1048576 characters"),
        ("{{ 10000000000 * [1] }}", "it makes a text of more than 1048576 characters"),
        ("{{ 9 ** 99999999 }}", "it makes a number that is too large"),
        ("{{ lipsum(100000000) }}", "it fails with UndefinedError"),
        ("x" * 1048577, "it has more than 1048576 characters"),
        ("{{ self.__init__.__globals__ }}", "it fails with SecurityError"),
        ("{{ range.__globals__ }}", "it fails with SecurityError"),
        ("{{ '{0.__class__}'.format(1) }}", "it fails with SecurityError"),
        ("{% import '/etc/passwd' as x %}", "it fails with TemplateNotFound"),
        ("{{ environ }}", "it fails with UndefinedError"),
    ],
)
def test_templates_that_fail(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "own.jinja2").write_text(text)
    with pytest.raises(InvalidInput, match=reason) as caught:
        parsed(document(cloud_init_templates={"meta_data": "own.jinja2"}), tmp_path)
    assert [defect.path for defect in caught.value.defects] == ["$.ks_meta.cloud_init_templates.meta_data"]


def test_what_a_template_may_see() -> None:
    """The words of the document that cloud-init needs, and nothing of the machine."""
    words = set(cloudinit._words(document() | {"hostname": "a"}))
    assert words == {
        *("profile", "fqdn", "hostname", "interfaces", "admin", "name_servers", "search", "gw", "master_ip"),
        *("timezone", "authorized_keys", "repos", "users", "puppet", "mcollective"),
    }
    sandbox = cloudinit._Templates(None)._sandbox
    assert set(sandbox.globals) == {"range", "dict", "cycler", "joiner", "namespace"}
    assert isinstance(sandbox, ImmutableSandboxedEnvironment) and sandbox.undefined is StrictUndefined


def test_loops_that_are_counted_are_loops_as_before(tmp_path: Path) -> None:
    text = "{% for i in range(3) if i %}{{ [loop.index, loop.length, loop.last, i] }}{% else %}none{% endfor %}"
    (tmp_path / "boothook.jinja2").write_text(text + "{% for i in [] %}{% else %}none{% endfor %}")
    assert files(document(), tmp_path)["cloud-boothook"] == "[1, 2, False, 1][2, 2, True, 2]none"


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside.jinja2"])
def test_links_of_a_folder_of_templates_stay_in_it(tmp_path: Path, target: str) -> None:
    (tmp_path / "outside.jinja2").write_text("secret")
    folder = tmp_path / "templates"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner/real").write_text('{"name": "inside"}')
    (folder / "own.jinja2").symlink_to("inner/real")
    (folder / "out.jinja2").symlink_to(target)
    assert (
        files(document(cloud_init_templates={"meta_data": "own.jinja2"}), folder)["meta_data.json"]["name"]
        == "inside"
    )
    with pytest.raises(InvalidInput, match=r"there is no template 'out.jinja2'"):
        parsed(document(cloud_init_templates={"meta_data": "out.jinja2"}), folder)
    (folder / "include.jinja2").write_text("{% include 'out.jinja2' %}{% include 'inner/real' %}")
    with pytest.raises(InvalidInput, match="it fails with TemplateNotFound"):
        parsed(document(cloud_init_templates={"meta_data": "include.jinja2"}), folder)


def test_a_template_that_is_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "boothook.jinja2").write_bytes(b"\xff")
    with pytest.raises(InvalidInput, match="it fails with UnicodeDecodeError"):
        parsed(document(), tmp_path)


def test_a_folder_of_templates_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--template_path"):
        parsed(document(), tmp_path / "none")


def test_no_profile_no_configdrive() -> None:
    value = document()
    del value["profile"]
    driver = Nailgun()
    assert driver.parse(json.dumps(value).encode()).configdrive is None
    assert "without a profile" in driver.warnings[0]


@pytest.mark.parametrize(
    ("uri", "beside"),
    [
        ("http://server/env_1_ubuntu_1404.img.gz", "http://server/env_1_ubuntu_1404.yaml"),
        ("http://me:word@server/a.b/c.img?sig=1", "http://me:word@server/a.b/c.yaml"),
        ("file:///srv/images/root", "file:///srv/images/root.yaml"),
        ("http://server", None),
        ("http://server/", None),
        ("http://[::1/a.img", None),
    ],
)
def test_metadata_is_beside_the_root_image(uri: str, beside: str | None) -> None:
    value = document()
    value["ks_meta"]["image_data"]["/"]["uri"] = uri
    assert parsed(value).images[0].metadata_url == (Location(beside) if beside else None)


def test_a_damaged_document_is_refused_or_understood() -> None:
    chance = random.Random(3)
    originals = inputs("nailgun")
    answers: Counter[bool] = Counter()
    for _ in range(600):
        try:
            parsed(damaged(chance.choice(originals), chance))
        except InvalidInput as error:
            assert all(defect.path.startswith("$") for defect in error.defects)
            answers[False] += 1
        else:
            answers[True] += 1
    assert min(answers[True], answers[False]) > 30
