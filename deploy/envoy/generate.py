"""Writes what Envoy has to know of the contract to turn JSON into it: `python -m deploy.envoy.generate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.rpc import error_details_pb2

from visiongateway.v1 import vision_service_pb2

if TYPE_CHECKING:
    from google.protobuf.descriptor import FileDescriptor

TARGET = Path(__file__).with_name("visiongateway.pb")


def descriptors() -> FileDescriptorSet:
    """Gives the contract's files, those they import first, and what the details of its errors are written in."""
    found: dict[str, FileDescriptorProto] = {}
    for file in (vision_service_pb2.DESCRIPTOR, error_details_pb2.DESCRIPTOR):
        _collect(file, found)
    return FileDescriptorSet(file=found.values())


def _collect(file: FileDescriptor, found: dict[str, FileDescriptorProto]) -> None:
    for needed in file.dependencies:
        _collect(needed, found)
    if file.name not in found:
        found[file.name] = FileDescriptorProto()
        file.CopyToProto(found[file.name])


if __name__ == "__main__":
    TARGET.write_bytes(descriptors().SerializeToString())
