# SPDX-License-Identifier: Apache-2.0
"""Makes the completion of bareon's commands for bash from what the programs know of themselves."""

from __future__ import annotations

import importlib.metadata

from oslo_config import cfg

from bareon import conf

#: Values that are names of plug-ins, by the option.
_NAMESPACES = {
    "data_driver": "bareon.drivers.data",
    "deploy_driver": "bareon.drivers.deploy",
    "actions": "bareon.actions",
}
_LOG = ("config-file", "config-dir", "log-file", "log-dir", "debug", "help", "version")

_SCRIPT = """\
# Completion of bareon's commands for bash; made by doc/regenerate.py.
# Copy it to /usr/share/bash-completion/completions/bareon-provision and link the other names to it, or source it.
# In zsh: autoload -U +X bashcompinit && bashcompinit, then source it.

_bareon() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} options
    COMPREPLY=()
    # Bash splits words at "=".
    if [[ $word == = ]]; then word=; elif [[ $before == = ]]; then before=${{COMP_WORDS[COMP_CWORD-2]}}; fi
    case ${{1##*/}} in
        bareon-boot)
            [[ $COMP_CWORD -eq 1 ]] && options="list status switch confirm await refresh"
            [[ ${{COMP_WORDS[1]}} == switch ]] && options="--once --within"
            [[ ${{COMP_WORDS[1]}} == refresh ]] && options="--image --root"
            COMPREPLY=($(compgen -W "$options" -- "$word"))
            return ;;
        bareon-data-validator) options="{validator}" ;;
        bareon-report) options="--html --help --version" ;;
        bareon-ironic-callback) options="--ssh_port --lookup_timeout --once --log_file --root --help --version" ;;
        bareon-unattended) options="--log_file --root --help --version" ;;
        bareon-ramdisk-network) options="--answer --root --help --version" ;;
        bareon-ramdisk-trust) options="--root --help --version" ;;
        *) options="{options}" ;;
    esac
    case ${{before//-/_}} in
{values}
        {flags}) ;;
        __*) COMPREPLY=($(compgen -f -- "$word")); return ;;
    esac
    if [[ $word == -* ]]; then
        # With hyphens where they were begun with them.
        [[ $word == --*[a-z]-* ]] && options=${{options//_/-}}
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}}

complete -o filenames -F _bareon {commands}
"""


def script() -> str:
    """The completion script."""
    options = [*conf.DRIVERS, *conf.INPUT, *conf.DEPLOY, *conf.TRANSFER]
    values = {option.name: choices for option in options if (choices := _choices(option))}
    flags = [option.name for option in options if isinstance(option, cfg.BoolOpt)]
    commands = importlib.metadata.entry_points(group="console_scripts")
    return _SCRIPT.format(
        options=" ".join([f"--{option.name}" for option in options] + [f"--{name}" for name in _LOG]),
        validator="--data_driver --deploy_driver --template_path --help --version",
        values="\n".join(
            f'        __{name}) COMPREPLY=($(compgen -W "{" ".join(words)}" -- "$word")); return ;;'
            for name, words in values.items()
        ),
        flags="|".join(f"__{name}" for name in (*flags, "debug", "help", "version", "once")),
        commands=" ".join(sorted(entry.name for entry in commands if entry.name.startswith("bareon-"))),
    )


def _choices(option: cfg.Opt) -> list[str]:
    if namespace := _NAMESPACES.get(option.name):
        ours = (
            entry for entry in importlib.metadata.entry_points(group=namespace) if entry.value.startswith("bareon.")
        )
        return sorted(entry.name for entry in ours)
    return list(getattr(option.type, "choices", None) or ())
