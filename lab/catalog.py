"""lab-catalog: stands in for the image of the redhat-operators index (gRPC API of operator-registry)."""

from __future__ import annotations

import json
import logging
import socket
import sys
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from lab import bundles, program

log = logging.getLogger("lab")

STRING, MESSAGE = descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE

# The messages of operator-registry's API that OLM exchanges: field name, number, type ("" = string, * = repeated).
MESSAGES: dict[str, list[tuple[str, int, str]]] = {
    "Channel": [("name", 1, ""), ("csvName", 2, "")],
    "PackageName": [("name", 1, "")],
    "Package": [("name", 1, ""), ("channels", 2, "*Channel"), ("defaultChannelName", 3, "")],
    "GroupVersionKind": [("group", 1, ""), ("version", 2, ""), ("kind", 3, ""), ("plural", 4, "")],
    "Property": [("type", 1, ""), ("value", 2, "")],
    "Bundle": [
        ("csvName", 1, ""), ("packageName", 2, ""), ("channelName", 3, ""), ("csvJson", 4, ""), ("object", 5, "*"),
        ("bundlePath", 6, ""), ("providedApis", 7, "*GroupVersionKind"), ("requiredApis", 8, "*GroupVersionKind"),
        ("version", 9, ""), ("skipRange", 10, ""), ("properties", 12, "*Property"), ("replaces", 13, ""), ("skips", 14, "*"),
    ],
    "ListPackageRequest": [], "ListBundlesRequest": [], "GetPackageRequest": [("name", 1, "")],
    "GetBundleRequest": [("pkgName", 1, ""), ("channelName", 2, ""), ("csvName", 3, "")],
    "GetBundleInChannelRequest": [("pkgName", 1, ""), ("channelName", 2, "")],
}


def message_classes() -> dict[str, Any]:
    """The classes of :data:`MESSAGES`."""
    file = descriptor_pb2.FileDescriptorProto(name="lab_registry.proto", package="api", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            reference = kind.lstrip("*")
            message.field.add(
                name=field, number=number, type=MESSAGE if reference else STRING,
                label=descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED if kind.startswith("*")
                else descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
                type_name=f".api.{reference}" if reference else None,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"api.{name}"))
            for name in MESSAGES}


CLASSES = message_classes()


def bundle_message(package: str, bundle: dict[str, Any]) -> Any:
    """A bundle as the index gives it: whole objects, no bundle image to unpack."""
    return CLASSES["Bundle"](
        csvName=bundle["name"], packageName=package, channelName=bundle["channel"], csvJson=json.dumps(bundle["csv"]),
        object=[json.dumps(obj) for obj in [bundle["csv"], *bundle["objects"]]], providedApis=bundle["provided_apis"],
        version=bundle["version"], skipRange=bundle["skip_range"], properties=bundle["properties"],
        replaces=bundle["replaces"],
    )


class Registry:
    """The index's answers."""

    def __init__(self, packages: list[dict[str, Any]]) -> None:
        self.packages = {package["package"]: package for package in packages}

    async def list_packages(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for name in self.packages:
            yield CLASSES["PackageName"](name=name)

    async def get_package(self, request: Any, context: Any) -> Any:
        package = self.packages.get(request.name)
        if package is None:
            await context.abort(grpc.StatusCode.UNKNOWN, f"package {request.name} not found")
            return None
        head = package["bundles"][-1]["name"]
        channel = package["default_channel"]
        return CLASSES["Package"](name=request.name, defaultChannelName=channel,
                                  channels=[CLASSES["Channel"](name=channel, csvName=head)])

    async def get_bundle(self, request: Any, context: Any) -> Any:
        for bundle in self.packages.get(request.pkgName, {"bundles": []})["bundles"]:
            if bundle["name"] == getattr(request, "csvName", bundle["name"]) and bundle["channel"] == request.channelName:
                return bundle_message(request.pkgName, bundle)
        await context.abort(grpc.StatusCode.UNKNOWN, f"bundle not found in package {request.pkgName}")
        return None

    async def get_bundle_for_channel(self, request: Any, context: Any) -> Any:
        package = self.packages.get(request.pkgName)
        if package is None:
            await context.abort(grpc.StatusCode.UNKNOWN, f"package {request.pkgName} not found")
            return None
        return bundle_message(request.pkgName, package["bundles"][-1])

    async def list_bundles(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for name, package in self.packages.items():
            for bundle in package["bundles"]:
                yield bundle_message(name, bundle)

    def handlers(self) -> list[Any]:
        def method(handler: Callable[..., Any], request: str, stream: bool = False) -> Any:
            make = grpc.unary_stream_rpc_method_handler if stream else grpc.unary_unary_rpc_method_handler
            return make(handler, request_deserializer=CLASSES[request].FromString,
                        response_serializer=lambda message: message.SerializeToString())

        async def check(request: bytes, context: Any) -> bytes:
            return b"\x08\x01"  # HealthCheckResponse{status: SERVING}

        return [
            grpc.method_handlers_generic_handler("api.Registry", {
                "ListPackages": method(self.list_packages, "ListPackageRequest", True),
                "GetPackage": method(self.get_package, "GetPackageRequest"),
                "GetBundle": method(self.get_bundle, "GetBundleRequest"),
                "GetBundleForChannel": method(self.get_bundle_for_channel, "GetBundleInChannelRequest"),
                "ListBundles": method(self.list_bundles, "ListBundlesRequest", True),
            }),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", {
                "Check": grpc.unary_unary_rpc_method_handler(check)}),
        ]


def hold_olm_port() -> socket.socket | None:
    """Keep OLM's programs from taking ``*:8080``, which pods use: they log that the address is in use and go on."""
    sock = socket.socket()
    try:
        sock.bind(("127.255.255.254", 8080))
        sock.listen(1)
    except OSError:
        sock.close()
        return None
    return sock


async def serve(address: str, release: str) -> None:
    held = hold_olm_port()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(tuple(Registry(bundles.index(release)).handlers()))
    server.add_insecure_port(address)
    await server.start()
    log.info("operator index of %s on %s", release, address)
    try:
        await server.wait_for_termination()
    finally:
        await server.stop(0)
        if held is not None:
            held.close()


def main() -> int:
    options = ArgumentParser()
    for name in ("--state", "--cluster", "--kubeconfig"):
        options.add_argument(name, required=True)
    chosen = options.parse_args()
    state = Path(chosen.state)
    number = json.loads((state / chosen.cluster / "nodes.json").read_text())[0]["address"].split(".")[1]
    release = (state / chosen.cluster / "release").read_text()
    return program.main("lab-catalog", "the redhat-operators index image", release,
                        lambda: serve(f"127.{number}.0.3:50051", release))


if __name__ == "__main__":
    sys.exit(main())
