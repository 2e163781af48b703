"""Attestation agent, confidential data hub and api-server-rest of a pod VM (guest components of the OSC release).

They speak one version of the KBS protocol, whose exact number a KBS asks for: 0.1.1 (OSC 1.9), 0.2.0 (1.10), 0.4.0 (1.11 on).
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import socket
import ssl
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lab import silicon
from lab.paths import resolve

log = logging.getLogger("lab")

RETRIES = 3


class GuestError(Exception):
    """A failure as the guest components word it: the top-level message, and the cause for the guest's journal."""

    def __init__(self, message: str, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class LabResolver(AbstractResolver):
    """Names of the lab (hosts.json)."""

    async def resolve(self, host: str, port: int = 0,
                      family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        address, target = resolve(host, port)
        return [ResolveResult(hostname=host, host=address, port=target, family=socket.AF_INET, proto=0,
                              flags=socket.AI_NUMERICHOST)]

    async def close(self) -> None:
        return None


class TeeKey(Protocol):
    """The key pair that the evidence binds and the answers are encrypted to."""

    jwk: dict[str, str]

    def pem(self) -> str: ...

    def decrypt(self, jwe: dict[str, str]) -> bytes: ...


class EcKey:
    """From 0.2.0: EC P-256."""

    def __init__(self) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        numbers = self.private.public_key().public_numbers()
        self.jwk = {"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW",
                    "x": b64url(numbers.x.to_bytes(32, "big")), "y": b64url(numbers.y.to_bytes(32, "big"))}

    def pem(self) -> str:
        return self.private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                          serialization.NoEncryption()).decode()

    def decrypt(self, jwe: dict[str, str]) -> bytes:
        """The content of a flattened JWE (ECDH-ES+A256KW, A256GCM); the header is re-serialised as the real client does."""
        header = json.loads(unb64url(jwe["protected"]))
        epk = header["epk"]
        point = ec.EllipticCurvePublicNumbers(int.from_bytes(unb64url(epk["x"]), "big"),
                                              int.from_bytes(unb64url(epk["y"]), "big"), ec.SECP256R1())
        shared = self.private.exchange(ec.ECDH(), point.public_key())
        algorithm = b"ECDH-ES+A256KW"
        kek = hashlib.sha256(
            (1).to_bytes(4, "big") + shared + len(algorithm).to_bytes(4, "big") + algorithm + bytes(8)
            + (256).to_bytes(4, "big")
        ).digest()
        cek = keywrap.aes_key_unwrap(kek, unb64url(jwe["encrypted_key"]))
        ordered = {"alg": header.pop("alg"), "enc": header.pop("enc"), **dict(sorted(header.items()))}
        ordered["epk"] = {k: epk[k] for k in ("crv", "kty", "x", "y")}
        aad = b64url(json.dumps(ordered, separators=(",", ":")).encode()).encode()
        return AESGCM(cek).decrypt(unb64url(jwe["iv"]), unb64url(jwe["ciphertext"]) + unb64url(jwe["tag"]), aad)


class RsaKey:
    """0.1.x: RSA, with the answers of that protocol (header as plain JSON and not bound, tag at the end of the content)."""

    def __init__(self) -> None:
        self.private = rsa.generate_private_key(65537, 2048)
        numbers = self.private.public_key().public_numbers()
        self.jwk = {"kty": "RSA", "alg": "RSA1_5", "n": b64url(numbers.n.to_bytes(256, "big")), "e": "AQAB"}

    def pem(self) -> str:
        return self.private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL,
                                          serialization.NoEncryption()).decode()

    def decrypt(self, jwe: dict[str, str]) -> bytes:
        """The content of an answer; ``tag`` must be a text, which does not matter."""
        header = json.loads(jwe["protected"])
        if not isinstance(jwe["tag"], str):
            raise TypeError("tag is no string")
        wrapped = unb64url(jwe["encrypted_key"])
        if header["alg"] == "RSA1_5":
            cek = self.private.decrypt(wrapped, padding.PKCS1v15())
        elif header["alg"] == "RSA-OAEP":
            cek = self.private.decrypt(wrapped, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))
        else:
            raise ValueError(f"unsupported algorithm {header['alg']}")
        return AESGCM(cek).decrypt(unb64url(jwe["iv"]), unb64url(jwe["ciphertext"]), None)


@dataclass(frozen=True)
class Version:
    """One version of the KBS protocol, as its clients speak it."""

    number: str
    hashes: tuple[str, ...]
    key: Callable[[], TeeKey]
    composite: bool  # runtime data, init data and additional evidence, else key and evidence only

    def bound(self, nonce: str, jwk: dict[str, str]) -> bytes:
        """The report data."""
        runtime = {"nonce": nonce, "tee-pubkey": jwk}
        value = {"additional-evidence": "", **runtime} if self.composite else runtime
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha384(text.encode()).digest()

    def message(self, nonce: str, jwk: dict[str, str], evidence: dict[str, Any]) -> dict[str, Any]:
        """The body of /attest."""
        if not self.composite:
            return {"tee-pubkey": jwk, "tee-evidence": evidence}
        return {"init-data": None, "runtime-data": {"nonce": nonce, "tee-pubkey": jwk},
                "tee-evidence": {"primary_evidence": evidence, "additional_evidence": ""}}


