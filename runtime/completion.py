"""The completion command: what a shell needs to complete ``troupe``, made from the parser itself.

``eval "$(troupe completion bash)"`` in ``~/.bashrc``; ``zsh`` takes the same function through its own ``bashcompinit``.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SHELLS = ("bash", "zsh")
ZSH = "autoload -Uz compinit bashcompinit && compinit -u && bashcompinit\n"
BASH = """\
_troupe() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
    case "${{COMP_WORDS[1]}} $before" in
{choices}
        *)  case "${{COMP_WORDS[1]}}" in
{options}
            esac ;;
    esac
    [ "$COMP_CWORD" -eq 1 ] && words="{commands}"
    COMPREPLY=( $(compgen -W "$words" -- "$word") )
}}
complete -o default -F _troupe troupe
"""


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script that completes the commands of *parser*, their options, and what an option can be.

    Where nothing of that fits, the shell completes file names.
    """
    commands = dict(_commands(parser))
    choices = [
        f'        "{name} {flag}") words="{" ".join(map(str, action.choices))}" ;;'
        for name, command in commands.items()
        for action in command._actions  # noqa: SLF001 (argparse has no other way to ask)
        if action.choices
        for flag in action.option_strings or (name,)
    ]
    options = [f'                {name}) words="{" ".join(_flags(command))}" ;;' for name, command in commands.items()]
    script = BASH.format(choices="\n".join(choices), options="\n".join(options), commands=" ".join(commands))
    return (ZSH if shell == "zsh" else "") + script


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:  # noqa: SLF001 (as above)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 (as above)
            for name, command in action.choices.items():
                if list(_flags(command)):  # one that is not built yet has none
                    yield name, command


def _flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001 (as above)
        if action.help != argparse.SUPPRESS:
            yield from (flag for flag in action.option_strings if flag.startswith("--"))
