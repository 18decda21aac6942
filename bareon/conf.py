# SPDX-License-Identifier: Apache-2.0
"""Every configuration option, on the command line and in the configuration file alike."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from oslo_config import cfg

from bareon.errors import UsageError
from bareon.model.settings import BOOT_INFO, IMAGE_PROGRAMS, SwiftAccount, TransferSettings
from bareon.text import visible

DEFAULT_LOG = "/var/log/bareon.log"

DRIVERS = [
    cfg.StrOpt(
        "data_driver",
        default="ironic",
        help="The dialect of the input, a name in bareon.drivers.data.",
    ),
]

INPUT = [
    cfg.StrOpt(
        "input_data_file",
        default="/tmp/provision.json",
        help="The input; - is standard input. Where it is not given and the file is not there, root of a system that "
        "is one of several images gets the document that its deployment has left beside the menu.",
    ),
    cfg.StrOpt("input_data", help="The input itself; wins over the file."),
    cfg.StrOpt(
        "template_path",
        help="A folder of templates for the configdrive, for data drivers that make it from templates. Those in it "
        "come before the driver's own of the same name.",
    ),
]

DEPLOY = [
    cfg.StrOpt(
        "deploy_driver",
        default="auto",
        help="How images arrive, a name in bareon.drivers.deploy: auto takes each image for what its URL and content "
        "say; rsync is for trees of files on rsync daemons alone, swift for block images alone.",
    ),
    cfg.StrOpt(
        "actions",
        help="Comma-separated names in bareon.actions. Default: the deploy driver's flow.",
    ),
    cfg.MultiStrOpt(
        "image",
        help="Names of images of several, with commas between them or each by itself: these alone are brought, with "
        "the policy verify. What the others have, or share with them, stays as it is; the menu has all of them.",
    ),
    cfg.MultiStrOpt(
        "remove_image",
        help="Names of images of several that the document has no longer, with commas between them or each by "
        "itself: they are taken out of the menu, and no image is brought. Their volumes stay as they are.",
    ),
    cfg.BoolOpt("plan", default=False, help="Decide everything, print it, and change nothing."),
    cfg.StrOpt("plan_format", default="text", choices=["text", "json"], help="How a plan is printed."),
    cfg.StrOpt("apply_plan", help="Carry out a plan saved by --plan --plan_format json, if nothing changed since."),
    cfg.ListOpt(
        "allow_destroy",
        help="Names, serials or wwns of disks. When given, a run in which any other disk loses data is refused. "
        "So is a value that several disks have; one that no disk has is a warning.",
    ),
    cfg.BoolOpt(
        "allow_failing_disks",
        default=False,
        help="Use disks that report failing health, with a warning. A read-only disk is never used.",
    ),
    cfg.BoolOpt(
        "allow_unbootable",
        default=False,
        help="Go on, with a warning, where the kernel of an image has no driver for the disks that hold it.",
    ),
    cfg.StrOpt(
        "image_programs",
        default=IMAGE_PROGRAMS[0],
        choices=IMAGE_PROGRAMS,
        help="Whether programs of an image may run, and where. With none, the ramdisk's GRUB gets a menu of bareon's "
        "own, and an image whose initramfs would have to be made anew is refused.",
    ),
    cfg.BoolOpt(
        "kexec",
        default=False,
        help="Load the kernel that the boot loader would start, for do_reboot to start it without the firmware. "
        "Where that cannot be, a warning says why, and the firmware restarts the node.",
    ),
    cfg.StrOpt("config_drive_path", default="/tmp/config-drive.img", help="The configdrive to write, if it exists."),
    cfg.StrOpt("node_facts", help="Plan against a saved description of a node; only with --plan."),
    cfg.BoolOpt(
        "dump_node_facts",
        default=False,
        help="Print the description of this machine as JSON, and stop.",
    ),
    cfg.StrOpt("report", default="/tmp/bareon-report.json", help="Where the report of the run goes."),
    cfg.StrOpt(
        "bundle",
        default="/tmp/bareon-bundle.tar.gz",
        help="Where everything that explains a failure goes; nothing is collected where this is empty.",
    ),
    cfg.StrOpt(
        "boot_info_path",
        default=BOOT_INFO,
        help="Where the list of bootable images goes, on a node with more than one image.",
    ),
    cfg.StrOpt(
        "progress",
        default="auto",
        choices=["auto", "bar", "plain", "json", "none"],
        help="How progress is shown.",
    ),
]

TRANSFER = [
    cfg.IntOpt(
        "image_attempts",
        default=TransferSettings.attempts,
        min=1,
        help="How often in a row a transfer may fail without any progress.",
    ),
    cfg.FloatOpt(
        "image_timeout",
        default=TransferSettings.total_timeout,
        min=1,
        help="Seconds for one image, all attempts together.",
    ),
    cfg.FloatOpt(
        "image_connect_timeout",
        default=TransferSettings.connect_timeout,
        min=0.1,
        help="Seconds for a connection to a server.",
    ),
    cfg.FloatOpt(
        "image_idle_timeout",
        default=TransferSettings.idle_timeout,
        min=0.1,
        help="Seconds that a server may stay silent.",
    ),
    cfg.StrOpt("image_ca_file", help="Certificates (PEM) to trust for https, in place of the system's."),
    cfg.StrOpt(
        "image_auth_file",
        help="Accounts for the registries of oci:// images, a file in the form of docker's config.json (auths).",
    ),
    cfg.StrOpt(
        "image_keyring",
        help="Public keys (OpenPGP, armored or not): one of them must have signed each image, or its checksums.",
    ),
    cfg.StrOpt(
        "image_cosign_key",
        help="Public key (PEM, as cosign.pub is) that must have signed each oci:// image.",
    ),
]

# Not on the command line, which every user of the machine can read.
SWIFT = [
    cfg.StrOpt("swift_auth_url", help="Where swift:// images are asked for, such as http://keystone:5000/v3."),
    cfg.StrOpt("swift_user", help="The user for swift:// images."),
    cfg.StrOpt("swift_key", secret=True, help="The password or key of that user."),
    cfg.StrOpt("swift_auth_version", default="3", choices=["1", "2", "3"], help="The kind of authentication."),
    cfg.StrOpt("swift_project", help="The project of that user."),
    cfg.StrOpt("swift_user_domain", help="The domain of that user."),
    cfg.StrOpt("swift_project_domain", help="The domain of that project."),
    cfg.StrOpt("swift_region", help="The region of the object store."),
]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """All options, for the generator of the sample file."""
    return [("DEFAULT", [*DRIVERS, *INPUT, *DEPLOY, *TRANSFER, *SWIFT])]


def values(conf: cfg.ConfigOpts, options: Mapping[str, object]) -> dict[str, object]:
    """The values of the options of an action; those that are none of bareon's are read from the configuration files.

    :param options: their names with their defaults.
    """
    unknown = [name for name in options if name not in conf]
    conf.register_opts([cfg.StrOpt(name, default=options[name]) for name in unknown])
    return {name: conf[name] for name in options}


def check_names(conf: cfg.ConfigOpts, others: Callable[[], Collection[str]]) -> None:
    """See that the configuration files set options that there are; oslo.config passes over all others.

    :param others: the names of options of plug-ins, which are asked for only where a file has a name that is unknown.
    :raises UsageError: for the first that nobody has: misspelt, the option would silently have its default.
    """
    known = {option.dest for _, options in list_opts() for option in options} | set(conf)
    files = [Path(x) for x in conf.config_file or ()]
    files += [file for x in conf.config_dir or () for file in sorted(Path(x).glob("*.conf"))]
    for file in files:
        sections: dict[str, dict[str, list[str]]] = {}
        cfg.ConfigParser(str(file), sections).parse()
        for section, values in sections.items():
            where = f"configuration: {file}: [{section}]"
            if values and section != "DEFAULT":
                raise UsageError(f"{where} is read by nobody, its options belong to [DEFAULT]")
            if any(name not in known for name in values):
                known |= set(others())
            for name in values:
                if name not in known:
                    import difflib  # no start that goes well needs it

                    near = difflib.get_close_matches(name.replace("-", "_"), sorted(known), 1)
                    hint = f"; is {near[0]} meant?" if near else ""
                    raise UsageError(f"{where} has {name!r}, which is no option{hint}")


def transfer_settings(conf: cfg.ConfigOpts) -> TransferSettings:
    """Settings of transfers, from the options.

    :raises UsageError: when the account for ``swift://`` is given in part, or a time is no number.
    """
    account = {name: conf[f"swift_{name}"] for name in ("auth_url", "user", "key")}
    if absent := [f"swift_{name}" for name, value in account.items() if not value]:
        if len(absent) < len(account):
            raise UsageError(f"configuration: swift:// images also need {', '.join(absent)}")
        swift = None
    else:
        others = ("auth_version", "project", "user_domain", "project_domain", "region")
        swift = SwiftAccount(**account, **{name: conf[f"swift_{name}"] for name in others})
    for name in ("image_timeout", "image_connect_timeout", "image_idle_timeout"):
        if not math.isfinite(conf[name]):
            raise UsageError(f"configuration: {name} is a number of seconds, not {conf[name]}")
    return TransferSettings(
        attempts=conf.image_attempts,
        total_timeout=conf.image_timeout,
        connect_timeout=conf.image_connect_timeout,
        idle_timeout=conf.image_idle_timeout,
        ca_file=conf.image_ca_file,
        auth_file=conf.image_auth_file,
        keyring=conf.image_keyring,
        cosign_key=conf.image_cosign_key,
        swift=swift,
    )


def parse(argv: Sequence[str], options: Sequence[cfg.Opt], program: str, version: str, usage: str) -> cfg.ConfigOpts:
    """The configuration of a program from its arguments and the configuration files.

    :raises UsageError: when the configuration files are wrong; a wrong command line ends the program with exit 2.
    """
    from oslo_log import log

    conf = cfg.ConfigOpts()
    conf.register_cli_opts(list(options))
    conf.register_opts(SWIFT)
    log.register_options(conf)
    try:
        conf(
            _canonical(argv, options),
            project="bareon",
            prog=program,
            version=f"{program} {version}",
            description=usage,
        )
    except (cfg.Error, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"configuration: {error}") from None
    except SystemExit as end:
        # oslo.config says 1 for a value that an option does not take.
        raise SystemExit(2 if end.code else 0) from None
    return conf


def is_given(conf: cfg.ConfigOpts, name: str) -> bool:
    """True if the command line, a configuration file or the environment has the option."""
    found = conf.get_location(name)
    return found is not None and found.location.is_user_controlled


def _canonical(argv: Sequence[str], options: Sequence[cfg.Opt]) -> list[str]:
    """Accept each option with underscores and with hyphens."""
    ours = {option.name.replace("_", "-"): option.name for option in options}
    ours |= {f"no{hyphens}": f"no{name}" for hyphens, name in ours.items()}
    words: list[str] = []
    for number, word in enumerate(argv):
        if word == "--":
            return [*words, *argv[number:]]
        name, equals, value = word.removeprefix("--").partition("=")
        hyphens = name.replace("_", "-")
        if word.startswith("--"):
            word = f"--{ours.get(hyphens, hyphens)}{equals}{value}"
        words.append(word)
    return words


class _Record(logging.LogRecord):
    """A record in which no text of unknown origin begins a line of the log, or moves a cursor."""

    def getMessage(self) -> str:  # noqa: N802  the name is the library's
        return visible(super().getMessage(), "\n\t").replace("\n", "\n    ")


def set_up_logging(conf: cfg.ConfigOpts, *, default_file: bool) -> str | None:
    """Start logging as configured.

    :param default_file: log to :data:`DEFAULT_LOG` where nothing else is configured.
    :returns: the path of the log file, ``None`` where there is none.
    :raises UsageError: when a file that configures it is wrong.
    """
    from oslo_log import log

    if not (conf.log_file or conf.log_dir or conf.use_syslog or conf.use_journal or conf.log_config_append):
        if not default_file:
            return None
        conf.set_override("log_file", DEFAULT_LOG)
    path = None
    if conf.log_file:
        path = str(Path(conf.log_dir or "/") / conf.log_file if conf.log_dir else Path(conf.log_file))
        try:
            with open(path, "a"):  # noqa: PTH123
                pass
        except OSError as error:
            sys.stderr.write(f"bareon: no log: {path}: {error.strerror}\n")
            return None
    logging.setLogRecordFactory(_Record)
    try:
        log.setup(conf, "bareon")
    except log.LogConfigError as error:
        raise UsageError(f"configuration: {error}") from None
    return path
