"""lab-kbs: stands in for the KBS of the Red Hat build of Trustee 1.0.0 (upstream v0.15, generation B).

``python -m lab.kbs --config-file /etc/kbs-config/kbs-config.toml``: the real program's command line. Only the trust anchor is
false: evidence of ``azsnpvtpm`` is verified with the lab's silicon key (``LAB_SILICON_PUBLIC``) in place of the vendor's.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import datetime
import json
import logging
import os
import re
import ssl
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from aiohttp import web

from lab import program
from lab.kbs_attestation import TEES, AttestationService, Refused, Rvps, decode_policy, evaluate, parses
from lab.kbs_config import Config, StartError, read
from lab.kbs_tokens import JweError, TokenError, admin, b64url, jwe, sign, verify
from lab.paths import listen_address, rooted

log = logging.getLogger("lab")

ERRORS = "https://github.com/confidential-containers/kbs/errors/"
PROTOCOL = "0.4.0"
SEGMENT = re.compile(r"^[a-zA-Z0-9_-]+[a-zA-Z0-9_.-]*$")
MAX_HEAD = 131072
STOCK_RESOURCE_POLICY = """package policy

import rego.v1

# Resources for any evidence but that of the sample attester.
default allow := false

sampled if {
	some name
	input.submods[name]["ear.veraison.annotated-evidence"].sample
}

