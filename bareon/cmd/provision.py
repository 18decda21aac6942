# SPDX-License-Identifier: Apache-2.0
"""bareon-provision, and its forms with one action each."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bareon.cmd.exit import catch_signals, code_of, guarded
from bareon.errors import ActionFailed, CommandError, Defect, DisksDiffer, InvalidInput, UnsuitableNode, UsageError

if TYPE_CHECKING:
    from oslo_config.cfg import ConfigOpts

    from bareon.decide import Decision
    from bareon.model.deployment import Deployment
    from bareon.model.node import NodeFacts
    from bareon.plan.fingerprint import Fingerprint
    from bareon.plan.plan import Plan
    from bareon.report.report import Report

USAGE = "Deploys this node as one JSON document describes: partitions, images, boot loader."


def main(argv: Sequence[str] | None = None) -> int:
    """The whole deployment."""
    return _Run("bareon-provision", USAGE, None, argv).exit_code()


def partition(argv: Sequence[str] | None = None) -> int:
    """Partitioning alone."""
    return _Run("bareon-partition", "Partitions the disks of this node.", "do_partitioning", argv).exit_code()


def configdrive(argv: Sequence[str] | None = None) -> int:
    """The configdrive alone, into the partition that is there for it."""
    return _Run("bareon-configdrive", "Writes the configdrive.", "do_configdrive", argv).exit_code()


def copyimage(argv: Sequence[str] | None = None) -> int:
    """Image copy alone, onto what is there."""
    return _Run("bareon-copyimage", "Brings the images onto this node.", "do_copyimage", argv).exit_code()


def bootloader(argv: Sequence[str] | None = None) -> int:
    """The boot loader alone, for what is there."""
    return _Run("bareon-bootloader", "Makes this node boot.", "do_bootloader", argv).exit_code()


def reboot(argv: Sequence[str] | None = None) -> int:
    """The end of the ramdisk."""
    return _Run("bareon-reboot", "Restarts this node.", "do_reboot", argv).exit_code()


def verify(argv: Sequence[str] | None = None) -> int:
    """The comparison alone, which changes nothing."""
    usage = "Compares the disks of this node with the input, and changes nothing."
    return _Run("bareon-verify", usage, "do_verify", argv).exit_code()


class _Run:
    """One run of a program. ``action`` presets ``--actions``."""

    def __init__(self, program: str, usage: str, action: str | None, argv: Sequence[str] | None) -> None:
        self._program = program
        self._usage = usage
        self._action = action
        self._argv = list(sys.argv[1:] if argv is None else argv)
        self._log: str | None = None
        self._bundled: str | None = None
        self._reads_only = False
        self._seed = uuid.uuid4()
        self._report: Report | None = None  # a plan has none
        self._conf: ConfigOpts

    def exit_code(self) -> int:
        """Run, and say how it went."""
        return guarded(self._program, self._body, self._hints)

    def _hints(self, error: BaseException) -> list[str]:
        """Hints at the other policy, and at the bundle and the log of a failed run."""
        places = (("bundle", self._bundled), ("log", self._log))
        policy = [] if self._reads_only else _other_policy(error)
        return [*policy, *(f"the {name} is {path}" for name, path in places if path)]

    def _body(self) -> None:
        from bareon import conf as options
        from bareon.version import version

        self._version = version()
        known = [*options.DRIVERS, *options.INPUT, *options.DEPLOY, *options.TRANSFER]
        self._conf = options.parse(self._argv, known, self._program, self._version, self._usage)
        options.check_names(self._conf, _options_of_actions)
        if self._conf.apply_plan and self._conf.plan:
            raise UsageError("--apply_plan: a saved plan is carried out; remove --plan")
        if self._conf.node_facts and not self._conf.plan:
            raise UsageError("--node_facts: a saved node can only be planned for; add --plan")
        planning = self._conf.plan or self._conf.dump_node_facts
        self._log = options.set_up_logging(self._conf, default_file=not planning)
        catch_signals()
        if self._conf.dump_node_facts:
            with self._reading():
                _print_json(_facts_document(self._node()))
        elif self._conf.plan:
            self._plan()
        else:
            self._deploy()

    def _node(self) -> NodeFacts:
        from bareon import facts

        if not self._conf.node_facts:
            from bareon.probe import probe

            try:
                return probe()
            except CommandError as error:
                raise UnsuitableNode(f"this machine cannot be read: {error}") from error
        try:
            with Path(self._conf.node_facts).open("rb") as opened:  # may be a device that never ends
                return facts.from_json(json.loads(opened.read(facts.LARGEST)))
        except OSError as error:
            raise UsageError(f"--node_facts: {self._conf.node_facts}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise UsageError(f"--node_facts: {self._conf.node_facts}: {error}") from None

    def _decide(self, node: NodeFacts) -> Decision:
        from bareon import conf as options
        from bareon import decide, plugin
        from bareon.actions.base import Action
        from bareon.drivers.deploy.base import DeployDriver
        from bareon.model.deployment import Deployment

        conf = self._conf
        transport = plugin.load("bareon.drivers.deploy", conf.deploy_driver, DeployDriver)  # type: ignore[type-abstract]
        names = _names(self._action or conf.actions)
        if not names and conf.actions:
            raise UsageError(f"--actions: {conf.actions!r} names no action")
        names = names or transport.flow
        actions = [plugin.load("bareon.actions", name, Action) for name in names]  # type: ignore[type-abstract]
        decide.check_order(actions)
        self._reads_only = decide.reads_only(actions)
        for action in actions:
            action.configure(options.values(conf, action.options))
        if self._action is None and not conf.actions and not self._deployment.images:
            raise InvalidInput([Defect("$.images", "there is no image to deploy; use bareon-partition")])
        settings = options.transfer_settings(conf)
        deployment = self._chosen()
        if not conf.node_facts:
            with plugin.blamed(UnsuitableNode):
                deployment = plugin.returned(
                    transport.look(deployment, settings), Deployment, f"{type(transport).__name__}: look"
                )
        decision = decide.decide(deployment, node, actions, transport, self._seed, settings)
        decision = decision.check_health(allowed=conf.allow_failing_disks)
        known = len(decision.plan.warnings)
        self._warn(decision.plan.warnings)
        if conf.allow_destroy is not None:
            decision = decision.check_allowed(conf.allow_destroy)
            self._warn(decision.plan.warnings[known:])
        return decision

    def _chosen(self) -> Deployment:
        """The deployment of the images that were asked for."""
        from bareon.layout.chosen import chosen, without

        brought, removed = self._conf.image, self._conf.remove_image
        if brought is not None and removed is not None:
            raise UsageError("--remove_image: no image is brought in the same run; remove --image")
        if removed is not None:
            return without(self._deployment, _listed(removed))
        return self._deployment if brought is None else chosen(self._deployment, _listed(brought))

    def _read(self) -> None:
        from bareon.cmd import source

        conf = self._conf
        at_hand = self._lacks_input()
        if at_hand:
            given = source.at_hand(conf.input_data_file, "--input_data_file")
        else:
            given = source.read(conf.input_data_file, conf.input_data, "--input_data_file")
        if self._report:
            self._report.took(given)
        deployment, warnings = source.understand(conf.data_driver, given, conf.template_path)
        self._warn(warnings)
        if at_hand and deployment.policy != "verify":
            raise UsageError(
                f"the document beside the menu has the policy {deployment.policy}, and bareon leaves none but verify;"
                " name a file by --input_data_file"
            )
        self._deployment, file = source.with_configdrive(deployment, conf.config_drive_path)
        self._given = given + file

    def _lacks_input(self) -> bool:
        """True where nobody has named an input, and where it usually is there is none; for root, on his own node."""
        from bareon import conf as options

        conf = self._conf
        if conf.input_data is not None or conf.node_facts or options.is_given(conf, "input_data_file"):
            return False
        return os.geteuid() == 0 and not os.path.lexists(conf.input_data_file)

    def _warn(self, warnings: Sequence[str]) -> None:
        from bareon.cmd import source

        source.warn(warnings)
        if self._report:
            self._report.warn(warnings)

    def _document(self, decision: Decision) -> dict[str, Any]:
        """The plan with its seal."""
        from bareon.plan.document import document

        return {**document(decision.plan), "seal": self._sealed(decision).document()}

    def _sealed(self, decision: Decision) -> Fingerprint:
        from bareon.plan.fingerprint import fingerprint

        return fingerprint(self._seed, self._given, decision.node, [x.device for x in decision.plan.layout.disks])

    def _reading(self) -> contextlib.AbstractContextManager[None]:
        """The lock, where the node is read: that starts arrays and volume groups, which must not meet another run."""
        from bareon.cmd.lock import node_lock

        return contextlib.nullcontext() if self._conf.node_facts or os.geteuid() else node_lock()

    def _plan(self) -> None:
        with self._reading():
            self._read()
            self._print_plan(self._node())

    def _print_plan(self, node: NodeFacts) -> None:
        from bareon.model.layout import Layout
        from bareon.plan import document

        try:
            decision = self._decide(node)
        except DisksDiffer as error:
            if self._conf.plan_format == "json" and isinstance(error.wanted, Layout):
                _print_json(document.differing(error.wanted, error.differences))
            raise
        if not self._conf.node_facts:
            decision.check_programs()
        if self._conf.plan_format == "json":
            _print_json(self._document(decision))
        else:
            from bareon.plan import text

            sys.stdout.write(text.render(decision.plan, node, colours=sys.stdout.isatty()))

    def _deploy(self) -> None:
        from bareon.cmd.lock import node_lock
        from bareon.report.report import Report
        from bareon.run import observed

        try:
            with node_lock():
                self._report = report = Report(self._conf.report, self._version)
                report.begin()
                with observed(report.ran):
                    plan = self._carry_out(report)
        except BaseException as error:
            if self._report:
                self._report.end(code_of(error), error)
                self._bundle(error)
            raise
        report.end(0)
        if self._conf.progress != "json":  # whose reader expects events alone
            sys.stdout.write(f"Done in {report.content['seconds']:.1f} s; the report is {self._conf.report}\n")
            sys.stdout.flush()
        _conclude(plan, report)

    def _bundle(self, error: BaseException) -> None:
        """Write the bundle of a failure on this node.

        There is none for a wrong input, for a run that somebody ended, and for differences that were asked for.
        """
        path = self._conf.bundle
        if self._reads_only and isinstance(error, DisksDiffer):
            return
        if not path or not isinstance(error, Exception) or isinstance(error, UsageError | InvalidInput):
            return
        from bareon.report import bundle

        files = {"report.json": self._conf.report} | ({"bareon.log": self._log} if self._log else {})
        if bundle.write(path, files):
            self._bundled = path

    def _carry_out(self, report: Report) -> Plan:
        from bareon import executor, plugin
        from bareon.cmd.terminal import terminal
        from bareon.report import progress
        from bareon.step import confiding
        from bareon.tools.mount import enter_private_namespace

        self._read()
        _must_be_root()
        node = self._node()
        report.probed(_facts_document(node))
        decision = self._decide_as_saved(node) if self._conf.apply_plan else self._decide(node)
        report.decided(self._document(decision))
        decision.check_programs()
        with confiding(terminal()):
            with plugin.blamed(UnsuitableNode):
                self._warn(executor.preflight(decision.plan))
            enter_private_namespace()
            with plugin.blamed(ActionFailed):
                executor.execute(decision.plan, [report.listen, progress.listener(self._conf.progress)])
        return decision.plan

    def _decide_as_saved(self, node: NodeFacts) -> Decision:
        """The decision of a saved plan, made again.

        :raises UnsuitableNode: when it does not come out the same.
        """
        from bareon.plan import fingerprint

        try:
            saved, plan = fingerprint.opened(Path(self._conf.apply_plan).read_bytes())
        except OSError as error:
            raise UsageError(f"--apply_plan: {self._conf.apply_plan}: {error.strerror}") from None
        self._seed = saved.seed
        decision = self._decide(node)
        fingerprint.check(saved, plan, self._sealed(decision), self._document(decision))
        return decision


def _conclude(plan: Plan, report: Report) -> None:
    from bareon import executor, plugin

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which a restart sends to everybody
    try:
        with plugin.blamed(ActionFailed):
            executor.conclude(plan)
    except BaseException as error:
        report.end(code_of(error), error)
        raise


def _other_policy(error: BaseException) -> list[str]:
    if not isinstance(error, DisksDiffer) or getattr(error.wanted, "policy", None) != "verify":
        return []
    return ["the partitions_policy verify makes no tables; clean makes these disks anew, and all on them is lost"]


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def _options_of_actions() -> set[str]:
    """The names of the options of all actions, whichever take part in this run."""
    from bareon import plugin
    from bareon.actions.base import Action

    namespace = "bareon.actions"
    actions = (plugin.load(namespace, name, Action) for name in plugin.names(namespace))  # type: ignore[type-abstract]
    return {option for action in actions for option in action.options}


def _listed(given: Sequence[str]) -> list[str]:
    """The names in the values of an option that may be given again, each with commas in it."""
    return [name for text in given for name in _names(text)]


def _must_be_root() -> None:
    if os.geteuid() != 0:
        raise UnsuitableNode("changing disks takes root; --plan does not")


def _facts_document(node: NodeFacts) -> dict[str, Any]:
    from bareon.facts import to_json

    return to_json(node)


def _print_json(value: dict[str, Any]) -> None:
    from bareon.plan.document import lines

    sys.stdout.write(lines(value) + "\n")
