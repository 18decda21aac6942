# SPDX-License-Identifier: Apache-2.0
"""The deploy interface ``bareon``.

A deployment is asynchronous throughout: the node is booted into bareon's ramdisk, a run is started there over SSH,
and each heartbeat looks how it stands. All that is known of it is in the ramdisk and in the node's
``driver_internal_info``, so that a conductor that starts anew goes on where another was killed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from ironic.common import exception, states
from ironic.conductor import task_manager
from ironic.conductor import utils as conductor
from ironic.conf import CONF
from ironic.drivers import base
from ironic.drivers.modules import agent_base, deploy_utils

from bareon.errors import BareonError, InvalidInput
from bareon.ironic import argument, conf, outcome, ssh, work
from bareon.model.location import Location

LOG = logging.getLogger(__name__)

conf.register(CONF)

_OWN_SCHEMES = ("rsync", "swift")
"""Where images come from that no interface of Ironic's own can fetch."""

_PROVISION = {
    "provision": {
        "description": "The document of bareon, an object. It comes before instance_info.bareon_provision.",
        "required": False,
    }
}
_SWITCH = {
    "image": {"description": "The name of the image that boots from now on.", "required": True},
    "once": {"description": "true: it boots the next time only.", "required": False},
}


class BareonDeploy(agent_base.HeartbeatMixin, agent_base.AgentOobStepsMixin, base.DeployInterface):
    """Deploys by bareon in its own ramdisk. Cleaning stays with Ironic's agent."""

    collect_deploy_logs = False  # there is no agent of Ironic to ask for them

    def get_properties(self) -> dict[str, str]:
        """The keys of ``driver_info``, with what they mean."""
        return dict(conf.PROPERTIES)

    def supports_deploy(self, task: Any) -> bool:
        """Whether ``autodetect`` should take this interface: for a document, or an image that no other takes.

        The document may be one of a deploy template. One that comes with the deployment itself is not known yet.
        """
        info = task.node.instance_info
        source = info.get("image_source")
        return (
            info.get("bareon_provision") is not None
            or (isinstance(source, str) and Location(source).scheme in _OWN_SCHEMES)
            or argument.needs_bareon(task)
        )

    def restore_interface(self, task: Any) -> None:
        """Give the node back to ``autodetect``, if that has taken this interface; Ironic itself does so since 39."""
        node = task.node
        if before := node.driver_internal_info.get("original_deploy_interface"):
            node.deploy_interface = before
            node.del_driver_internal_info("original_deploy_interface")
            node.save()

    def validate(self, task: Any) -> None:
        """See that the node can be deployed, before anything is booted.

        A document that comes with the deployment itself is looked at by the first step.
        """
        task.driver.boot.validate(task)
        info = task.node.instance_info
        with _invalid():
            ssh.check_key_file(work.settings(task.node).key_file, "driver_info.bareon_key_filename")
            document = argument.templated(task)
            if document is not None or info.get("bareon_provision") is not None or info.get("image_source"):
                work.request(task.node, document)

    def prepare(self, task: Any) -> None:
        """Prepare boot of the ramdisk, with the conductor's key on its kernel's command line."""
        node = task.node
        if node.provision_state == states.DEPLOYING:
            work.forget(node, work.RAMDISK, work.PROGRESS, work.REPORT)
            task.driver.network.validate(task)
            if not node.disable_power_off:
                conductor.node_power_action(task, states.POWER_OFF)
            task.driver.network.unconfigure_tenant_networks(task)
            task.driver.network.add_provisioning_network(task)
        if node.provision_state in (states.ACTIVE, states.UNRESCUING, states.ADOPTING):
            task.driver.boot.prepare_instance(task)  # another conductor has had the node until now
        else:
            _prepare_ramdisk(task)

    @base.deploy_step(priority=100)
    @task_manager.require_exclusive_lock
    def deploy(self, task: Any) -> str:
        """Boot the ramdisk, once it is sure that there is something to deploy."""
        with _invalid():
            work.request(task.node, argument.given(task.node))
        conductor.node_power_action(task, states.REBOOT)
        return str(states.DEPLOYWAIT)

    @base.deploy_step(priority=80, argsinfo=_PROVISION)
    @base.service_step(abortable=True, argsinfo=_PROVISION)
    @task_manager.require_exclusive_lock
    def provision(self, task: Any, provision: dict[str, Any] | None = None) -> str | None:
        """Start the run in the ramdisk."""
        return self._in_ramdisk(task, "provision", {"provision": provision})

    @base.deploy_step(priority=0, argsinfo=_PROVISION)
    @base.service_step(abortable=False, argsinfo=_PROVISION)
    @task_manager.require_exclusive_lock
    def verify(self, task: Any, provision: dict[str, Any] | None = None) -> str | None:
        """Compare the disks with the document. Nothing is changed; a difference fails the step."""
        return self._in_ramdisk(task, "verify", {"provision": provision})

    @base.deploy_step(priority=0, argsinfo=_SWITCH)
    @base.service_step(abortable=False, argsinfo=_SWITCH)
    @task_manager.require_exclusive_lock
    def switch_boot(self, task: Any, image: str, once: bool = False) -> str | None:
        """Have another image of a node with several boot from now on, or the next time only."""
        return self._in_ramdisk(task, "switch_boot", {"image": image, "once": once})

    def _in_ramdisk(self, task: Any, name: str, arguments: dict[str, Any]) -> str | None:
        """Do the work of a step, after the ramdisk has been booted where there is none."""
        node = task.node
        servicing = node.provision_state == states.SERVICING
        if servicing and work.RAMDISK not in node.driver_internal_info:
            # Ironic boots it only for steps that it does not know before. What it does afterwards depends on this.
            node.set_driver_internal_info("service_disable_ramdisk", False)
            return self.prepare_service(task)
        try:
            if work.do(node, name, argument.completed(task, arguments)):
                return None
        except BareonError as error:
            line = outcome.line(error)
            if not servicing:  # as at a heartbeat: the node is off then
                deploy_utils.set_failed_state(task, line, collect_logs=False)
            raise exception.InstanceDeployFailure(line) from None
        return str(states.SERVICEWAIT if servicing else states.DEPLOYWAIT)

    @base.deploy_step(priority=40)
    @task_manager.require_exclusive_lock
    def tear_down_agent(self, task: Any) -> None:
        """End the ramdisk: the node is off, and boots from its disk next, by Secure Boot where that is asked for."""
        try:
            work.sync(task.node)
        except BareonError as error:
            LOG.warning(
                "node %s: the disks cannot be synchronized before the power is off: %s",
                task.node.uuid,
                outcome.line(error),
            )
        if not task.node.disable_power_off:
            conductor.node_power_action(task, states.POWER_OFF)
        task.driver.boot.clean_up_ramdisk(task)
        task.driver.boot.prepare_instance(task)
        work.forget(task.node, work.RAMDISK)

    @task_manager.require_exclusive_lock
    def tear_down(self, task: Any) -> str:
        """Take the node out of use: off, and without networks."""
        conductor.node_power_action(task, states.POWER_OFF)
        task.driver.network.unconfigure_tenant_networks(task)
        task.driver.network.remove_provisioning_network(task)
        work.forget(task.node, work.REPORT)
        return str(states.DELETED)

    def clean_up(self, task: Any) -> None:
        """End the run, if one is going on, and take back what boots the ramdisk."""
        node = task.node
        # The boot interface may switch the power, and each time Ironic forgets the last error.
        error = node.last_error
        if work.running(node):
            work.end(node)
            conductor.node_power_action(task, states.POWER_OFF)
        task.driver.boot.clean_up_ramdisk(task)
        task.driver.boot.clean_up_instance(task)
        work.forget(node, work.RAMDISK, work.PROGRESS)
        if error and not node.last_error:
            node.last_error = error
            node.save()

    def take_over(self, task: Any) -> None:
        """Nothing: all that is known of a run is in the node and in the ramdisk."""

    def prepare_service(self, task: Any) -> str:
        """Boot the ramdisk for service steps."""
        work.forget(task.node, work.RAMDISK, work.REPORT)
        conductor.node_power_action(task, states.POWER_OFF)
        task.driver.boot.clean_up_instance(task)
        task.driver.network.unconfigure_tenant_networks(task)
        task.driver.network.add_servicing_network(task)
        _prepare_ramdisk(task)
        conductor.node_power_action(task, states.POWER_ON)
        return str(states.SERVICEWAIT)

    def tear_down_service(self, task: Any) -> None:
        """Let the node boot from its disk again after service steps."""
        if work.running(task.node):
            work.end(task.node)
        deploy_utils.tear_down_inband_service(task)
        work.forget(task.node, work.RAMDISK, work.PROGRESS)

    def process_next_step(self, task: Any, step_type: str) -> None:
        """At a heartbeat: look how the present step stands, and have Ironic go on where it is done."""
        node = task.node
        service = step_type == "service"
        step = (node.service_step if service else node.deploy_step) or {}
        if step.get("interface") != "deploy" or step.get("step") not in ("deploy", *work.STEPS):
            return
        try:
            if work.running(node):
                done = work.look(node)
            elif service:  # the ramdisk was booted for this step
                work.meet(node)
                done = work.do(node, step["step"], argument.completed(task, step.get("args") or {}))
            else:
                done = work.arrived(node, step["step"])
        except BareonError as error:
            _fail(task, service, error)
            return
        if done and service:
            conductor.notify_conductor_resume_service(task)
        elif done:
            conductor.notify_conductor_resume_deploy(task)


def _prepare_ramdisk(task: Any) -> None:
    """As Ironic does for its own agent, plus the key."""
    with _invalid():
        key = ssh.public_key(work.settings(task.node).key_file, "driver_info.bareon_key_filename")
    task.node.set_driver_internal_info("agent_start_attempted", True)
    task.node.save()
    options = {**deploy_utils.build_agent_options(task.node), "bareon-key": ssh.kernel_parameter(key)}
    task.driver.boot.prepare_ramdisk(task, options)


def _fail(task: Any, service: bool, error: BareonError) -> None:
    line = outcome.line(error)
    if service:
        conductor.servicing_error_handler(task, f"node {task.node.uuid}: {line}", errmsg=line)
    else:
        deploy_utils.set_failed_state(task, line, collect_logs=False)


@contextlib.contextmanager
def _invalid() -> Iterator[None]:
    """Errors of bareon as Ironic's for what a node's owner or operator gave."""
    try:
        yield
    except InvalidInput as error:
        raise exception.InvalidParameterValue(outcome.line(error)) from None
