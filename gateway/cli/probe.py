"""Asks a Triton what it is, and whether a model on it is ready and keeps the wire contract."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from tritonclient.grpc import service_pb2 as pb, service_pb2_grpc

from gateway.backends._triton_wire import WIRES

_TIMEOUT_S = 5.0
# A local address is not to be asked through the company's proxy.
_OPTIONS = (("grpc.enable_http_proxy", 0),)


@dataclass(frozen=True, slots=True)
class Server:
    """What a Triton says of itself and of one model; *differences* are those from the wire, None where unknown."""

    name: str
    live: bool
    ready: bool
    model_ready: bool
    model_versions: tuple[str, ...] = ()
    engine: str = ""
    differences: tuple[str, ...] | None = None

    @property
    def fine(self) -> bool:
        """Whether the model can be asked."""
        return self.live and self.ready and self.model_ready and self.differences == ()


async def look(address: str, model: str, wire: str) -> Server | None:
    """Asks the Triton at *address*, `HOST:PORT`, about *model*, which is to speak *wire*.

    None when nobody answers within 5 s.
    """
    async with grpc.aio.insecure_channel(address, _OPTIONS) as channel:
        server = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            live = (await server.ServerLive(pb.ServerLiveRequest(), timeout=_TIMEOUT_S)).live
            ready = (await server.ServerReady(pb.ServerReadyRequest(), timeout=_TIMEOUT_S)).ready
            about = await server.ServerMetadata(pb.ServerMetadataRequest(), timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return None
        name = f"{about.name} {about.version}"
        try:
            model_ready = (await server.ModelReady(pb.ModelReadyRequest(name=model), timeout=_TIMEOUT_S)).ready
            metadata = await server.ModelMetadata(pb.ModelMetadataRequest(name=model), timeout=_TIMEOUT_S)
            config = (await server.ModelConfig(pb.ModelConfigRequest(name=model), timeout=_TIMEOUT_S)).config
        except grpc.aio.AioRpcError:
            # Triton answers so for a model that it does not have, or has not loaded.
            return Server(name, live, ready, model_ready=False)
    return Server(
        name,
        live,
        ready,
        model_ready,
        tuple(metadata.versions),
        config.parameters["engine"].string_value if "engine" in config.parameters else "",
        tuple(WIRES[wire].differences(config)),
    )
