# SPDX-License-Identifier: Apache-2.0
"""Calls to Ironic, against a server that does wrong whatever a network, a proxy or an operator can."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bareon.callback.api import Api, Busy, Failure, Refused
from bareon.callback.caller import Caller, Pace, Ramdisk
from bareon.callback.connection import Connector, trust
from bareon.errors import ActionFailed
from bareon.model.location import Location
from bareon.tests.ironicapi import MAC, TOKEN, UUID, Ironic, Reply, certificate, serving

RAMDISK = Ramdisk(lambda: ["52:54:00:aa:00:01", MAC], "ssh-ed25519 AAAA", 22, "7.1")
QUICK = Pace(0.001, 0.002, 0.001, 0.001, 0.001)
CONTENT = {
    "callback_url": "https://127.0.0.1:22",
    "agent_version": "bareon-7.1",
    "agent_verify_ca": "ssh-ed25519 AAAA",
}


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def ironic() -> Iterator[Ironic]:
    with serving(Ironic()) as ironic:
        yield ironic


def api(*urls: str, authority: str | None = None, insecure: bool = False, seconds: float = 10.0) -> Api:
    return Api([Location(url) for url in urls], Connector(trust(authority, insecure), seconds))


def caller(ironic: Ironic, folder: Path, token: str | None = None, ramdisk: Ramdisk = RAMDISK) -> Caller:
    return Caller(api(ironic.url), ramdisk, folder / "run/token.json", token, QUICK)


class _Enough(BaseException):
    """Ends a caller as a signal does."""


def heartbeats(caller: Caller, ironic: Ironic, number: int, folder: Path) -> None:
    """Look up, and go on until that many heartbeats came."""

    def count(_request: object) -> None:
        if len(ironic.heartbeats) >= number:
            done.append(True)

    done: list[bool] = []
    ironic.on_request = count
    ironic.heartbeat_timeout = 0.01
    original = Api.heartbeat

    def ended(self: Api, *arguments: object) -> None:
        if done:
            raise _Enough
        original(self, *arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch, pytest.raises(_Enough):
        patch.setattr(Api, "heartbeat", ended)
        caller.heartbeats(caller.look_up(10))


def test_lookup_and_heartbeat(ironic: Ironic, tmp_path: Path) -> None:
    agent = caller(ironic, tmp_path)
    node = agent.look_up(10)
    agent.once(node)
    assert (node.uuid, node.heartbeat_timeout, node.token) == (UUID, 300.0, TOKEN)
    assert TOKEN not in repr(node)
    lookup, heartbeat = ironic.requests
    assert (lookup.method, lookup.path) == ("GET", f"/v1/lookup?addresses=52:54:00:aa:00:01,{MAC}")
    assert (heartbeat.method, heartbeat.path) == ("POST", f"/v1/heartbeat/{UUID}")
    assert heartbeat.body == {**CONTENT, "agent_token": TOKEN}
    for request in ironic.requests:
        assert request.headers["X-OpenStack-Ironic-API-Version"] == "1.68"
        assert "Authorization" not in request.headers


def test_the_request_id_and_the_path_of_the_url(ironic: Ironic) -> None:
    ironic.script = [Reply(404)]
    own = Api([Location(f"{ironic.url}/baremetal")], Connector(trust(None, False), 10.0), "req-1")
    with pytest.raises(Failure):
        own.lookup([MAC])
    assert ironic.requests[0].path == f"/baremetal/v1/lookup?addresses={MAC}"
    assert ironic.requests[0].headers["X-OpenStack-Request-ID"] == "req-1"


def test_a_node_that_does_not_wait_yet(ironic: Ironic, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """404 is tried again, and told once."""
    ironic.waiting = False
    ironic.on_request = lambda request: setattr(ironic, "waiting", len(ironic.requests) > 3)
    with caplog.at_level(logging.INFO):
        assert caller(ironic, tmp_path).look_up(10).uuid == UUID
    assert len(ironic.requests) == 4
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"127.0.0.1 has no node with 52:54:00:aa:00:01, {MAC} that waits for a ramdisk; trying again"
    ]


def test_a_lookup_has_an_end(ironic: Ironic, tmp_path: Path) -> None:
    ironic.waiting = False
    with pytest.raises(ActionFailed, match=r"no node was found within 0\.5 s: 127\.0\.0\.1 has no node with"):
        caller(ironic, tmp_path).look_up(0.5)


def test_interfaces_that_appear_late(ironic: Ironic, tmp_path: Path) -> None:
    there: list[list[str]] = [[], [], [MAC]]
    late = replace(RAMDISK, addresses=lambda: there.pop(0) if len(there) > 1 else there[0])
    assert caller(ironic, tmp_path, ramdisk=late).look_up(10).uuid == UUID
    assert len(ironic.requests) == 1


def test_a_token_on_the_command_line(ironic: Ironic, tmp_path: Path) -> None:
    """Ironic tells none then. If it does, the other is of an earlier boot."""
    ironic.told = True
    assert caller(ironic, tmp_path, "from-the-line").look_up(10).token == "from-the-line"
    ironic.told = False
    assert caller(ironic, tmp_path, "from-the-line").look_up(10).token == TOKEN
    assert caller(ironic, tmp_path, "from-the-line").look_up(10).token == TOKEN


def test_a_token_is_kept_for_a_restart(ironic: Ironic, tmp_path: Path) -> None:
    assert caller(ironic, tmp_path).look_up(10).token == TOKEN
    assert (tmp_path / "run/token.json").stat().st_mode & 0o777 == 0o600
    assert caller(ironic, tmp_path).look_up(10).token == TOKEN
    kept = json.loads((tmp_path / "run/token.json").read_text())
    assert kept == {"node": UUID, "token": TOKEN}


@pytest.mark.parametrize("kept", ["", "{", "[]", '{"node": "another", "token": "x"}', None])
def test_a_token_that_was_told_before(ironic: Ironic, tmp_path: Path, kept: str | None) -> None:
    ironic.told = True
    if kept is not None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run/token.json").write_text(kept)
    with pytest.raises(ActionFailed, match=r"has told the token of node .* before, and tells it once: boot the node"):
        caller(ironic, tmp_path).look_up(0.5)
    assert ironic.heartbeats == []


def test_heartbeats_go_on(ironic: Ironic, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        heartbeats(caller(ironic, tmp_path), ironic, 3, tmp_path)
    assert ironic.heartbeats == [{**CONTENT, "agent_token": TOKEN}] * 3
    assert [record.getMessage() for record in caplog.records] == [
        f"this is node {UUID} of 127.0.0.1",
        "127.0.0.1 takes heartbeats of https://127.0.0.1:22",
    ]


def test_a_time_out_of_nothing_is_no_flood(ironic: Ironic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that is told a time-out of a billionth of a second sends no more than a heartbeat in half a second."""
    waits: list[float] = []

    def pause(seconds: float) -> bool:
        waits.append(seconds)
        if len(waits) == 20:
            raise _Enough
        return False

    monkeypatch.setattr("bareon.callback.caller._pause", pause)
    calls = Caller(api(ironic.url), RAMDISK, tmp_path / "memory")
    ironic.heartbeat_timeout = 1e-9
    with pytest.raises(_Enough):
        calls.heartbeats(calls.look_up(5))
    assert all(0.5 <= seconds <= 1 for seconds in waits)


