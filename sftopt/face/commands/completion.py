"""``sftopt completion``: what a shell needs to complete commands, options and names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from sftopt.core.errors import UnknownNameError
from sftopt.face.arguments import JsonOption
from sftopt.face.output import Answer

VARIABLE = "_SFTOPT_COMPLETE"
"""Environment variable by which a shell asks for completions."""
SHELLS = {
    "bash": 'eval "$(sftopt completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(sftopt completion zsh)"   # in ~/.zshrc, after compinit',
    "fish": "sftopt completion fish > ~/.config/fish/completions/sftopt.fish",
}
"""Shell -> the line that turns completion on."""


def completion(
    shell: Annotated[
        str, typer.Argument(metavar="SHELL", help=" | ".join(SHELLS), show_default=False)
    ],
    json: JsonOption = False,
) -> Answer:
    """Print the script that completes commands and options in a shell.

    bash: eval "$(sftopt completion bash)" in ~/.bashrc; zsh: the same in ~/.zshrc; fish: sftopt
    completion fish > ~/.config/fish/completions/sftopt.fish.
    """
    from typer._completion_shared import get_completion_script

    if shell not in SHELLS:
        raise UnknownNameError("shell", shell, SHELLS)
    script = get_completion_script(prog_name="sftopt", complete_var=VARIABLE, shell=shell)
    return Answer({"shell": shell, "script": script, "how": SHELLS[shell]}, script)


def asked() -> bool:
    """Tell whether a shell asks for completions, not a person for a command."""
    return VARIABLE in os.environ


def complete(app: typer.Typer, words: Sequence[str]) -> int:
    """Print the completions that a shell asks for, and return the exit code."""
    from typer._completion_classes import completion_init

    completion_init()
    try:
        typer.main.get_command(app).main(
            args=list(words), prog_name="sftopt", complete_var=VARIABLE
        )
    except SystemExit as done:
        return int(done.code or 0)
    return 0
