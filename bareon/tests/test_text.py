# SPDX-License-Identifier: Apache-2.0
"""Words for people: no secret is in them, and names on disks or in inputs never reach a terminal as commands."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from oslo_log import log

from bareon import conf
from bareon.cmd.exit import guarded
from bareon.errors import UnsuitableNode
from bareon.plan import text
from bareon.tests import recording
from bareon.text import shown, visible

EVIL = "\x1b[2J\x9b2J\x7f\u202e\u2028\n 99. No content will be lost"


def test_what_is_not_seen_is_shown() -> None:
    assert visible("é \U0001f600 a\tb\x1b[2J\x85\u202e") == "é \U0001f600 a\\tb\\x1b[2J\\x85\\u202e"
    assert visible("a\nb", "\n") == "a\nb"


def test_a_plan_shows_a_disk_with_an_evil_name() -> None:
    plan, node = recording.case("two-disks")
    disks = tuple(dataclasses.replace(disk, model=EVIL, serial=EVIL) for disk in node.disks)
    rendered = text.render(plan, dataclasses.replace(node, disks=disks))
    assert rendered.count("\\x1b[2J") == 2 * len(plan.layout.disks)
    assert all(char.isprintable() or char == "\n" for char in rendered)
    assert not any(line.startswith(" 99.") for line in rendered.splitlines())


def test_a_log_shows_an_evil_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What programs of an image say, or os-prober found, neither moves a cursor nor looks like a line of bareon's."""
    monkeypatch.setattr(log, "setup", lambda *_: None)
    options = dict.fromkeys(("log_dir", "use_syslog", "use_journal", "log_config_append"))
    before = logging.getLogRecordFactory()
    try:
        conf.set_up_logging(SimpleNamespace(log_file=str(tmp_path / "log"), **options), default_file=True)
        record = logging.getLogger("x").makeRecord("x", logging.INFO, "", 0, "%s: it says\n%s", (EVIL, EVIL), None)
    finally:
        logging.setLogRecordFactory(before)
    lines = record.getMessage().split("\n")
    assert len(lines) == 4 and all(line.startswith("    ") for line in lines[1:])
    assert all(line.isprintable() for line in lines) and "\\x1b[2J" in lines[0]


def test_an_error_shows_an_evil_name(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> None:
        raise UnsuitableNode(f"no disk {EVIL}")

    assert guarded("bareon-provision", body) == 4
    said = capsys.readouterr().err
    assert "\\x1b[2J" in said and said.count("\n") == 1 and said.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://server/a", "http://server/a"),
        ("https://me:word@server:81/a?temp_url_sig=0a1b&x=2", "https://***@server:81/a?temp_url_sig=***&x=***"),
        ("https://server/a?token", "https://server/a?***"),
        ("https://server/a#part", "https://server/a"),
        ("http://[broken/a?sig=secret", "http://[broken/a?sig=***"),
        ("http://me:wo/rd@server/a", "http://***@server/a"),
        ("http://me:w@o/rd@[::1/a", "http://***@[::1/a"),
        ("me:word@server::module", "***@server::module"),
        ("http:/me:word@server/a", "http:/***@server/a"),
        ("http:\\\\me:word@server/a", "http:\\\\***@server/a"),
        ("http://server/a;sig=word", "http://server/a;sig=***"),
        ("http://server/a%3Ftemp_url_sig=word", "http://server/a%3Ftemp_url_sig=***"),
        ("https://server/a?x=1#me:word@server", "https://***@server"),
        ("http://me:word@[broken/a", "http://***@[broken/a"),
        ("server::module/path", "server::module/path"),
        ("swift://container/object", "swift://container/object"),
    ],
)
def test_shown(url: str, expected: str) -> None:
    assert shown(url) == expected
