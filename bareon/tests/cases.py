# SPDX-License-Identifier: Apache-2.0
"""Case files: an input and a node, and the plan or the error that comes of them. Adding one needs no Python.

A case is a YAML file in ``cases/plan`` or ``cases/error``:

``description``
    What the case is about, in a sentence.
``pains``
    The pains of ``doc/pains.yaml`` that the case is a proof of, if any.
``node``
    The name of a file in ``nodes/``, without its ending.
``input``
    The provision data; or ``input_text``, a string, for what is no JSON.
``driver``
    The data driver, ``ironic`` where it is left out.
``actions``
    The queued actions; the deploy driver's flow where it is left out.
``deploy_driver``
    The deploy driver, ``rsync`` where it is left out.
``allow_failing_disks``
    That option, off where it is left out.
``options``
    Options of actions, those that are left out with their defaults.
``image``
    The names of the images that alone are brought, all of them where it is left out.
``remove_image``
    The names of images that are taken out of the menu; none where it is left out.
``keyring``, ``cosign_key``
    The path of a keyring that images must be signed by a key of, and of the key for those of registries; none where
    they are left out.
``disks``, ``arrays``, ``volume_groups``, ``subvolumes``, and the section of any other kind of storage
    The decided layout, a line for each item; see :func:`describe`.
``steps``
    The steps' descriptions, where they matter.
``images``
    What each image is taken for, and held to, where that matters.
``warnings``
    What the plan warns of: each expected line must be found in the actual line of the same place.
``error`` and ``lines``
    The class of the error and its lines: each expected line must be found in the actual line of the same place.

A key that is not known is an error, so that a misspelt expectation does not pass for a fulfilled one.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import yaml

from bareon import plugin
from bareon.actions.base import Action
from bareon.decide import decide
from bareon.drivers.data.base import DataDriver
from bareon.drivers.deploy.base import DeployDriver
from bareon.facts import from_json
from bareon.layout.chosen import chosen, without
from bareon.model.node import NodeFacts
from bareon.model.settings import TransferSettings
from bareon.plan.document import document
from bareon.plan.plan import Plan
from bareon.sizes import MIB
from bareon.storage.kinds import sections
from bareon.tests.keys import known

HERE = Path(__file__).parent
GIVEN = (
    *("description", "pains", "node", "input", "input_text", "driver", "actions", "deploy_driver"),
    *("allow_failing_disks", "options", "keyring", "cosign_key", "image", "remove_image"),
)
#: The parts of a layout, each with what it is where a case says nothing of it.
PARTS: dict[str, Any] = {"disks": {}, "arrays": [], "volume_groups": {}, "subvolumes": []}
OTHERS = [kind.section for kind in sections() if kind.section not in PARTS]
PARTS |= {section: [] for section in OTHERS}
#: Keys of a case by the folder it is in.
KEYS = {
    "plan": (*GIVEN, *PARTS, "images", "steps", "warnings"),
    "error": (*GIVEN, "error", "lines"),
}
SEED = uuid.UUID("00000000-0000-4000-8000-000000000000")


def cases(kind: str) -> list[Path]:
    """The case files of a kind."""
    return sorted((HERE / "cases" / kind).glob("*.yaml"))


def load(path: Path) -> dict[str, Any]:
    """A case file's content.

    :raises ValueError: for a key that such a case does not have, or input in two forms.
    """
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    known(found, KEYS[path.parent.name], path.name)
    if len({"input", "input_text"} & set(found)) != 1:
        raise ValueError(f"{path.name}: needs either input or input_text")
    return found


def node(name: str) -> NodeFacts:
    """A node of the folder ``nodes``. Sizes may be written as ``4096 MiB``.

    A disk that has no ``drivers`` there is reached by none that is a module; ``null`` is for what is not known.
    """
    found = yaml.safe_load((HERE / "nodes" / f"{name}.yaml").read_text())
    found["disks"] = [{"drivers": [], **disk} for disk in found["disks"]]
    return from_json(_bytes({"format": 1, **found}))


def _bytes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _bytes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_bytes(item) for item in value]
    if isinstance(value, str) and value.endswith(" MiB") and value.removesuffix(" MiB").isdigit():
        return int(value.removesuffix(" MiB")) * MIB
    return value


def plan_of(case: dict[str, Any]) -> Plan:
    """The plan of a case.

    :raises BareonError: what the case leads to instead.
    """
    text = case["input_text"] if "input_text" in case else json.dumps(case["input"])
    driver = plugin.load("bareon.drivers.data", case.get("driver", "ironic"), DataDriver)  # type: ignore[type-abstract]
    deployment = driver.parse(text.encode())
    deployment = chosen(deployment, case["image"]) if "image" in case else deployment
    deployment = without(deployment, case["remove_image"]) if "remove_image" in case else deployment
    transport = plugin.load("bareon.drivers.deploy", case.get("deploy_driver", "rsync"), DeployDriver)  # type: ignore[type-abstract]
    names = case.get("actions", transport.flow)
    actions = [plugin.load("bareon.actions", name, Action) for name in names]  # type: ignore[type-abstract]
    for action in actions:
        given = case.get("options", {})
        action.configure({name: given[name] for name in action.options if name in given})
    settings = TransferSettings(keyring=case.get("keyring"), cosign_key=case.get("cosign_key"))
    decision = decide(deployment, node(case["node"]), actions, transport, SEED, settings)
    return decision.check_health(allowed=case.get("allow_failing_disks", False)).plan


def describe(plan: Plan) -> dict[str, Any]:
    """The layout of a plan in the form of the case files, taken from the published JSON form.

    ``disks`` has for each device the lines ``NUMBER START+SIZE ROLE FILESYSTEM MOUNT DECISION``, with starts and
    sizes in MiB and ``-`` for what is not there; ``subvolumes`` has the lines ``DEVICE NAME MOUNT OPTIONS IMAGES
    DECISION``, with ``default`` behind it for the one that is; a section that has no form of its own here has the
    lines ``NAME on MEMBERS SIZE FILESYSTEM MOUNT DECISION``.
    """
    whole = document(plan)
    return {
        "disks": {disk["device"]: [_partition(part) for part in disk["partitions"]] for disk in whole["disks"]},
        "arrays": [
            f"{array['name']} {array['level']} {','.join(array['members'])} {_filesystem(array)}"
            for array in whole["arrays"]
        ],
        "volume_groups": {
            f"{group['name']} on {','.join(group['members'])}": [
                f"{volume['name']} {_mib(volume['size'])} {_filesystem(volume)}" for volume in group["volumes"]
            ]
            for group in whole["volume_groups"]
        },
        "subvolumes": [_subvolume(item) for item in whole.get("subvolumes", ())],
        **{section: [_structure(item) for item in whole.get(section, ())] for section in OTHERS},
        "images": [_image(item) for item in whole.get("images", ())],
        "steps": [step["description"] for step in whole["steps"]],
        "warnings": whole["warnings"],
    }


def _image(item: dict[str, Any]) -> str:
    kind = item["taken_for"] if item["seen"] else f"perhaps {item['taken_for']}"
    return f"{item['name']}: {kind}; {', '.join(item['held_to']) or 'nothing'}"


def _partition(part: dict[str, Any]) -> str:
    return f"{part['number']} {_mib(part['start'])}+{_mib(part['size'])} {part['role']} {_filesystem(part)}"


def _subvolume(item: dict[str, Any]) -> str:
    where = f"{item['device']} {item['name']} {item['mount'] or '-'} {item['options'] or '-'}"
    return f"{where} {','.join(item['images'])} {item['decision']}{' default' * item['default']}"


def _structure(item: dict[str, Any]) -> str:
    return f"{item['name']} on {','.join(item['members'])} {_mib(item['size'])} {_filesystem(item)}"


def _filesystem(item: dict[str, Any]) -> str:
    return f"{item['file_system'] or '-'} {item['mount'] or '-'} {item['decision']}"


def _mib(size: int) -> str:
    return str(size // MIB) if size % MIB == 0 else f"{size}B"
