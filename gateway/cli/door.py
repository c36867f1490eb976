"""How commands get to a gateway: its address, what it is trusted by, and what they show of themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    import grpc

    from gateway.settings import TlsSettings

_PANEL = "Options of every call"


Address: TypeAlias = Annotated[str, typer.Option(envvar="VISION_GATEWAY_ADDRESS", help="HOST:PORT of the gateway.")]
Bearer: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        "--token",
        envvar=["VISION_GATEWAY_API_KEY", "VISION_GATEWAY_TOKEN"],
        show_envvar=True,
        help="API key, or token of an identity provider; better in the environment.",
        rich_help_panel=_PANEL,
    ),
]
Tls: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--tls", help="TLS, trusting the authorities that gRPC brings; --ca is enough alone.", rich_help_panel=_PANEL
    ),
]
Ca: TypeAlias = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="PEM of the gateway's authority.", rich_help_panel=_PANEL),
]
Cert: TypeAlias = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="PEM of a certificate to show.", rich_help_panel=_PANEL),
]
Key: TypeAlias = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="PEM of its key.", rich_help_panel=_PANEL)
]


@dataclass(frozen=True, slots=True)
class Door:
    """A gateway, and how to come in."""

    address: str
    bearer: str | None = None
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Gives those of a channel, None for plain text; raises `typer.BadParameter` for half a certificate."""
        import grpc  # noqa: PLC0415  `--help` should not wait

        if (self.cert is None) != (self.key is None):
            raise typer.BadParameter("--cert and --key go together")
        if not (self.tls or self.ca or self.cert):
            return None
        ca, key, cert = (path.read_bytes() if path else None for path in (self.ca, self.key, self.cert))
        return grpc.ssl_channel_credentials(ca, key, cert)


def ways_in(command: str, address: str, tls: TlsSettings | None) -> tuple[str, str]:
    """Gives a call by *command*, which is ours, and one by grpcurl; people fill in what stands in capitals."""
    ours, theirs = "", "-plaintext"
    if tls:
        ours, theirs = " --ca CA.crt", "-cacert CA.crt"
        if tls.client_auth == "require":
            ours, theirs = f"{ours} --cert ME.crt --key ME.key", f"{theirs} -cert ME.crt -key ME.key"
    return f"{command} caption PHOTO.jpg --address {address}{ours}", f"grpcurl {theirs} {address} list"
