"""TLS servers for admission webhooks: certificates from a mounted directory, read again when they change."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from lab.paths import listen_address, rooted

log = logging.getLogger("lab")

Object = dict[str, Any]
Review = Callable[[Object], Awaitable[Object]]
CERTIFICATES = "/tmp/k8s-webhook-server/serving-certs"


def allowed(patch: list[Object] | None = None) -> Object:
    """An answer that lets the object pass, changed by a JSON patch where one is given."""
    answer: Object = {"allowed": True}
    if patch:
        answer.update(patchType="JSONPatch", patch=base64.b64encode(json.dumps(patch).encode()).decode())
    return answer


def denied(message: str, code: int = 403) -> Object:
    """An answer that refuses the object."""
    return {"allowed": False, "status": {"code": code, "message": message}}


def errored(message: str) -> Object:
    """An answer that refuses because the check itself failed."""
    return denied(message, 500)


def application(handlers: dict[str, Review]) -> web.Application:
    """An application that answers AdmissionReviews at the given paths."""

    def handler_for(review: Review) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            body = await request.json()
            answer = await review(body["request"])
            answer["uid"] = body["request"]["uid"]
            return web.json_response(
                {"apiVersion": body.get("apiVersion", "admission.k8s.io/v1"), "kind": "AdmissionReview",
                 "response": answer}
            )

        return handle

    app = web.Application(client_max_size=8 * 1024 * 1024)
    for path, review in handlers.items():
        app.router.add_post(path, handler_for(review))
    return app


async def serve(handlers: dict[str, Review], socket: str = "0.0.0.0:9443", directory: str = CERTIFICATES) -> None:
    """Serve for ever. Raises ``FileNotFoundError`` where the certificate is not mounted, as the real server stops then."""
    folder = rooted(directory)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, folder)
    runner = web.AppRunner(application(handlers), access_log=None)
    await runner.setup()
    host, port = listen_address(socket)
    await web.TCPSite(runner, host, port, ssl_context=context).start()
    log.info("serving webhooks at %s:%d: %s", host, port, ", ".join(handlers))
    try:
        stamp = _stamp(folder)
        while True:
            await asyncio.sleep(2)
            fresh = _stamp(folder)
            if fresh and fresh != stamp:
                try:
                    _load(context, folder)
                except (ssl.SSLError, OSError) as error:
                    log.warning("certificate not read: %s", error)
                    continue
                stamp = fresh
                log.info("certificate read again")
    finally:
        await runner.cleanup()


def _load(context: ssl.SSLContext, folder: Path) -> None:
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")


def _stamp(folder: Path) -> tuple[bytes, bytes] | None:
    try:
        return (folder / "tls.crt").read_bytes(), (folder / "tls.key").read_bytes()
    except OSError:
        return None
