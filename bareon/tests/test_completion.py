# SPDX-License-Identifier: Apache-2.0
"""The completion for bash, asked in a bash."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "etc/bareon/bareon.bash-completion"


def completed(line: str, folder: Path) -> list[str]:
    """What the last word of a command line can become; bash has split it at blanks and at ``=``."""
    words = line.replace("=", " = ").split(" ")
    script = (
        f"source {SCRIPT}; cd {folder};"
        f" COMP_WORDS=({' '.join(map(shlex.quote, words))}); COMP_CWORD={len(words) - 1};"
        f' _bareon {words[0]}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("bareon-provision --plan_", ["--plan_format"]),
        ("bareon-provision --plan-f", ["--plan-format"]),
        ("bareon-partition --plan_format ", ["text", "json"]),
        ("bareon-partition --plan-format j", ["json"]),
        ("bareon-provision --progress=", ["auto", "bar", "plain", "json", "none"]),
        ("bareon-provision --data_driver ", ["ironic", "nailgun"]),
        ("bareon-provision --deploy_driver s", ["swift"]),
        ("bareon-provision --actions do_b", ["do_bootloader"]),
        ("bareon-verify --actions do_v", ["do_verify"]),
        ("bareon-provision --input_data_file in", ["input.json"]),
        ("bareon-provision --plan in", ["input.json"]),
        ("bareon-data-validator --d", ["--data_driver", "--deploy_driver"]),
        ("bareon-data-validator i", ["input.json"]),
        ("bareon-report --h", ["--html", "--help"]),
        ("bareon-ironic-callback --ss", ["--ssh_port"]),
        ("bareon-boot ", ["list", "status", "switch", "confirm", "await", "refresh"]),
        ("bareon-boot switch 2 ", ["--once", "--within"]),
    ],
)
def test_completion(line: str, wanted: list[str], tmp_path: Path) -> None:
    (tmp_path / "input.json").touch()
    assert completed(line, tmp_path) == wanted


def test_every_command_is_completed() -> None:
    done = subprocess.run(
        ["bash", "--norc", "-c", f"source {SCRIPT}; complete -p"], capture_output=True, text=True, check=True
    )
    setup = (Path(__file__).parents[2] / "setup.cfg").read_text()
    commands = [
        line.split()[0] for line in setup.splitlines() if line.startswith("    bareon-") and "bareon.cmd" in line
    ]
    assert len(commands) == 14
    assert [f"complete -o filenames -F _bareon {name}" in done.stdout for name in commands] == [True] * 14
