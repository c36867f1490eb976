"""Asks a running gateway which models it has."""

from __future__ import annotations

import json
import ssl
import sys
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any
from urllib.error import HTTPError
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

import typer

from gateway.cli import asking, door, output

_TIMEOUT_S = 10


def models(  # noqa: PLR0913  one parameter for each option
    http_address: Annotated[
        str, typer.Option(envvar="VISION_GATEWAY_HTTP_ADDRESS", help="HOST:PORT of the gateway's HTTP port.")
    ] = "127.0.0.1:8080",
    *,
    address: Annotated[
        str | None,
        typer.Option(help="HOST:PORT of the gateway's gRPC port instead, which tells tasks, prices and routes too."),
    ] = None,
    api_key: door.Bearer = None,
    tls: door.Tls = False,
    ca: door.Ca = None,
    cert: door.Cert = None,
    key: door.Key = None,
    as_json: Annotated[bool, typer.Option("--json", help="Prints JSON, and no more.")] = False,
) -> None:
    """Lists the models of a running gateway and whether each can be asked."""
    if address is not None:
        _list(door.Door(address, api_key, tls, ca, cert, key), as_json=as_json)
        return
    url = f"{'https' if tls or ca else 'http'}://{http_address}/readyz"
    try:
        state = _read(url, ca)
        lines = [f"{name}  {'ready' if state['models'][name] == 'ready' else 'not ready'}" for name in state["models"]]
    except (OSError, HTTPException):
        output.complain(f"No gateway answers at {url}; give its --http-address, or its gRPC port as --address.")
        raise typer.Exit(1) from None
    except (ValueError, LookupError, TypeError):
        output.complain(f"What answers at {url} is no gateway.")
        raise typer.Exit(1) from None
    if as_json:
        sys.stdout.write(json.dumps(state) + "\n")
    else:
        output.say("\n".join(lines))


def _list(to: door.Door, *, as_json: bool) -> None:
    from google.protobuf.json_format import MessageToJson  # noqa: PLC0415  `--help` should not wait

    with asking.connected(to, _TIMEOUT_S) as client:
        listed = client.list_models()
    if as_json:
        sys.stdout.write(MessageToJson(listed) + "\n")
    else:
        output.say("\n".join([*map(output.listed, listed.models), *map(output.route, listed.routes)]))


def register(app: typer.Typer) -> None:
    """Adds the command to *app*."""
    app.command()(models)


def _read(url: str, ca: Path | None) -> Any:
    # A proxy for the web is none for a service of ours.
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=ssl.create_default_context(cafile=ca)))
    try:
        with opener.open(url, timeout=_TIMEOUT_S) as response:
            return json.load(response)
    except HTTPError as exc:
        return json.loads(exc.read())  # That no model is ready is told with 503, and in the same words.