allow if {
	count(input.submods) > 0
	not sampled
}
"""


class Denied(Exception):
    """An answer other than success: error variant, detail, status; ``cause`` is for the log."""

    def __init__(self, variant: str, detail: str, status: int = 401, cause: str = "") -> None:
        super().__init__(detail)
        self.variant, self.detail, self.status, self.cause = variant, detail, status, cause


class Session:
    def __init__(self, tee: str, minutes: int) -> None:
        self.id = uuid.uuid4().hex
        self.tee = tee
        self.nonce = base64.b64encode(os.urandom(32)).decode()
        self.expires = time.time() + minutes * 60
        self.token: str | None = None

    @property
    def cookie(self) -> str:
        stamp = datetime.datetime.fromtimestamp(self.expires, datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
        return f"kbs-session-id={self.id}; Expires={stamp}"


def answer(body: str | bytes = b"", status: int = 200, content_type: str = "",
           headers: dict[str, str] | None = None) -> web.Response:
    data = body.encode() if isinstance(body, str) else body
    response = web.Response(body=data, status=status, headers=headers)
    response["content-type"] = content_type
    return response


async def plain_headers(request: web.Request, response: web.StreamResponse) -> None:
    """The headers of the real server: no Server, a content type only where it sends one."""
    response.headers.pop("Server", None)
    kind = response.get("content-type", "")
    if kind:
        response.headers["Content-Type"] = kind
    else:
        response.headers.pop("Content-Type", None)


class Kbs:
    """The request handlers."""

    def __init__(self, config: Config, silicon_public: bytes | None) -> None:
        self.config = config
        self.attestation = AttestationService(config.policy_dir, Rvps(config.reference_values), silicon_public)
        self.sessions: dict[str, Session] = {}
        self.counters: dict[str, int] = {}
        policy = config.resource_policy
        if not policy.exists():
            policy.parent.mkdir(parents=True, exist_ok=True)
            policy.write_text(STOCK_RESOURCE_POLICY)

    def count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1

    # Routing ----------------------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        began = time.monotonic()
        try:
            response = await self.route(request)
        except Denied as error:
            if error.cause:
                log.error("%s", error.cause)
            log.error("%s", error.detail)
            body = json.dumps({"type": ERRORS + error.variant, "detail": error.detail}, separators=(",", ":"))
            response = answer(body, error.status)
        except web.HTTPRequestEntityTooLarge:
            response = answer("payload reached size limit", 413, "text/plain; charset=utf-8")
        log.info('%s "%s %s HTTP/1.1" %s %s "-" "%s" %.6f', request.remote, request.method, request.raw_path, response.status,
                 response.content_length or 0, request.headers.get("User-Agent", "-"), time.monotonic() - began)
        return response

    async def route(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path == "/metrics" and request.method == "GET":
            return answer(self.metrics())
        if not path.startswith("/kbs/v0/") or path == "/kbs/v0/":
            return answer(b"", 404)
        if request.method not in ("GET", "POST"):
            return answer(b"", 405, headers={"allow": "GET, POST"})
        first, *rest = path.removeprefix("/kbs/v0/").split("/")
        body = await request.read()
        if request.method == "POST":
            handler = {"auth": self.auth, "attest": self.attest, "resource-policy": self.set_resource_policy,
                       "attestation-policy": self.set_attestation_policy, "reference-value": self.set_reference_value}.get(first)
            if handler is not None:
                return handler(request, body)
        elif first == "resource-policy":
            self.check_admin(request)
            return answer(b64url(self.config.resource_policy.read_bytes()), content_type="text/xml")
        elif first == "reference-value":
            self.check_admin(request)
            return self.get_reference_values()
        if first != "resource" or self.config.repository is None:
            raise Denied("PluginNotFound", f"Plugin {first} not found", 404)
        if request.method == "POST":
            self.check_admin(request)
            return self.set_resource("/".join(rest), body)
        return self.get_resource(request, "/".join(rest))

    # Handshake --------------------------------------------------------------------------------------------------

    def auth(self, request: web.Request, body: bytes) -> web.Response:
        prefix = "Attestation error: RCAR handshake Auth failed: "
        try:
            message = json.loads(body)
            version, tee = message["version"], message["tee"]
            message["extra-params"]
            if tee not in TEES or not isinstance(version, str):
                raise ValueError(tee)
        except (ValueError, KeyError, TypeError) as error:
            raise Denied("AttestationError", prefix + "deserialize Request") from error
        if not re.match(r"^\d+\.\d+\.\d+", version):
            raise Denied("AttestationError", prefix + "failed to parse KBS version")
        if version != PROTOCOL:
            raise Denied("AttestationError", f"{prefix}KBS Client Protocol Version Mismatch: expect ={PROTOCOL} while the "
                         f"request is {version}")
        now = time.time()
        self.sessions = {key: session for key, session in self.sessions.items() if session.expires > now}
        session = Session(tee, self.config.timeout_minutes)
        self.sessions[session.id] = session
        self.count("kbs_auth_successes_total")
        text = json.dumps({"nonce": session.nonce, "extra-params": ""}, separators=(",", ":"))
        return answer(text, content_type="application/json", headers={"Set-Cookie": session.cookie})

    def attest(self, request: web.Request, body: bytes) -> web.Response:
        try:
            session = self._attest(request, body)
        except Refused as error:
            self.count("kbs_attestation_errors_total")
            raise Denied("AttestationError", "Attestation error: RCAR handshake Attest failed", cause=str(error)) from error
        text = json.dumps({"token": session.token}, separators=(",", ":"))
        return answer(text, content_type="application/json", headers={"Set-Cookie": session.cookie})

    def _attest(self, request: web.Request, body: bytes) -> Session:
        cookie = request.cookies.get("kbs-session-id")
        if cookie is None:
            raise Refused("cookie not found")
        try:
            message = json.loads(body)
            runtime, evidence = message["runtime-data"], message["tee-evidence"]
            runtime["nonce"], runtime["tee-pubkey"], evidence["primary_evidence"]
            if not isinstance(evidence.get("additional_evidence", ""), str):
                raise TypeError
        except (ValueError, KeyError, TypeError) as error:
            raise Refused("deserialize Attestation") from error
        session = self.sessions.get(cookie)
        if session is None:
            raise Refused("No cookie found")
        if session.expires < time.time():
            raise Refused("session expired.")
        if session.token is not None:
            return session
        if runtime["nonce"] != session.nonce:
            raise Refused("RCAR handshake nonce mismatch")
        claims = self.attestation.claims(session.tee, message, self.config.duration_minutes)
        session.token = sign(claims, self.config.signer, self.config.signer_chain)
        self.count("kbs_attestation_successes_total")
        log.info("%s Verifier/endorsement check passed.", session.tee)
        return session

    # Resources --------------------------------------------------------------------------------------------------

    def _token(self, request: web.Request) -> str:
        session = self.sessions.get(request.cookies.get("kbs-session-id", ""))
        if session is not None and session.token is not None and session.expires > time.time():
            return session.token
        header = request.headers.get("Authorization", "")
        if header.startswith("Bearer "):
            return header.removeprefix("Bearer ")
        raise Denied("TokenNotFound", "Attestation Token not found")

    def get_resource(self, request: web.Request, path: str) -> web.Response:
        token = self._token(request)
        try:
            claims = verify(token, self.config.trusted, self.config.insecure_key)
        except TokenError as error:
            raise Denied("TokenVerifierError", "Token Verifier error", cause=str(error)) from error
        self.count("kbs_policy_evaluations_total")
        try:
            allowed = evaluate(self.config.resource_policy.read_text(), "allow", claims, {"resource-path": f"resource/{path}"})
        except (OSError, ValueError) as error:
            raise Denied("PolicyEngine", "Policy engine error", cause=str(error)) from error
        if not isinstance(allowed, bool):
            cause = "query did not produce any values" if allowed is None else "not a bool"
            raise Denied("PolicyEngine", "Policy engine error", cause=cause)
        if not allowed:
            self.count("kbs_policy_violations_total")
            raise Denied("PolicyDeny", "Access denied by policy")
        try:
            secret = self._file(path).read_bytes()
        except OSError as error:
            raise Denied("PluginInternalError", "Plugin internal error", cause=f"read resource {path}: {error.strerror}") from error
        try:
            encrypted = jwe(secret, _tee_key(claims))
        except JweError as error:
            raise Denied("JweError", "JWE failed", cause=str(error)) from error
        self.count("kbs_resource_reads_total")
        return answer(encrypted, content_type="application/json")

    def _file(self, path: str) -> Path:
        parts = path.split("/")
        if len(parts) != 3 or not all(SEGMENT.match(part) for part in parts) or self.config.repository is None:
            raise Denied("PluginInternalError", "Plugin internal error", cause=f"illegal resource path {path}")
        return self.config.repository.joinpath(*parts)

    def set_resource(self, path: str, body: bytes) -> web.Response:
        file = self._file(path)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)
        except OSError as error:
            raise Denied("PluginInternalError", "Plugin internal error", cause=str(error)) from error
        return answer(b"", content_type="text/xml")

    # Administration ---------------------------------------------------------------------------------------------

    def check_admin(self, request: web.Request) -> None:
        if self.config.admin_key is None:
            return
        header = request.headers.get("Authorization", "")
        if not header.startswith("Bearer "):
            raise Denied("AdminAuth", "Admin auth error: Failed to parse HTTP Auth Bearer header")
        try:
            admin(header.removeprefix("Bearer "), self.config.admin_key)
        except TokenError as error:
            raise Denied("AdminAuth", "Admin auth error: Admin Token verification failed", cause=str(error)) from error

    def set_resource_policy(self, request: web.Request, body: bytes) -> web.Response:
        self.check_admin(request)
        try:
            text = decode_policy(json.loads(body)["policy"])
            if not parses(text):
                raise Refused("policy does not parse")
            self.config.resource_policy.write_text(text)
        except (ValueError, KeyError, TypeError, Refused, OSError) as error:
            raise Denied("PolicyEngine", "Policy engine error", cause=str(error)) from error
        return answer()

    def set_attestation_policy(self, request: web.Request, body: bytes) -> web.Response:
        self.check_admin(request)
        try:
            message = json.loads(body)
            self.attestation.set_policy(message["policy_id"], message["policy"])
        except (ValueError, KeyError, TypeError, Refused) as error:
            raise Denied("AttestationError", "Attestation error: Set Attestation Policy failed", cause=str(error)) from error
        return answer()

    def set_reference_value(self, request: web.Request, body: bytes) -> web.Response:
        self.check_admin(request)
        try:
            self.attestation.rvps.register(json.loads(body))
        except (ValueError, Refused, binascii.Error) as error:
            raise Denied("RvpsError", "RVPS configuration failed: Failed to register reference value: register reference value",
                         cause=str(error)) from error
        return answer(content_type="application/json")

    def get_reference_values(self) -> web.Response:
        try:
            values = self.attestation.rvps.values()
        except Refused as error:
            raise Denied("RvpsError", "RVPS configuration failed: Failed to get reference_values", cause=str(error)) from error
        return answer(json.dumps(values, separators=(",", ":")), content_type="application/json")

    def metrics(self) -> str:
        lines = ['# TYPE kbs_build_info gauge', 'kbs_build_info{build_date="",git_hash="ea56c1bfa7",version="0.1.0"} 1']
        for name in ("kbs_auth_successes_total", "kbs_attestation_successes_total", "kbs_attestation_errors_total",
                     "kbs_policy_evaluations_total", "kbs_policy_violations_total", "kbs_resource_reads_total"):
            lines += [f"# TYPE {name} counter", f"{name} {self.counters.get(name, 0)}"]
        return "\n".join(lines) + "\n"


def _tee_key(claims: dict[str, Any]) -> dict[str, Any]:
    try:
        runtime = claims["submods"]["cpu0"]["ear.veraison.annotated-evidence"]["runtime_data_claims"]
        key: dict[str, Any] = runtime["tee-pubkey"]
        return key
    except (KeyError, TypeError) as error:
        if isinstance(claims.get("tee-pubkey"), dict):
            return dict(claims["tee-pubkey"])
        raise Denied("TokenVerifierError", "Token Verifier error", cause="no TEE public key in the token") from error


def tls_context(config: Config) -> ssl.SSLContext | None:
    """TLS 1.2 only, as the real server; None where the key does not fit the certificate (every handshake then fails)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(rooted(config.certificate), rooted(config.private_key))
    except ssl.SSLError as error:
        if "KEY_VALUES_MISMATCH" in str(error):
            return None
        raise StartError("HTTPS initialization failed") from error
    return context