VERSIONS = {version.number: version for version in (
    Version("0.1.1", ("sha256", "sha384", "sha512"), RsaKey, False),
    Version("0.2.0", ("sha256", "sha384", "sha512"), EcKey, False),
    Version("0.4.0", ("sha256", "sha384", "sha512", "sm3"), EcKey, True),
)}


class Attester:
    """Evidence of this VM; none where the VM is not confidential."""

    def __init__(self, key_pem: bytes | None, pcrs: dict[int, bytes], tee: str) -> None:
        self.key_pem, self.pcrs, self.tee = key_pem, pcrs, tee

    def evidence(self, report_data: bytes) -> dict[str, Any]:
        if self.key_pem is None:
            raise GuestError("get evidence failed: no TEE attester: this VM is not confidential")
        return silicon.quote(self.key_pem, report_data, self.pcrs)


class Hub:
    """The data hub with its attestation agent."""

    def __init__(self, aa: str | None, cdh: str | None, attester: Attester, protocol: str = "0.4.0",
                 image_policy: str = "") -> None:
        self.attester, self.version, self.image_policy = attester, VERSIONS[protocol], image_policy
        self.aa = tomllib.loads(aa) if aa else {}
        self.cdh = tomllib.loads(cdh) if cdh else {}
        self.token: tuple[str, TeeKey] | None = None

    @property
    def image(self) -> dict[str, Any]:
        """``[image]`` of cdh.toml; the policy baked into the VM's image (OSC 1.9 and older) where that names none."""
        given = dict(self.cdh.get("image", {}))
        if self.image_policy and not {"image_security_policy_uri", "image_security_policy"} & given.keys():
            given["image_security_policy_uri"] = self.image_policy
        return given

    def _session(self, certificate: str | None) -> aiohttp.ClientSession:
        context = ssl.create_default_context()
        if certificate:
            context.load_verify_locations(cadata=certificate)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=LabResolver(), ssl=context, use_dns_cache=False),
            timeout=aiohttp.ClientTimeout(total=60), cookie_jar=aiohttp.CookieJar(unsafe=True),
            headers={"User-Agent": "attestation-agent-kbs-client/0.1.0"},
        )

    async def attest(self) -> tuple[str, TeeKey]:
        """A token for this VM by the handshake of the KBS protocol."""
        kbs = self.aa.get("token_configs", {}).get("kbs")
        if not kbs:
            raise GuestError("Attestation Agent client error: ttrpc request error",
                             "no [token_configs.kbs] in aa.toml")
        url, key = kbs["url"].rstrip("/") + "/kbs/v0", self.version.key()
        async with self._session(kbs.get("cert")) as session:
            request = {"version": self.version.number, "tee": self.attester.tee,
                       "extra-params": {"supported-hash-algorithms": list(self.version.hashes)}}
            challenge = await self._post(session, f"{url}/auth", request)
            nonce = challenge["nonce"]
            evidence = self.attester.evidence(self.version.bound(nonce, key.jwk))
            answer = await self._post(session, f"{url}/attest", self.version.message(nonce, key.jwk, evidence))
        log.info("attestation agent: token obtained from %s", url)
        return answer["token"], key

    async def _post(self, session: aiohttp.ClientSession, url: str, body: Any) -> dict[str, Any]:
        try:
            async with session.post(url, json=body) as answer:
                text = await answer.text()
                if answer.status != 200:
                    raise GuestError("Attestation Agent client error: ttrpc request error",
                                     f"RCAR handshake failed: {url}: {answer.status} {text}")
                result: dict[str, Any] = json.loads(text)
                return result
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise GuestError("Attestation Agent client error: ttrpc request error",
                             f"RCAR handshake failed: http request failed: {url}: {error}") from error

    async def resource(self, path: str) -> bytes:
        """The resource ``<repo>/<type>/<tag>``; at most three tries, each 401 followed by a new handshake."""
        kbc = self.cdh.get("kbc")
        if not kbc:
            raise GuestError("kbs client initialization failed", "no [kbc] in cdh.toml")
        url = kbc["url"].rstrip("/") + f"/kbs/v0/resource/{path}"
        last = ""
        for _ in range(RETRIES):
            if self.token is None:
                try:
                    self.token = await self.attest()
                except GuestError as error:
                    last = f"{error}: {error.cause}"
                    log.error("attestation agent: %s", last)
                    continue
            token, key = self.token
            try:
                async with (
                    self._session(kbc.get("kbs_cert")) as session,
                    session.get(url, headers={"Authorization": f"Bearer {token}"}) as answer,
                ):
                    body = await answer.text()
                    status = answer.status
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                last = f"http request failed: {url}: {error}"
                log.error("confidential data hub: %s", last)
                continue
            if status == 200:
                try:
                    return key.decrypt(json.loads(body))
                except (ValueError, KeyError, TypeError, InvalidTag, keywrap.InvalidUnwrap) as error:
                    raise GuestError("Get Resource failed", f"decrypt KBS response body failed: {error!r}") from error
            last = f"{'request unauthorized' if status == 401 else 'KBS resource not found'}: {url}: {status} {body}"
            log.error("confidential data hub: %s", last)
            if status != 401:
                break
            self.token = None
        raise GuestError("Get Resource failed", last)

    async def check_image(self, image: str) -> None:
        """The image policy named by cdh.toml, fetched anew and applied to ``image`` before a container starts."""
        uri = self.image.get("image_security_policy_uri")
        text = self.image.get("image_security_policy")
        if uri:
            if not uri.startswith("kbs:///"):
                raise GuestError(f"Image Pull error: failed to get image security policy {uri}: unsupported uri")
            try:
                text = (await self.resource(uri.removeprefix("kbs:///"))).decode()
            except GuestError as error:
                raise GuestError(f"Image Pull error: Failed to pull image {image}: failed to initialize image pull "
                                 f"service: get resource {uri}: {error}", error.cause) from error
        if not text:
            return
        try:
            policy = json.loads(text)
            requirements = select_requirements(policy, image)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GuestError(f"Image Pull error: Image policy rejected: Illegal policy: {error}") from error
        for requirement in requirements:
            kind = requirement.get("type")
            if kind == "insecureAcceptAnything":
                continue
            if kind == "sigstoreSigned":
                await self._check_sigstore(requirement, image)
            elif kind == "reject":
                raise GuestError("Image Pull error: Image policy rejected: Denied by policy: rejected by `reject` rule")
            else:
                raise GuestError(f"Image Pull error: Image policy rejected: unknown requirement {kind!r}")

    async def _check_sigstore(self, requirement: dict[str, Any], image: str) -> None:
        path, data = requirement.get("keyPath"), requirement.get("keyData")
        if path and data:
            raise GuestError("Image Pull error: Image policy rejected: Both keyPath and keyData are specified.")
        if not path and not data:
            raise GuestError("Image Pull error: Image policy rejected: Neither keyPath nor keyData is specified.")
        if path:
            await self.resource(path.removeprefix("kbs:///"))
        # The lab has no registry, hence no signatures.
        raise GuestError(f"Image Pull error: Image policy rejected: Denied by policy: no signature found for {image}")


