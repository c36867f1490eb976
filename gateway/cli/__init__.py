"""The command line: starts the gateway, and calls one that runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import gateway
from gateway.cli import annotating, calling, comparing, costs, ledger, listing, output, process, serving, simulating

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="One gRPC service that turns an image into a typed answer.",
    epilog="Exit codes: 0 when all went well; 1 when a call failed or something cannot be started, and standard error "
    "says why; 2 when the command itself is wrong.",
)
serving.register(app)
calling.register(app)
annotating.register(app)
comparing.register(app)
listing.register(app)
costs.register(app)
ledger.register(app)
simulating.register(app)


def _version(wanted: bool) -> None:  # noqa: FBT001  typer calls it so
    if wanted:
        typer.echo(f"vision-gateway {gateway.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Says the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Runs the command line; what an operator or a caller can mend ends in one line, not in a trace."""
    try:
        app()
    except process.CannotStart as exc:
        output.complain(*exc.lines)
        sys.exit(1)
