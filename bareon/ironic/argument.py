# SPDX-License-Identifier: Apache-2.0
"""Documents as argument of a step: with the deployment itself, or by a deploy template.

Ironic takes the templates that have the name of a trait which the instance asks for (``instance_info.traits``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ironic.objects.deploy_template import DeployTemplate

from bareon.ironic.work import STEPS

Step = Mapping[str, Any]


def given(node: Any) -> Any:
    """That of the deployment that goes on, for which Ironic has put the steps of all origins together."""
    return _document(node.driver_internal_info.get("deploy_steps") or ())


def templated(task: Any) -> Any:
    """That of a deploy template, before a deployment goes on."""
    return _document(_templated(task))


def completed(task: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a step; the document is that of a deploy template where the step was given none."""
    found = dict(arguments)
    if found.get("provision") is None:
        found["provision"] = templated(task)
    return found


def needs_bareon(task: Any) -> bool:
    """Whether a deploy template has a step that no interface but bareon's has."""
    return any(step["interface"] == "deploy" and step["step"] in STEPS for step in _templated(task))


def _templated(task: Any) -> list[Step]:
    traits = task.node.instance_info.get("traits")
    if not isinstance(traits, list):
        return []  # one that is broken is Ironic's to refuse
    templates = DeployTemplate.list_by_names(task.context, [trait for trait in traits if isinstance(trait, str)])
    return [step for template in templates for step in template.steps]


def _document(steps: Iterable[Step]) -> Any:
    for step in steps:
        if (step.get("interface"), step.get("step")) == ("deploy", "provision"):
            return (step.get("args") or {}).get("provision")
    return None
