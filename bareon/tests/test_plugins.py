# SPDX-License-Identifier: Apache-2.0
"""Plug-ins of others: the example package as pip installs it, and bad ones, which are named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "doc/source/examples"
NODE = EXAMPLES / "nodes/two-disks.json"
INPUT = EXAMPLES / "two-disks.json"
RUN = "import sys; from bareon.cmd.provision import main; sys.exit(main())"

EVIL = """
import os, sys
from dataclasses import dataclass
from bareon.actions.base import Action
from bareon.step import Step

ILL = os.environ["ILL"]
if ILL == "import":
    raise RuntimeError("boom")
if ILL == "assert":
    assert not "boom"
if ILL == "exit on import":
    sys.exit("boom")

class Evil(Action):
    name = "do_good" if ILL == "name" else "do_evil"

    def plan(self, job):
        return [WickedStep(self.name)]

def ill(method):
    if method == ILL:
        raise KeyError("boom")
    if ILL == "exit" and method == "plan":
        sys.exit(0)

for method in ("__init__", "reserve", "requires", "validate", "plan", "warnings"):
    def wrong(self, *args, method=method, right=getattr(Evil, method)):
        ill(method)
        return None if ILL == f"no {method}" else right(self, *args)
    setattr(Evil, method, wrong)
Evil.__abstractmethods__ = frozenset()

@dataclass(frozen=True)
class WickedStep(Step):
    @property
    def description(self):
        ill("description")
        return None if ILL == "no description" else "Be wicked"

    def preflight(self):
        ill("preflight")

    def run(self, progress):
        ill("run")
        return {}
"""


def _package(place: Path, name: str, module: str, group: str, points: str) -> None:
    """A package with entry points, as an installation leaves it."""
    (place / f"{name}.py").write_text(module)
    info = place / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{points}\n")


def _run(place: Path, *argv: str, code: str = RUN, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *argv]
    path = os.pathsep.join([str(place), str(ROOT)])
    everything = {**os.environ, "PYTHONPATH": path, **env}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=everything)


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    _package(tmp_path, "evil", EVIL, "bareon.actions", "do_evil = evil:Evil")
    return tmp_path


@pytest.mark.parametrize(
    ("ill", "says"),
    [
        ("import", "plug-in 'do_evil' is broken: evil:Evil: RuntimeError: boom"),
        ("assert", "plug-in 'do_evil' is broken: AssertionError"),
        ("__init__", "plug-in 'do_evil' is broken: evil:Evil: KeyError: 'boom'"),
        ("name", "plug-in 'do_evil' calls itself 'do_good'"),
        ("reserve", "plug-in do_evil of evil 1.0 failed (evil, line 23, in ill): KeyError: 'boom'"),
        ("validate", "plug-in do_evil of evil 1.0 failed (evil, line 23, in ill): KeyError: 'boom'"),
        ("plan", "plug-in do_evil of evil 1.0 failed (evil, line 23, in ill): KeyError: 'boom'"),
        ("description", "plug-in do_evil of evil 1.0 failed (evil, line 23, in ill): KeyError: 'boom'"),
        ("exit", "plug-in do_evil of evil 1.0 failed (evil, line 25, in ill): SystemExit: 0"),
        ("no reserve", "plug-in do_evil: reserve returned NoneType, not Deployment"),
        ("no plan", "plug-in do_evil: plan returned NoneType, not steps"),
        ("no requires", "plug-in do_evil: requires returned NoneType, not Iterable"),
        ("no description", "plug-in do_evil: WickedStep.description returned NoneType, not str"),
    ],
)
def test_a_bad_plug_in_is_named(evil: Path, ill: str, says: str) -> None:
    argv = ["--plan", "--node_facts", str(NODE), "--input_data_file", str(INPUT)]
    done = _run(evil, *argv, "--actions", "do_partitioning,do_evil", ILL=ill)
    assert done.returncode == 4, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("ill", "kind"), [("preflight", "UnsuitableNode"), ("run", "ActionFailed")])
def test_a_bad_step_is_named(evil: Path, ill: str, kind: str) -> None:
    code = f"""
