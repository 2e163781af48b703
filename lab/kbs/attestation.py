"""The built-in attestation service: evidence in, claims of an EAR token out (trustee.md 1.4, 1.5, 5.1)."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

from lab.kbs import initdata
from lab.kbs.appraisal import Policies, status
from lab.kbs.errors import Refused
from lab.kbs.generation import Generation
from lab.kbs.rvps import Rvps
from lab.kbs.verifiers import Verifiers
from lab.kbs.wire import canonical, loads, ordered

PROFILE = "tag:github.com,2024:confidential-containers/Trustee"
VERIFIER = {"developer": "https://confidentialcontainers.org", "build": "attestation-service 0.1.0"}
_KEY_MEMBERS = {"EC": ("crv", "x", "y"), "RSA": ("n", "e")}


@dataclass(frozen=True)
class Attestation:
    """What a guest sends to /attest."""

    tee_key: dict[str, Any]
    evidence: Any
    nonce: str | None = None  # None: the message has none
    additional: str | None = None
    init_data: dict[str, str] | None = None


def message(body: bytes, generation: Generation) -> Attestation:
    """An attestation with the members that the protocol knows. Raises :class:`Refused`."""
    try:
        raw = loads(body)
        return _composite(raw) if generation.composite else _plain(raw)
    except KeyError as error:
        raise Refused("deserialize Attestation", f"missing field `{error.args[0]}`") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise Refused("deserialize Attestation", str(error)) from error


def _composite(raw: Any) -> Attestation:
    """0.4.0."""
    runtime, evidence, init_data = raw["runtime-data"], raw["tee-evidence"], raw.get("init-data")
    if init_data is not None:
        init_data = {name: _text(init_data[name]) for name in ("format", "body")}
    return Attestation(tee_key(runtime["tee-pubkey"]), evidence["primary_evidence"], _text(runtime["nonce"]),
                       _text(evidence["additional_evidence"]), init_data)


def _plain(raw: Any) -> Attestation:
    """0.1.1: no nonce, so it is the session's."""
    return Attestation(tee_key(raw["tee-pubkey"]), raw["tee-evidence"])


def tee_key(jwk: Any) -> dict[str, Any]:
    """A TEE's public key; members that are not known are dropped, so they are not hashed either. Raises like a dict."""
    names = _KEY_MEMBERS.get(_text(jwk["kty"]))
    if names is None:
        raise ValueError(f"unknown variant `{jwk['kty']}`, expected `EC` or `RSA`")
    return {name: _text(jwk[name]) for name in ("alg", "kty", *names)}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"invalid type: {type(value).__name__}, expected a string")
    return value


class AttestationService:
    """Verifies evidence and appraises it by the policies of its class."""

    def __init__(self, generation: Generation, verifiers: Verifiers, policies: Policies, rvps: Rvps, minutes: int) -> None:
        self._generation, self._verifiers, self._rvps, self._minutes = generation, verifiers, rvps, minutes
        self.policies = policies

    def claims(self, tee: str, nonce: str, attestation: Attestation) -> dict[str, Any]:
        """The claims of the token for evidence over ``nonce``. Raises :class:`Refused`."""
        bound = {"nonce": nonce, "tee-pubkey": attestation.tee_key}
        plain, additional = attestation.init_data, attestation.additional
        document = None if plain is None else initdata.parse(plain, self._generation)
        primary = bound if additional is None else {"additional-evidence": additional, **bound}
        submods = {self._name(tee, {}): self._submodule(tee, attestation.evidence, primary, document, True)}
        counts = {"cpu": 1}
        for device, evidence in self._devices(additional or "").items():
            submods[self._name(device, counts)] = self._submodule(device, evidence, bound, None, False)
        now = int(time.time())
        return {"eat_profile": PROFILE, "iat": now, "ear.verifier-id": VERIFIER, "submods": submods,
                "exp": now + self._minutes * 60}

    def _devices(self, additional: str) -> dict[str, Any]:
        """Additional evidence: a map from TEE to evidence, as JSON text."""
        if not additional:
            return {}
        try:
            devices = dict(loads(additional).items())
        except (ValueError, AttributeError) as error:
            raise Refused("Failed to parse additional evidence", str(error)) from error
        for name in devices:
            if name not in self._generation.tees:
                raise Refused("Failed to parse additional evidence", f"unknown variant `{name}`")
        return devices

    def _class(self, tee: str) -> str:
        return "gpu" if tee in self._generation.devices else "cpu"

    def _name(self, tee: str, counts: dict[str, int]) -> str:
        kind = self._class(tee)
        if not self._generation.numbered:
            return kind
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        return f"{kind}{number}"

    def _submodule(self, tee: str, evidence: Any, bound: dict[str, Any], document: initdata.InitData | None,
                   primary: bool) -> dict[str, Any]:
        expected = hashlib.sha384(canonical(bound)).digest()
        found = self._verifiers.verify(tee, evidence, expected, document.digest if document else None)
        annotated: dict[str, Any] = {name: found.pop(name) for name in ("init_data", "report_data") if name in found}
        if self._generation.init_data_always:
            annotated.setdefault("init_data", "")
            annotated["init_data_claims"] = None
        elif document is not None and "init_data" in annotated:
            annotated["init_data_claims"] = document.claims
        if primary:
            annotated["runtime_data_claims"] = bound
        annotated[tee] = found
        vector, extensions = self.policies.appraise(self._class(tee), annotated, self._rvps.values())
        return {"ear.status": status(vector), "ear.trustworthiness-vector": vector, "ear.appraisal-policy-id": "default",
                "ear.veraison.annotated-evidence": ordered(annotated), **extensions}
