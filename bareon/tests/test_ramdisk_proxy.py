# SPDX-License-Identifier: Apache-2.0
"""A ramdisk behind a proxy: the words, and a real proxy by which the document, the events and images come."""

from __future__ import annotations

import ssl
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.errors import InvalidInput
from bareon.network import proxy
from bareon.network.words import parse
from bareon.tests.forwarder import forwarding
from bareon.tests.imageserver import serving
from bareon.tests.ironicapi import certificate
from bareon.tests.test_transfer_http import IMAGE, SETTINGS, bring, device, intact  # noqa: F401  a fixture
from bareon.tests.test_unattended import root  # noqa: F401  a fixture
from bareon.tests.test_unattended_program import EXAMPLE, NODE, PROGRAM, Ramdisk, ramdisk  # noqa: F401  a fixture
from bareon.text import redacted

NETWORK = "import sys; from bareon.cmd.network import main; sys.exit(main(sys.argv[1:]))"
#: Names that no resolver knows.
DEPLOY, IMAGES = "deploy.invalid", "images.invalid"


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        ("quiet", {}),
        ("no_proxy=192.0.2.1", {}),
        ("proxy=proxy.example:3128", {"http_proxy": "http://proxy.example:3128"}),
        ("proxy=http://me:p%27w@192.0.2.1:3128/", {"http_proxy": "http://me:p%27w@192.0.2.1:3128"}),
        (
            "proxy=http://[2001:db8::1]:3128 no_proxy=.example.org,192.0.2.0/24,host:8080",
            {"http_proxy": "http://[2001:db8::1]:3128", "no_proxy": ".example.org,192.0.2.0/24,host:8080"},
        ),
    ],
)
def test_words(words: str, variables: dict[str, str]) -> None:
    wanted = parse(words)
    if "http_proxy" in variables:
        variables = {**variables, "https_proxy": variables["http_proxy"]}
    assert proxy.variables(wanted.proxy, wanted.direct) == variables


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("proxy=me:hush@proxy.example", "proxy=…: has no port"),
        ("proxy=https://me:hush@proxy.example:3128", "proxy=…: is reached by http:// alone"),
        ("proxy=", "proxy=…: must be [http://]"),
        ("proxy=me:hush'@proxy.example:3128", "proxy=…: must be [http://]"),
        ("proxy=me:hush@proxy.example:99999", "proxy=…: must be [http://]"),
        ("proxy=http://me:hush@proxy.example:3128/path", "proxy=…: must be [http://]"),
        ("no_proxy=a,,b", "no_proxy=a,,b: nothing is no host"),
        ("no_proxy=http://a", "no_proxy=http://a: http://a is no host"),
    ],
)
def test_a_wrong_word_is_named_without_its_password(word: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(word)
    assert str(caught.value).startswith(said)
    assert "hush" not in str(caught.value)


def test_a_password_is_in_no_facts() -> None:
    """The kernel's command line is told in the node facts; a proxy needs no scheme there."""
    for account in ("me:hush@", "http://me:hu@sh@", "me@"):
        shown = redacted(f'quiet proxy={account}192.0.2.1:3128 "http_proxy={account}h:1" no_proxy=a root=x@y')
        host = "http://***@" if "http" in account else "***@"
        assert shown == f'quiet proxy={host}192.0.2.1:3128 "http_proxy={host}h:1" no_proxy=a root=x@y'


def test_what_is_told_to_shells_and_to_who_logs_in(tmp_path: Path) -> None:
    """Both programs read what is written; sshd as it does for the first command of a connection."""
    wanted = parse("proxy=http://me:a!b*c(d)&;e@192.0.2.1:3128 no_proxy=*,.example.org")
    found = proxy.variables(wanted.proxy, wanted.direct)
    (file := tmp_path / "environment").write_text(proxy.for_shell(found))
    shown = subprocess.run(["sh", "-c", f". {file}; env"], capture_output=True, text=True, check=True).stdout
    assert {f"{name}={value}" for name, value in found.items()} <= set(shown.splitlines())
    line = proxy.for_sshd(found)
    assert line == (
        'SetEnv "http_proxy=http://me:a!b*c(d)&;e@192.0.2.1:3128" "https_proxy=http://me:a!b*c(d)&;e@192.0.2.1:3128" '
        '"no_proxy=*,.example.org"\n'
    )
    assert proxy.for_sshd({}) == proxy.for_shell({}) == ""


def through(ramdisk: Ramdisk, words: str) -> subprocess.CompletedProcess[str]:  # noqa: F811
    """Start the network and then the unattended run, as init and its scripts do."""
    line = f"{words} ip=eth0:none bareon.input=http://{DEPLOY}/documents/{{mac}} bareon.after=shell"
    (ramdisk.root / "proc/cmdline").write_text(f"{line}\n")
    environment = {"PATH": f"{ramdisk.programs}:/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(EXAMPLE.parents[2])}
    (ramdisk.programs / "ip").write_text("#!/bin/sh\n")
    (ramdisk.programs / "ip").chmod(0o755)
    argv = [sys.executable, "-c", NETWORK, "--root", str(ramdisk.root)]
    subprocess.run(argv, env=environment, timeout=60, check=True)
    script = f'. {ramdisk.root}/run/bareon-network/environment; exec "$@"'
    argv = ["sh", "-c", script, "sh", sys.executable, "-c", PROGRAM, "--root", str(ramdisk.root)]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_node_deploys_itself_through_a_proxy(ramdisk: Ramdisk) -> None:  # noqa: F811
    """The proxy alone knows the server, which is told of everything; the password is in no log."""
    with forwarding({DEPLOY: int(ramdisk.url.rpartition(":")[2])}, "me:hush'") as between:
        words = f"proxy=me:hush%27@{between.address}"
        done = through(ramdisk, f"{words} bareon.events=http://{DEPLOY}/events")
    assert (done.returncode, done.stderr) == (0, "")
    (run,) = ramdisk.runs
    assert (run.state, run.report["outcome"]) == ("done", "done")
    assert f"GET http://{DEPLOY}/documents/{NODE}" in between.asked
    assert f"POST http://{DEPLOY}/events" in between.asked
    assert "hush" not in (ramdisk.root / "var/log/bareon-unattended.log").read_text()
    assert (ramdisk.root / "run/bareon-network/environment").stat().st_mode & 0o777 == 0o600


def test_a_host_without_the_proxy(ramdisk: Ramdisk) -> None:  # noqa: F811
    with forwarding({}, "me:hush") as between:
        done = through(ramdisk, f"proxy=me:hush@{between.address} no_proxy={DEPLOY} bareon.timeout=2")
    assert (done.returncode, between.asked) == (7, []), done.stderr
    assert f"the name {DEPLOY} cannot be resolved" in done.stderr


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_image_through_a_proxy(
    scheme: str,
    device: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own = certificate(tmp_path, f"DNS:{IMAGES}")
    context.load_cert_chain(own)
    wrap = (lambda x: context.wrap_socket(x, server_side=True)) if scheme == "https" else None
    monkeypatch.delenv("no_proxy", raising=False)
    with serving(IMAGE, wrap=wrap) as site:
        port = int(site.url.split(":")[2].partition("/")[0])
        with forwarding({IMAGES: port, f"{IMAGES}:443": port}, "me:hush") as between:
            wanted = parse(f"proxy=http://me:hush@{between.address}")
            for name, value in proxy.variables(wanted.proxy, wanted.direct).items():
                monkeypatch.setenv(name, value)
            bring(f"{scheme}://{IMAGES}/image", device, replace(SETTINGS, ca_file=str(own)))
    assert intact(device)
    assert between.asked == [f"GET http://{IMAGES}/image" if scheme == "http" else f"CONNECT {IMAGES}:443"]