from bareon.actions.base import Action
from bareon import plugin
from bareon.errors import {kind}
from bareon import executor
from bareon.plan.plan import Plan
action = plugin.load("bareon.actions", "do_evil", Action)
plan = Plan(None, tuple(action.plan(None)))
try:
    with plugin.blamed({kind}):
        executor.preflight(plan)
        executor.execute(plan, [])
except {kind} as error:
    print(error)
"""
    done = _run(evil, code=code, ILL=ill)
    assert done.stdout == "plug-in do_evil of evil 1.0 failed (evil, line 23, in ill): KeyError: 'boom'\n", (
        done.stderr
    )


def test_a_bad_data_driver_is_named(tmp_path: Path) -> None:
    module = """
from bareon.drivers.data.base import DataDriver
class Odd(DataDriver):
    def parse(self, text):
        return {}["x"] if text != b"{}" else {}
"""
    _package(tmp_path, "odd", module, "bareon.drivers.data", "odd = odd:Odd")
    code = "import sys; from bareon.cmd.validate import main; sys.exit(main())"
    done = _run(tmp_path, "--data_driver", "odd", str(INPUT), code=code)
    assert (done.returncode, "Traceback" in done.stderr) == (4, False)
    assert "plug-in odd of odd 1.0 failed (odd, line 5, in parse): KeyError: 'x'" in done.stderr
    (tmp_path / "input").write_text("{}")
    done = _run(tmp_path, "--data_driver", "odd", str(tmp_path / "input"), code=code)
    assert done.returncode == 4
    assert "plug-in odd: parse returned dict, not Deployment" in done.stderr


def test_a_name_that_two_packages_claim(tmp_path: Path) -> None:
    for name in ("one", "two"):
        _package(tmp_path, name, "class A: pass", "bareon.actions", f"do_it = {name}:A\ndo_copyimage = {name}:A")
    argv = ["--plan", "--node_facts", str(NODE), "--input_data_file", str(INPUT)]
    done = _run(tmp_path, *argv, "--actions", "do_it")
    assert (done.returncode, "the name 'do_it' is claimed by one:A, two:A" in done.stderr) == (4, True)
    done = _run(tmp_path, *argv)
    assert done.returncode == 4
    assert "'do_copyimage' is claimed by bareon.actions.copyimage:CopyImage, one:A, two:A" in done.stderr


def test_a_name_that_nobody_has(tmp_path: Path) -> None:
    argv = ["--plan", "--node_facts", str(NODE), "--input_data_file", str(INPUT)]
    done = _run(tmp_path, *argv, "--actions", "do_partitioning,do_magic")
    assert done.returncode == 2
    assert "bareon.actions has no plug-in 'do_magic'; there are: do_bootloader, do_configdrive" in done.stderr


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh environment with bareon's dependencies, into which pip has installed the example."""
    place = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    (site,) = (place / "lib").glob("python*/site-packages")
    # Without the network: this environment's libraries and the checkout stand in for an installed bareon.
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("-packages"))]
    (site / "bareon.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in paths))
    source = place / "bareon-example"
    subprocess.run(["cp", "-r", ROOT / "examples/bareon-example", source], check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", site, source], check=True)
    return place / "bin/python"


def _plan(python: Path, *argv: str) -> dict[str, object]:
    options = ["--plan", "--plan_format", "json", "--node_facts", str(NODE), *argv]
    command = [str(python), "-c", RUN, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def _steps(plan: dict[str, object]) -> list[str]:
    steps = plan["steps"]
    assert isinstance(steps, list)
    return [step["description"] for step in steps]


def test_the_example_is_installed_and_its_action_queued(environment: Path) -> None:
    actions = "do_partitioning,do_copyimage,do_message,do_bootloader"
    steps = _steps(_plan(environment, "--input_data_file", str(INPUT), "--actions", actions))
    assert steps[-2:] == [
        "Write /etc/motd of image 'debian'",
        "Install GRUB for image 'debian' on /dev/vda, /dev/vdb",
    ]


def test_the_drivers_of_the_example(environment: Path) -> None:
    text = 'disk = "vda"\nimage = "file:///images/debian"'
    drivers = ["--data_driver", "short", "--deploy_driver", "folder"]
    steps = _steps(_plan(environment, *drivers, "--input_data", text))
    assert "Copy /images/debian to /" in steps