def select_requirements(policy: dict[str, Any], image: str) -> list[dict[str, Any]]:
    """The requirements for an image of the docker transport: the longest matching scope, else the default."""
    scopes = policy.get("transports", {}).get("docker", {})
    name = image.split("@")[0]
    candidates = [name]
    last = name.rsplit("/", 1)
    if ":" in last[-1]:
        name = name[: -len(last[-1].split(":", 1)[1]) - 1]
        candidates.append(name)
    while "/" in name:
        name = name.rsplit("/", 1)[0]
        candidates.append(name)
    candidates.append("")
    for candidate in candidates:
        if candidate in scopes:
            return list(scopes[candidate])
    return list(policy["default"])


def api(hub: Hub) -> web.Application:
    """api-server-rest: what containers reach at 127.0.0.1:8006."""

    async def get_resource(request: web.Request) -> web.Response:
        try:
            secret = await hub.resource(request.match_info["path"])
        except GuestError as error:
            log.error("api-server-rest: %s: %s", error, error.cause)
            return web.Response(status=500, text=f"rpc status: Status {{ code: INTERNAL, message: "
                                                 f"\"[CDH] [ERROR]: {error}\" }}")
        return web.Response(body=secret, content_type="application/octet-stream")

    async def get_token(request: web.Request) -> web.Response:
        if len(request.query) != 1:
            return web.Response(status=405)
        if request.query.get("token_type") not in ("kbs", "coco_as"):
            return web.Response(status=400, text="BAD REQUEST")
        try:
            token, key = await hub.attest()
        except GuestError as error:
            log.error("api-server-rest: %s: %s", error, error.cause)
            return web.Response(status=500, text=f"[AA] [ERROR]: {error}")
        return web.Response(body=json.dumps({"token": token, "tee_keypair": key.pem()}).encode(),
                            content_type="application/octet-stream")

    async def get_evidence(request: web.Request) -> web.Response:
        if len(request.query) != 1 or "runtime_data" not in request.query:
            return web.Response(status=405)
        try:
            evidence = hub.attester.evidence(request.query["runtime_data"].encode())
        except GuestError as error:
            return web.Response(status=500, text=f"[AA] [ERROR]: {error}")
        return web.Response(body=json.dumps(evidence).encode(), content_type="application/octet-stream")

    async def other(request: web.Request) -> web.Response:
        return web.Response(status=404, text="URL NOT FOUND")

    application = web.Application()
    application.router.add_get("/cdh/resource/{path:.+}", get_resource)
    application.router.add_get("/aa/token", get_token)
    application.router.add_get("/aa/evidence", get_evidence)
    application.router.add_route("*", "/{path:.*}", other)
    return application
