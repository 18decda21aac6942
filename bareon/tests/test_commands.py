# SPDX-License-Identifier: Apache-2.0
"""The programs as a user starts them: output, standard error, exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bareon import conf
from bareon.errors import UsageError
from bareon.facts import to_json
from bareon.tests import cases

BIN = Path(sys.executable).parent
INPUT: dict[str, Any] = cases.load(cases.HERE / "cases/plan/root-and-swap.yaml")["input"]


def _run(program: str, *argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BIN / program), *argv], input=stdin, capture_output=True, text=True, check=False)


@pytest.fixture
def facts(tmp_path: Path) -> str:
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(to_json(cases.node("two-disks"))))
    return str(path)


@pytest.fixture
def document(tmp_path: Path) -> str:
    path = tmp_path / "provision.json"
    path.write_text(json.dumps(INPUT))
    return str(path)


def test_version() -> None:
    for program in ("bareon-provision", "bareon-partition", "bareon-data-validator"):
        done = _run(program, "--version")
        assert done.returncode == 0
        assert re.fullmatch(rf"{program} [0-9]+\.[0-9]+\S*\n", done.stdout)


@pytest.mark.parametrize("spelling", [("--input_data_file", "--plan_format"), ("--input-data-file", "--plan-format")])
def test_plan_as_json(facts: str, document: str, spelling: tuple[str, str]) -> None:
    done = _run("bareon-provision", "--plan", "--node_facts", facts, spelling[0], document, f"{spelling[1]}=json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert {"policy", "firmware", "disks", "arrays", "volume_groups", "differences", "steps"} <= set(plan)
    assert plan["disks"][0]["partitions"][0] == {
        "number": 1,
        "device": "/dev/vda1",
        "start": 1048576,
        "size": 25165824,
        "role": "bios_grub",
        "name": "bios_grub",
        "guid": plan["disks"][0]["partitions"][0]["guid"],
        "member_of": None,
        "mount": None,
        "file_system": None,
        "uuid": None,
        "label": None,
        "mkfs": None,
        "images": [],
        "decision": "create",
    }
    assert {"action", "description", "destroys"} == set(plan["steps"][0])


def test_plan_as_text_fits_80_columns(facts: str, document: str) -> None:
    done = _run("bareon-provision", "--plan", "--node_facts", facts, "--input_data_file", document)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    tables = done.stdout.partition("Steps")[0]
    assert max(map(len, tables.splitlines())) <= 80
    assert "/dev/vda  (4 GiB, serial first)" in tables


def test_input_from_an_option_and_from_standard_input(facts: str) -> None:
    text = json.dumps(INPUT)
    for argv, stdin in ((["--input_data", text], ""), (["--input_data_file", "-"], text)):
        done = _run("bareon-provision", "--plan", "--node_facts", facts, *argv, stdin=stdin)
        assert done.returncode == 0, done.stderr


def test_differences_are_in_the_json_plan(facts: str) -> None:
    text = json.dumps({**INPUT, "partitions_policy": "verify"})
    done = _run("bareon-provision", "--plan", "--plan_format=json", "--node_facts", facts, "--input_data", text)
    assert done.returncode == 5
    assert json.loads(done.stdout)["differences"] == ["/dev/vda: expected a gpt table, found none"]
    assert done.stderr.splitlines() == [
        "bareon-provision: /dev/vda: expected a gpt table, found none",
        "bareon-provision: the partitions_policy verify makes no tables; clean makes these disks anew, and all on"
        " them is lost",
    ]


def test_differences_that_were_asked_for(facts: str) -> None:
    """There is no advice to clear the disks, and under any policy the disks are compared."""
    for policy in ("clean", "verify"):
        text = json.dumps({**INPUT, "partitions_policy": policy})
        done = _run("bareon-verify", "--plan", "--plan_format=json", "--node_facts", facts, "--input_data", text)
        assert done.returncode == 5
        assert json.loads(done.stdout)["differences"] == ["/dev/vda: expected a gpt table, found none"]
        assert done.stderr == "bareon-verify: /dev/vda: expected a gpt table, found none\n"


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["--nonsense"], 2, "unrecognized arguments"),
        (["--node_facts", "FACTS"], 2, "add --plan"),
        (["--plan", "--node_facts", "/absent"], 2, "--node_facts: /absent: No such file or directory"),
        (["--plan", "--node_facts", "/dev/null"], 2, "--node_facts: /dev/null: "),
        (["--plan", "--node_facts", "FACTS", "--input_data_file", "/absent"], 2, "/absent is not there"),
        (["--plan", "--node_facts", "FACTS", "--data_driver", "x"], 2, "has no plug-in 'x'; there are: ironic"),
        (["--plan", "--node_facts", "FACTS", "--deploy_driver", "x"], 2, "there are: auto, rsync, swift"),
        (["--plan", "--node_facts", "FACTS", "--actions", "do_nothing"], 2, "has no plug-in 'do_nothing'"),
        (["--plan", "--node_facts", "FACTS", "--actions", "do_copyimage,do_partitioning"], 2, "must come before"),
        (["--plan", "--node_facts", "FACTS", "--actions", "do_copyimage,do_copyimage"], 2, "duplicate action"),
        (
            ["--plan", "--node_facts", "FACTS", "--actions", "do_reboot,do_partitioning"],
            2,
            "do_reboot must be the last",
        ),
        (["--plan", "--node_facts", "FACTS", "--config_drive_path", "/dev/zero"], 3, "/dev/zero: larger than 64 MiB"),
        (["--plan", "--node_facts", "/dev/zero"], 2, "--node_facts: /dev/zero: "),
        (["--plan", "--node_facts", "FACTS", "--image_timeout", "nan"], 2, "image_timeout is a number of seconds"),
        (["--plan", "--node_facts", "FACTS", "--log-config-append", "/absent"], 2, "/absent"),
        (["--plan", "--node_facts", "FACTS", "--image", "a", "--remove_image", "b"], 2, "remove --image"),
        (["--plan_format", "xml"], 2, "plan_format"),
        (["--config-file", "/absent"], 2, "configuration"),
        (["--plan", "--node_facts", "FACTS", "--input_data", "{"], 3, "$: not JSON"),
        (["--plan", "--node_facts", "FACTS", "--input_data", "{}"], 3, "$: the key 'partitions' is missing"),
    ],
)
def test_refusals(facts: str, document: str, argv: list[str], code: int, says: str) -> None:
    given = [facts if word == "FACTS" else word for word in argv]
    if not any(word.startswith("--input") for word in given):
        given += ["--input_data_file", document]
    done = _run("bareon-provision", *given)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[DEFAULT]\nimage_timeout = 60\ndebug = false\nlog_date_format = x\n", None),
        (
            "[DEFAULT]\nimage_keyrign = /etc/keys\n",
            "[DEFAULT] has 'image_keyrign', which is no option; is image_keyring",
        ),
        ("[DEFAULT]\nimage-keyring = /etc/keys\n", "'image-keyring', which is no option; is image_keyring meant?"),
        ("[DEFAULT]\nzzz = 1\n", "[DEFAULT] has 'zzz', which is no option\n"),
        ("[bareon]\nimage_keyring = /etc/keys\n", "[bareon] is read by nobody, its options belong to [DEFAULT]"),
        ("[bareon]\n", None),
    ],
)
def test_names_in_a_configuration_file(
    tmp_path: Path, facts: str, document: str, text: str, says: str | None
) -> None:
    file = tmp_path / "bareon.conf"
    file.write_text(text)
    words = ("--plan", "--node_facts", facts, "--input_data_file", document)
    for place in (("--config-file", str(file)), ("--config-dir", str(tmp_path))):
        done = _run("bareon-provision", *place, *words)
        assert done.returncode == (2 if says else 0), done.stderr
        if says:
            assert f"configuration: {file}: " in done.stderr and says in done.stderr


def test_an_option_of_an_action_of_another_package_is_known(tmp_path: Path) -> None:
    file = tmp_path / "bareon.conf"
    file.write_text("[DEFAULT]\nwidth = 3\n")
    parsed = conf.parse(["--config-file", str(file)], [], "bareon-provision", "1", "")
    conf.check_names(parsed, lambda: ["width"])
    with pytest.raises(UsageError, match="has 'width', which is no option"):
        conf.check_names(parsed, lambda: ["height"])


def test_facts_that_are_no_facts(tmp_path: Path, document: str) -> None:
    for broken, says in (
        ({"format": 99}, "$.format: this bareon reads format 1, not 99"),
        ({"format": 1, "firmware": "bios"}, "$.disks: missing"),
        ({"format": 1, "firmware": "openfirmware", "disks": []}, "$.firmware: expected one of bios, uefi"),
        ({"format": 1, "firmware": "bios", "disks": [{"device": 1}]}, "$.disks[0].size: missing"),
        ({"format": 1, "firmware": "bios", "disks": [{"device": 1, "size": 1}]}, "$.disks[0].device: expected str"),
        ({"format": 1, "firmware": "bios", "disks": [], "more": 1}, "$.more: unknown key"),
        ([], "expected an object"),
        ({"format": 1, "firmware": "bios", "disks": [{"device": "", "size": 1}]}, "$.disks[0].device: '' is no path"),
        (
            {"format": 1, "firmware": "bios", "disks": [{"device": "/dev/a\ud800", "size": 1}]},
            "$.disks[0].device: '/dev/a\\ud800' is no path",
        ),
        (
            {"format": 1, "firmware": "bios", "disks": [{"device": "/dev/../a", "size": 1}]},
            "$.disks[0].device: '/dev/../a' is no path",
        ),
        (
            {"format": 1, "firmware": "bios", "disks": [{"device": "/dev/a", "size": 1, "logical_sector": 1536}]},
            "$.disks[0]: no device has such a size",
        ),
        (
            {
                "format": 1,
                "firmware": "bios",
                "disks": [
                    {
                        "device": "/dev/a",
                        "size": 1,
                        "partitions": [{"number": 1, "device": "/dev/a1", "start": -1, "size": 1, "type": ""}],
                    }
                ],
            },
            "$.disks[0].partitions[0]: no device has such",
        ),
    ):
        path = tmp_path / "facts.json"
        path.write_text(json.dumps(broken))
        done = _run("bareon-provision", "--plan", "--node_facts", str(path), "--input_data_file", document)
        assert (done.returncode, says in done.stderr) == (2, True), done.stderr


def test_validator(document: str) -> None:
    done = _run("bareon-data-validator", document)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{document}: no defects\n", "")
    done = _run("bareon-data-validator", "-", stdin=json.dumps(INPUT))
    assert done.returncode == 0


def test_validator_with_a_deploy_driver(tmp_path: Path) -> None:
    volumes = [{"type": "partition", "mount": x, "size": "400 MiB"} for x in ("/", "/boot")]
    wrong = {
        "partitions": [{"type": "disk", "id": {"type": "name", "value": "vda"}, "volumes": volumes}],
        "images": [{"name": "a", "image_pull_url": "rsync://user:secret@server/a"}],
        "image_deploy_flags": {"rsync_flags": "-a --rsync-path=/x"},
    }
    path = tmp_path / "input.json"
    path.write_text(json.dumps(wrong))
    assert _run("bareon-data-validator", str(path)).returncode == 0
    done = _run("bareon-data-validator", "--deploy_driver", "auto", str(path))
    assert (done.returncode, done.stdout) == (3, "")
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == [
        "$.image_deploy_flags.rsync_flags",
        "$.images[0].image_pull_url",
    ]
    done = _run("bareon-data-validator", "--deploy-driver", "nothing", str(path))
    assert done.returncode == 2 and "there are: auto, rsync, swift" in done.stderr


def test_planning_loads_nothing_that_reaches_servers() -> None:
    code = (
        "import sys, bareon.decide; from bareon.drivers.deploy.kinds import Auto; assert Auto().kinds;"
        " print({'requests', 'urllib3'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_validator_lists_six_defects() -> None:
    case = cases.load(cases.HERE / "cases/error/six-defects.yaml")
    done = _run("bareon-data-validator", "-", stdin=json.dumps(case["input"]))
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 6
    for line, expected in zip(done.stderr.splitlines(), case["lines"], strict=True):
        assert line.startswith(f"bareon-data-validator: {expected.split(':')[0]}")


def test_input_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'{"partitions": "\xff"}')
    done = _run("bareon-data-validator", str(path))
    assert (done.returncode, done.stderr) == (3, "bareon-data-validator: $: not UTF-8 at byte 16\n")


def test_warnings_of_ignored_keys() -> None:
    done = _run(
        "bareon-data-validator", "-", stdin=json.dumps({"partitions": [{**INPUT["partitions"][0], "extra": []}]})
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "warning: $.partitions[0].extra is ignored\n"


@pytest.mark.pain("yes-in-one-mode")
def test_disks_that_lose_data_must_be_allowed(facts: str) -> None:
    text = json.dumps(cases.load(cases.HERE / "cases/plan/two-disks.yaml")["input"])
    base = ["--plan", "--node_facts", facts, "--input_data", text]
    for allowed in ("vda,vdb", "/dev/vda,/dev/vdb", "first,second", "other,second,vda"):
        done = _run("bareon-provision", *base, "--allow_destroy", allowed)
        assert done.returncode == 0, done.stderr
    for allowed in ("vda", "vda,vd", "first,", "first,sec"):
        done = _run("bareon-provision", *base, f"--allow_destroy={allowed}")
        assert done.returncode == 4
        assert done.stderr == (
            "bareon-provision: /dev/vdb (serial second, wwn unknown) would lose data, "
            "and --allow_destroy does not name it\n"
        )


@pytest.mark.pain("equal-serials")
def test_an_allowed_disk_is_one_disk(tmp_path: Path) -> None:
    node = tmp_path / "node.json"
    disks = [
        {"device": f"/dev/sd{letter}", "size": 4 << 30, "serial": "CONTROLLER", "wwn": f"0x{number}"}
        for number, letter in enumerate("ab", 1)
    ]
    node.write_text(json.dumps({"format": 1, "firmware": "bios", "disks": disks}))
    partitions = [{"type": "disk", "id": {"type": "name", "value": "sdb"}, "volumes": []}]
    text = json.dumps({"partitions_policy": "clean", "partitions": partitions})
    base = ["--plan", "--plan_format", "json", "--node_facts", str(node), "--input_data", text]
    done = _run("bareon-partition", *base, "--allow_destroy", "sdb,CONTROLLER")
    assert done.returncode == 4
    assert done.stderr == "bareon-partition: --allow_destroy: 'CONTROLLER' means 2 disks: /dev/sda, /dev/sdb\n"
    done = _run("bareon-partition", *base, "--allow_destroy", "0x2,sdz")
    warning = "--allow_destroy: 'sdz' is no disk of this node"
    assert (done.returncode, done.stderr) == (0, f"warning: {warning}\n")
    assert json.loads(done.stdout)["warnings"] == [warning]


def test_the_log_says_an_error_once(facts: str, document: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = _run("bareon-provision", "--plan", "--node_facts", facts, "--input_data_file", document,
                "--allow_destroy", "nothing", "--log-file", str(log))  # fmt: skip
    says = "/dev/vda (serial first, wwn unknown) would lose data"
    assert (done.returncode, done.stderr.count(says), log.read_text().count(says)) == (4, 1, 1)
    assert done.stderr.endswith(f"bareon-provision: the log is {log}\n")


@pytest.mark.parametrize(("text", "code"), [(json.dumps(INPUT), 0), ("{}", 3)])
def test_a_reader_that_went_away(facts: str, text: str, code: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    argv = [str(BIN / "bareon-provision"), "--plan", "--node_facts", facts, "--input_data", text]
    try:
        assert subprocess.run(argv, stdout=writer, stderr=writer, check=False).returncode == code
    finally:
        os.close(writer)


def test_output_that_cannot_be_written_is_no_success(facts: str, document: str) -> None:
    argv = [str(BIN / "bareon-provision"), "--plan", "--node_facts", facts, "--input_data_file", document]
    with open("/dev/full", "w") as full:
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    said = "bareon-provision: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, said)


def test_output_that_was_closed_before() -> None:
    command = f"{BIN}/bareon-data-validator - >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], input=json.dumps(INPUT), text=True, check=False).returncode == 0