def test_heartbeats_after_faults(ironic: Ironic, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A locked node, a conductor that is gone, and a token that is none: each is told once, and tried again."""
    wrong = ironic.refused(400, f"Invalid or missing agent token received. {TOKEN}")
    gone = Reply(503, b"<html>proxy</html>")
    ironic.script = [None, ironic.locked(), ironic.locked(), gone, gone, wrong, wrong, None]
    with caplog.at_level(logging.INFO):
        heartbeats(caller(ironic, tmp_path), ironic, 8, tmp_path)
    assert [record.getMessage() for record in caplog.records][1:] == [
        f"127.0.0.1 refuses the heartbeat: Node {UUID} is locked by host lab, please retry after the current"
        " operation is completed. (HTTP 409); trying again",
        "127.0.0.1 refuses the heartbeat: Reason (HTTP 503); trying again",
        "127.0.0.1 refuses the heartbeat: Invalid or missing agent token received. *** (HTTP 400); token,"
        " address and host key hold for one boot, so have Ironic boot the node again; trying again",
        "127.0.0.1 takes heartbeats of https://127.0.0.1:22",
    ]
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("status", "kind", "slow"),
    [
        (409, Busy, False),
        (423, Busy, False),
        (500, Failure, False),
        (503, Failure, False),
        (429, Failure, False),
        (400, Refused, True),
        (401, Refused, True),
        (403, Refused, True),
        (404, Refused, True),
        (418, Refused, True),
    ],
)
def test_what_is_worth_another_attempt(ironic: Ironic, status: int, kind: type[Failure], slow: bool) -> None:
    ironic.script = [ironic.refused(status, "The words of Ironic.")]
    with pytest.raises(Failure, match=rf"refuses the heartbeat: The words of Ironic\. \(HTTP {status}\)") as raised:
        api(ironic.url).heartbeat(UUID, TOKEN, CONTENT)
    assert type(raised.value) is kind
    wait = Pace().after(raised.value, 1)
    assert (30 <= wait <= 60) if slow else (1 <= wait <= 10)


def test_a_node_that_was_rebooted_by_hand(ironic: Ironic, tmp_path: Path) -> None:
    """The medium still has the token, but the host key is another one."""
    ironic.told, ironic.key = True, "ssh-ed25519 BBBB"
    agent = caller(ironic, tmp_path, TOKEN)
    node = agent.look_up(10)
    with pytest.raises(
        ActionFailed, match=r'provided "agent_verify_ca" \(HTTP 400\); token, address and host key hold for'
    ):
        agent.once(node)


def test_waits_grow_and_are_shaken() -> None:
    waits = [[Pace().after(Failure(), number) for _ in range(200)] for number in (1, 3, 9, 5000)]
    assert [(min(some) >= 1, max(some) <= most) for some, most in zip(waits, (2, 8, 30, 30), strict=True)] == [
        (True, True)
    ] * 4
    assert min(waits[2]) >= 15 and all(len({round(wait, 9) for wait in some}) > 100 for some in waits)


def test_a_heartbeat_at_once(ironic: Ironic, tmp_path: Path) -> None:
    """SIGUSR1 cuts the wait short, and the next one as well: Ironic may have done nothing with the heartbeat."""
    agent = caller(ironic, tmp_path)
    node = agent.look_up(10)

    def again(_request: object) -> None:
        if len(ironic.heartbeats) == 1:
            # To this thread, which holds it back: another one of the process would end of it.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        elif len(ironic.heartbeats) == 3:
            os.kill(os.getpid(), signal.SIGUSR2)

    def enough(_number: int, _frame: object) -> None:
        raise _Enough

    ironic.on_request = again
    before = signal.signal(signal.SIGUSR2, enough)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        with pytest.raises(_Enough):
            agent.heartbeats(node)  # a wait of at least 50 seconds otherwise
    finally:
        signal.signal(signal.SIGUSR2, before)
        signal.sigtimedwait({signal.SIGUSR1}, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    assert len(ironic.heartbeats) == 3


def test_an_address_that_is_none_to_come_back_to(ironic: Ironic, tmp_path: Path) -> None:
    agent = caller(ironic, tmp_path, ramdisk=replace(RAMDISK, advertised="fe80::1"))
    node = agent.look_up(10)
    with pytest.raises(ActionFailed, match="ipa-advertise-host="):
        agent.heartbeats(node)


def test_an_address_of_ipv6(tmp_path: Path) -> None:
    with serving(Ironic(), host="::1") as ironic:
        agent = caller(ironic, tmp_path)
        agent.once(agent.look_up(10))
    assert ironic.callback_url == "https://[::1]:22"


def test_an_advertised_address(ironic: Ironic, tmp_path: Path) -> None:
    agent = caller(ironic, tmp_path, ramdisk=replace(RAMDISK, advertised="2001:db8::7", port=2222))
    agent.once(agent.look_up(10))
    assert ironic.callback_url == "https://[2001:db8::7]:2222"


# Versions


def test_an_api_that_speaks_newer_versions_only(ironic: Ironic) -> None:
    ironic.least, ironic.most = (1, 90), (1, 300)
    own = api(ironic.url)
    assert own.lookup([MAC]).token == TOKEN
    own.heartbeat(UUID, TOKEN, CONTENT)
    versions = [request.headers["X-OpenStack-Ironic-API-Version"] for request in ironic.requests]
    assert versions == ["1.68", "1.90", "1.90"]


def test_an_api_that_is_too_old(ironic: Ironic) -> None:
    ironic.most = (1, 62)
    with pytest.raises(Refused, match=r"has Ironic's API up to 1\.62 only, bareon needs 1\.68 or later"):
        api(ironic.url).lookup([MAC])


def test_406_of_somebody_else(ironic: Ironic) -> None:
    ironic.script = [Reply(406, b"no")]
    with pytest.raises(Failure, match="not as Ironic does"):
        api(ironic.url).lookup([MAC])


# Answers that are none


def lookup_answer(**config: object) -> bytes:
    return json.dumps({"node": {"uuid": UUID}, "config": {"heartbeat_timeout": 300, **config}}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"[" * 100_000,
        b"\xff",
        b'{"node": {}}',
        b'{"node": {}, "config": []}',
        json.dumps({"node": {"uuid": "../v1/nodes"}, "config": {"heartbeat_timeout": 300}}).encode(),
        json.dumps({"node": {"uuid": 5}, "config": {"heartbeat_timeout": 300}}).encode(),
        lookup_answer(heartbeat_timeout=0),
        lookup_answer(heartbeat_timeout=-5),
        lookup_answer(heartbeat_timeout=True),
        lookup_answer(heartbeat_timeout="300"),
        lookup_answer(heartbeat_timeout=1e9),
        lookup_answer().replace(b"300", b"NaN"),
        lookup_answer(agent_token="a\r\nb"),
        lookup_answer(agent_token=["x"]),
        lookup_answer(agent_token=""),
        lookup_answer(agent_token="x" * 513),
    ],
)
def test_a_lookup_that_answers_rubbish(ironic: Ironic, body: bytes) -> None:
    ironic.script = [Reply(200, body)]
    with pytest.raises(Failure, match="by what is none of Ironic's: is ipa-api-url right"):
        api(ironic.url).lookup([MAC])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error_message": {"faultstring": "An object."}}', "An object."),
        (b'{"error_message": "no JSON"}', "Reason"),
        (b'{"faultstring": "\\u001b[2J two\\nlines"}', r"\x1b[2J two lines"),
        (b'{"title": "%s"}' % (b"x" * 1000), "x" * 300),
        (b"[" * 100_000, "Reason"),
        (b"<html>\x1b[2J", "Reason"),
    ],
)
def test_the_words_of_an_error(ironic: Ironic, body: bytes, said: str) -> None:
    ironic.script = [Reply(500, body)]
    with pytest.raises(Failure) as raised:
        api(ironic.url).lookup([MAC])
    assert str(raised.value) == f"127.0.0.1 refuses the lookup: {said} (HTTP 500)"


def test_an_answer_without_end(ironic: Ironic) -> None:
    ironic.script = [Reply(200, b" " * ((1 << 20) + 1))]
    with pytest.raises(Failure, match="more than 1048576 bytes"):
        api(ironic.url).lookup([MAC])


@pytest.mark.parametrize("size", [b"-1", b"-5"])
def test_a_chunk_of_no_size(ironic: Ironic, size: bytes) -> None:
    """http.client reads whatever comes after a size of -1, and ends by a ValueError after any other below 0."""
    chunks = size + b"\r\n" + b" " * (8 << 20)
    ironic.script = [Reply(200, chunks, {"Transfer-Encoding": "chunked"})]
    with pytest.raises(Failure, match="more than 1048576 bytes"):
        api(ironic.url).lookup([MAC])


def test_a_head_without_end(ironic: Ironic) -> None:
    ironic.script = [Reply(200, b"{}", {"X-Long": "x" * 100_000})]
    with pytest.raises(Failure, match="does not answer as HTTP"):
        api(ironic.url).lookup([MAC])


@pytest.mark.parametrize("body", [b"", b"{}" * 500])
def test_an_answer_byte_by_byte(ironic: Ironic, body: bytes) -> None:
    """No single byte takes long: only the whole answer does."""
    ironic.script = [Reply(200, body, drip=0.02)]
    with pytest.raises(Failure, match=r"gave no whole answer within 0\.3 s"):
        api(ironic.url, seconds=0.3).lookup([MAC])


def test_an_answer_that_breaks_off(ironic: Ironic) -> None:
    ironic.script = [Reply(200, b"{", {"Content-Length": "500"})]
    with pytest.raises(Failure, match="broke off in the middle"):
        api(ironic.url).lookup([MAC])


def test_what_is_no_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-OpenSSH\r\n")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(Failure, match="does not answer as HTTP"):
            api(f"http://127.0.0.1:{server.getsockname()[1]}").lookup([MAC])


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_an_api_that_comes_late(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Unreachable, then there."""
    with serving(Ironic()) as ironic:
        url, ironic.url = ironic.url, f"http://127.0.0.1:{closed_port()}"
        agent = caller(ironic, tmp_path)
        with pytest.raises(ActionFailed, match=r"127\.0\.0\.1 cannot be reached: Connection refused"):
            agent.look_up(0.5)
        ironic.url = url
        assert caller(ironic, tmp_path).look_up(10).uuid == UUID


def test_the_first_of_several_apis_that_answers(ironic: Ironic) -> None:
    own = api(f"http://127.0.0.1:{closed_port()}", ironic.url)
    own.lookup([MAC])
    assert own._urls[0].reveal() == ironic.url


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(Failure, match=r"no-such-host\.invalid is not known"):
        api("http://no-such-host.invalid").lookup([MAC])


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(ironic: Ironic, status: int) -> None:
    """The token comes to no other host."""
    with serving(Ironic()) as other:
        there = f"{other.url.replace('://', '://bob:hush@')}/v1/heartbeat/{UUID}?sig=hush\x1b"
        ironic.script = [Reply(status, b"", {"Location": there})]
        with pytest.raises(
            Refused, match=r"redirects to http://\*\*\*@127\.0\.0\.1:\d+/v1/.* which is not followed"
        ) as raised:
            api(ironic.url).heartbeat(UUID, TOKEN, CONTENT)
        assert other.requests == []
    assert "hush" not in str(raised.value) and "\x1b" not in str(raised.value)


# TLS


def test_a_certificate_that_is_known(tmp_path: Path) -> None:
    file = certificate(tmp_path)
    with serving(Ironic(), file) as ironic:
        own = api(ironic.url, authority=f"# Zertifikat f\xfcr Ironic\n{file.read_text()}")
        assert own.lookup([MAC]).token == TOKEN


def test_a_certificate_that_is_not_known(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with serving(Ironic(), certificate(tmp_path)) as ironic:
        for authority in (None, certificate(other).read_text()):
            with pytest.raises(
                Refused, match=r"the certificate of 127\.0\.0\.1 is not trusted \(.*\): ipa-ca-file= names"
            ):
                api(ironic.url, authority=authority).lookup([MAC])
        assert ironic.requests == []
        assert api(ironic.url, insecure=True).lookup([MAC]).token == TOKEN


def test_a_certificate_of_another_host(tmp_path: Path) -> None:
    file = certificate(tmp_path, "DNS:ironic.example")
    with serving(Ironic(), file) as ironic, pytest.raises(Refused, match="IP address mismatch"):
        api(ironic.url, authority=file.read_text()).lookup([MAC])


def test_https_never_becomes_http(ironic: Ironic) -> None:
    with pytest.raises(Failure, match=r"no TLS with 127\.0\.0\.1"):
        api(ironic.url.replace("http:", "https:")).lookup([MAC])
    assert ironic.requests == []


@pytest.mark.parametrize("text", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n"])
def test_what_has_no_certificate(text: str) -> None:
    with pytest.raises(ValueError, match="has no certificate"):
        trust(text, False)


def test_old_tls_is_not_spoken() -> None:
    assert trust(None, True).minimum_version == ssl.TLSVersion.TLSv1_2


# Proxies, and what else the environment has


def test_a_proxy(ironic: Ironic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", ironic.url.replace("://", "://bob:hu%20sh@"))
    ironic.script = [Reply(200, lookup_answer(agent_token=TOKEN))]
    assert api("http://ironic.invalid:6385").lookup([MAC]).token == TOKEN
    (request,) = ironic.requests
    assert request.path == f"http://ironic.invalid:6385/v1/lookup?addresses={MAC}"
    assert request.headers["Host"] == "ironic.invalid:6385"
    assert request.headers["Proxy-Authorization"] == "Basic Ym9iOmh1IHNo"


def test_a_tunnel_of_a_proxy(ironic: Ironic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", ironic.url.replace("://", "://bob:hush@"))
    with pytest.raises(Failure, match=r"cannot be reached: Tunnel connection failed: 407"):
        api("https://ironic.invalid").lookup([MAC])
    assert (ironic.requests[0].method, ironic.requests[0].path) == ("CONNECT", "ironic.invalid:443")
    assert ironic.requests[0].headers["Proxy-Authorization"] == "Basic Ym9iOmh1c2g="


def test_hosts_without_a_proxy(ironic: Ironic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(Failure, match="Connection refused"):
        api(ironic.url).lookup([MAC])
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert api(ironic.url).lookup([MAC]).token == TOKEN


@pytest.mark.parametrize("proxy", ["https://proxy", "socks5://bob:hush@proxy", "http://"])
def test_a_proxy_that_cannot_be(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(Failure, match="of http_proxy is none that is reached by http://") as raised:
        api("http://ironic.invalid").lookup([MAC])
    assert "hush" not in str(raised.value)


def test_netrc_is_not_read(ironic: Ironic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("default login bob password hush\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    api(ironic.url).lookup([MAC])
    assert "Authorization" not in ironic.requests[0].headers
