"""`oq completion`: lets a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from oq.cli.session import Session, session_options

_SHELLS = {
    "bash": 'eval "$(oq completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(oq completion zsh)" in ~/.zshrc',
    "fish": "oq completion fish > ~/.config/fish/completions/oq.fish",
}


@click.command("completion", epilog="\b\n" + "\n".join(f"{shell}: {how}" for shell, how in _SHELLS.items()))
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@session_options
@click.pass_context
def completion(ctx: click.Context, session: Session, shell: str) -> None:  # noqa: ARG001  # every command has one
    """Print the script that lets a shell complete what is typed after `oq`."""
    found = get_completion_class(shell)
    assert found is not None, "click knows the shells that are offered"
    click.echo(found(ctx.find_root().command, {}, "oq", "_OQ_COMPLETE").source())