async def serve(path: str) -> None:
    """Run the server until it is stopped."""
    log.info("Using config file %s", path)
    config = read(path)
    for note in config.notes:
        log.info("%s", note)
    public = os.environ.get("LAB_SILICON_PUBLIC")
    silicon_public = Path(public).read_bytes() if public else None
    if silicon_public:
        log.warning("lab-kbs trusts the lab's silicon key %s in place of the vendor's certificate chain", public)
    kbs = Kbs(config, silicon_public)
    context = None if config.insecure_http else tls_context(config)
    broken = not config.insecure_http and context is None
    application = web.Application(client_max_size=config.payload_mib * 1024 * 1024)
    application.on_response_prepare.append(plain_headers)
    application.router.add_route("*", "/{path:.*}", kbs.handle)
    runner = web.AppRunner(application, access_log=None, max_field_size=MAX_HEAD, max_line_size=MAX_HEAD)
    await runner.setup()
    log.info("Starting %s server at [%s]", "HTTP" if config.insecure_http else "HTTPS", ", ".join(config.sockets))
    for socket in config.sockets:
        host, port = listen_address(socket)
        if broken:
            await asyncio.start_server(lambda reader, writer: writer.close(), host, port)
        else:
            await web.TCPSite(runner, host, port, ssl_context=context).start()
    log.info("starting %d workers", 4)
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def main(arguments: list[str]) -> int:
    """The real program's command line."""
    options = argparse.ArgumentParser(prog="kbs")
    options.add_argument("-c", "--config-file", required=True)
    chosen = options.parse_args(arguments)

    async def work() -> None:
        try:
            await serve(chosen.config_file)
        except StartError as error:
            print(f"Error: {error}", flush=True)
            sys.exit(1)

    return program.main("lab-kbs", "the KBS of the Red Hat build of Trustee", "Trustee 1.0.0, generation B", work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
