"""The built-in attestation service and RVPS of the KBS, generation B (v0.15)."""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import json
import logging
import re
import time
import tomllib
from pathlib import Path
from typing import Any

import regorus

from lab import silicon

log = logging.getLogger("lab")

# Tee names of kbs-types as v0.15 has them.
TEES = ("azsnpvtpm", "aztdxvtpm", "sev", "sgx", "snp", "tdx", "cca", "csv", "sample", "sampledevice", "se", "nvidia",
        "hygondcu", "tpm")
CLAIMS = ("instance_identity", "configuration", "executables", "file_system", "hardware", "runtime_opaque",
          "storage_opaque", "sourced_data")
POLICY_ID = re.compile(r"^[A-Za-z0-9_-]+$")
DIGESTS = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}

STOCK_CPU = """package policy

import rego.v1

default executables := 33

default hardware := 97

default configuration := 36

# The sample TEE.
executables := 3 if {
	input.sample.launch_digest in data.reference.launch_digest
}

hardware := 2 if {
	input.sample.svn in data.reference.svn
	input.sample.platform_version.major == data.reference.major_version
	input.sample.platform_version.minor >= data.reference.minimum_minor_version
}

configuration := 2 if {
	input.sample.debug == false
}

# SEV-SNP behind an Azure vTPM.
executables := 3 if {
	input.azsnpvtpm.measurement in data.reference.measurement
	input.azsnpvtpm.tpm.pcr11 in data.reference.snp_pcr11
}

hardware := 2 if {
	input.azsnpvtpm.reported_tcb_bootloader in data.reference.tcb_bootloader
	input.azsnpvtpm.reported_tcb_microcode in data.reference.tcb_microcode
	input.azsnpvtpm.reported_tcb_snp in data.reference.tcb_snp
	input.azsnpvtpm.reported_tcb_tee in data.reference.tcb_tee
}

configuration := 2 if {
	input.azsnpvtpm.platform_smt_enabled in data.reference.smt_enabled
	input.azsnpvtpm.platform_tsme_enabled in data.reference.tsme_enabled
	input.azsnpvtpm.policy_abi_major in data.reference.abi_major
	input.azsnpvtpm.policy_abi_minor in data.reference.abi_minor
	input.azsnpvtpm.policy_single_socket in data.reference.single_socket
	input.azsnpvtpm.policy_smt_allowed in data.reference.smt_allowed
}
"""
STOCK_GPU = """package policy

import rego.v1

default hardware := 97

hardware := 2 if {
	input.sampledevice.svn in data.reference.device_svn
}
"""
STOCK = {"default_cpu": STOCK_CPU, "default_gpu": STOCK_GPU}


class Refused(Exception):
    """Evidence, policy or reference data that is refused; the text is for the log only."""


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def evaluate(text: str, rule: str, input_: Any, data: Any) -> Any:
    """The value of ``data.policy.<rule>`` in the v0 dialect; None where there is none. Raises ``ValueError``."""
    engine = regorus.Engine()
    engine.set_rego_v0(True)
    try:
        engine.add_policy("policy.rego", text)
        engine.add_data_json(json.dumps(data))
        engine.set_input_json(json.dumps(input_))
        answer = engine.eval_rule_as_json(f"data.policy.{rule}")
    except Exception as error:
        if "not a valid rule path" in str(error):
            return None
        raise ValueError(str(error)) from error
    value = json.loads(answer)
    return None if value == "<undefined>" else value


def parses(text: str) -> bool:
    engine = regorus.Engine()
    engine.set_rego_v0(True)
    try:
        engine.add_policy("policy.rego", text)
    except Exception:
        return False
    return True


class Rvps:
    """Reference values in one JSON file, read anew each time."""

    def __init__(self, file: Path) -> None:
        self.file = file
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("[]")

    def items(self) -> list[dict[str, Any]]:
        try:
            items = json.loads(self.file.read_text())
            for item in items:
                datetime.datetime.strptime(item["expiration"], "%Y-%m-%dT%H:%M:%SZ")
                item["name"], item["value"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Refused(f"failed to read reference values: {error!r}") from error
        return list(items)

    def values(self) -> dict[str, Any]:
        """The values by name; expired ones are skipped with a warning."""
        now = datetime.datetime.now(datetime.timezone.utc)
        found = {}
        for item in self.items():
            expires = datetime.datetime.strptime(item["expiration"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
            if expires < now:
                log.warning("Reference value of %s is expired", item["name"])
                continue
            found[item["name"]] = item["value"]
        return found

    def register(self, message: Any) -> None:
        """A message of the ``sample`` extractor; its values live for twelve months."""
        try:
            if message.get("version", "0.1.0") != "0.1.0" or message["type"] != "sample":
                raise Refused("version or type")
            payload = json.loads(base64.b64decode(message["payload"], validate=True))
            entries = dict(payload.items())
        except (KeyError, ValueError, TypeError, AttributeError, binascii.Error) as error:
            raise Refused(f"register reference value: {error!r}") from error
        expires = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=365)).strftime("%Y-%m-%dT%H:%M:%SZ")
        items = [item for item in self.items() if item["name"] not in entries]
        items += [{"version": "0.1.0", "name": k, "expiration": expires, "value": v} for k, v in entries.items()]
        try:
            self.file.write_text(json.dumps(items))
        except OSError as error:
            raise Refused(f"register reference value: {error}") from error


def verify_sample(evidence: Any, expected: bytes, device: bool = False) -> dict[str, Any]:
    """The sample verifier: byte equality of the report data, and fixed claims."""
    try:
        svn, report_data = evidence["svn"], evidence["report_data"]
        if not isinstance(svn, str):
            raise TypeError("svn")
        decoded = base64.b64decode(report_data, validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise Refused("Deserialize Quote failed.") from error
    if decoded != expected:
        raise Refused("REPORT_DATA is different from that in Sample Quote")
    if device:
        return {"svn": svn}
    return {"debug": False, "launch_digest": "abcde", "platform_version": {"major": 1, "minor": 4}, "svn": svn,
            "report_data": report_data}


def tier(value: int) -> int:
    """0 none, 1 affirming, 2 warning, 3 contraindicated."""
    if 2 <= value <= 31 or -32 <= value <= -2:
        return 1
    if 32 <= value <= 95 or -96 <= value <= -33:
        return 2
    return 3 if value >= 96 or value <= -97 else 0


STATUS = ("none", "affirming", "warning", "contraindicated")


class AttestationService:
    """Evidence in, EAR claims out."""

    def __init__(self, policy_dir: Path, rvps: Rvps, silicon_public: bytes | None) -> None:
        self.policy_dir, self.rvps, self.silicon_public = policy_dir, rvps, silicon_public
        policy_dir.mkdir(parents=True, exist_ok=True)
        for name, text in STOCK.items():
            file = policy_dir / f"{name}.rego"
            if file.exists():
                log.info("Policy %s already exists, so the default policy will not be written.", name)
                continue
            try:
                file.write_text(text)
            except OSError as error:
                log.warning("default policy %s not written: %s", name, error)

    def set_policy(self, name: Any, encoded: Any) -> None:
        """Store a policy (admin API). Raises :class:`Refused`."""
        if not isinstance(name, str) or not POLICY_ID.match(name):
            raise Refused("Illegal policy id. Only support alphabet, numeric, `-` or `_`")
        text = decode_policy(encoded)
        if not parses(text):
            raise Refused("policy does not parse")
        try:
            (self.policy_dir / f"{name}.rego").write_text(text)
        except OSError as error:
            raise Refused(str(error)) from error

    def claims(self, tee: str, attestation: dict[str, Any], minutes: int) -> dict[str, Any]:
        """The token's claims for an attestation of 0.4.0. Raises :class:`Refused`."""
        runtime, evidence = attestation["runtime-data"], attestation["tee-evidence"]
        additional = evidence.get("additional_evidence", "")
        key = tee_public_key(runtime["tee-pubkey"])
        bound = {"additional-evidence": additional, "nonce": runtime["nonce"], "tee-pubkey": key}
        init_data = attestation.get("init-data")
        digest, documents = parse_init_data(init_data) if init_data is not None else (None, None)
        submods = {"cpu0": self._submodule("default_cpu", tee, evidence["primary_evidence"], bound, digest, documents)}
        if additional:
            try:
                devices = json.loads(additional)
            except ValueError as error:
                raise Refused("additional evidence is no JSON") from error
            plain = {"nonce": runtime["nonce"], "tee-pubkey": key}
            for index, (name, item) in enumerate(devices.items()):
                submods[f"gpu{index}"] = self._submodule("default_gpu", name, item, plain, None, None, device=True)
        now = int(time.time())
        return {
            "eat_profile": "tag:github.com,2024:confidential-containers/Trustee", "iat": now,
            "ear.verifier-id": {"developer": "https://confidentialcontainers.org", "build": "attestation-service 0.1.0"},
            "submods": submods, "exp": now + minutes * 60,
        }

    def _submodule(self, policy: str, tee: str, evidence: Any, bound: dict[str, Any], digest: bytes | None,
                   documents: dict[str, Any] | None, device: bool = False) -> dict[str, Any]:
        expected = hashlib.sha384(canonical(bound)).digest()
        found = self._verify(tee, evidence, expected, digest, device)
        annotated: dict[str, Any] = {}
        if "init_data" in found:
            annotated["init_data"] = found.pop("init_data")
            if documents is not None:
                annotated["init_data_claims"] = documents
        if "report_data" in found:
            annotated["report_data"] = found.pop("report_data")
        if not device:
            annotated["runtime_data_claims"] = dict(sorted(bound.items()))
        annotated[tee] = found
        vector = self._appraise(policy, annotated)
        worst = max(tier(value) for value in vector.values())
        return {"ear.status": STATUS[worst], "ear.trustworthiness-vector": vector, "ear.appraisal-policy-id": "default",
                "ear.veraison.annotated-evidence": annotated}

    def _verify(self, tee: str, evidence: Any, expected: bytes, digest: bytes | None, device: bool) -> dict[str, Any]:
        if tee == "sample" or (device and tee == "sampledevice"):
            if digest is not None:
                log.warning("Sample does not support init data hash mechanism. skip.")
            return verify_sample(evidence, expected, device)
        if tee == "azsnpvtpm":
            if self.silicon_public is None:
                raise Refused("no lab silicon key is configured (LAB_SILICON_PUBLIC): azsnpvtpm cannot be verified")
            try:
                found = silicon.verify(self.silicon_public, evidence, expected)
            except silicon.EvidenceError as error:
                raise Refused(str(error)) from error
            if digest is not None:
                wanted = hashlib.sha256(bytes(32) + digest).hexdigest() if len(digest) == 32 else ""
                if wanted != found["init_data"]:
                    raise Refused("Expected init_data digest is different from the content of PCR8")
            return found
        raise Refused(f"feature `{tee}-verifier` is not enabled for `verifier` crate.")

    def _appraise(self, policy: str, annotated: dict[str, Any]) -> dict[str, int]:
        """The trust vector: undefined rules are skipped, as v0.15 does (so a policy without defaults fails open)."""
        try:
            text = (self.policy_dir / f"{policy}.rego").read_text()
        except OSError as error:
            raise Refused(f"failed to read policy {policy}: {error}") from error
        data = {"reference": self.rvps.values()}
        vector: dict[str, int] = {}
        for claim in CLAIMS:
            try:
                value = evaluate(text, claim, annotated, data)
            except ValueError as error:
                raise Refused(f"policy {policy}: {error}") from error
            if value is None:
                log.debug("Policy %s does not check %s", policy, claim)
                continue
            if isinstance(value, bool) or not isinstance(value, int):
                raise Refused("Policy claim value not number")
            vector[claim.replace("_", "-")] = (value + 128) % 256 - 128
        if not vector:
            raise Refused("At least one policy claim must be set.")
        return vector


def decode_policy(encoded: Any) -> str:
    """The text of a policy in unpadded base64url. Raises :class:`Refused`."""
    if not isinstance(encoded, str) or re.search(r"[^A-Za-z0-9_-]", encoded):
        raise Refused("policy is no unpadded base64url")
    try:
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except (ValueError, binascii.Error) as error:
        raise Refused(str(error)) from error


def tee_public_key(jwk: Any) -> dict[str, Any]:
    """The known members of a TEE key; unknown ones are dropped before hashing. Raises :class:`Refused`."""
    if not isinstance(jwk, dict) or not isinstance(jwk.get("alg"), str):
        raise Refused("deserialize Attestation")
    members = {"EC": ("crv", "x", "y"), "RSA": ("n", "e")}.get(jwk.get("kty", ""))
    if members is None or any(not isinstance(jwk.get(name), str) for name in members):
        raise Refused("deserialize Attestation")
    return {"alg": jwk["alg"], "kty": jwk["kty"], **{name: jwk[name] for name in members}}


def parse_init_data(init_data: Any) -> tuple[bytes, dict[str, Any]]:
    """(digest, parsed files) of initdata sent in plain text. Raises :class:`Refused`."""
    try:
        if init_data["format"] != "toml":
            raise Refused("unsupported init-data format")
        body = init_data["body"]
        document = tomllib.loads(body)
        files = document["data"]
    except Refused:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(f"missing field `data` or no TOML: {error}") from error
    algorithm = document.get("algorithm")
    if algorithm not in DIGESTS:
        raise Refused(f"unknown variant `{algorithm}`, expected one of `sha256`, `sha384`, `sha512`")
    parsed: dict[str, Any] = {}
    for name, text in files.items():
        try:
            parsed[name] = tomllib.loads(text) if name in ("aa.toml", "cdh.toml") else text
        except (ValueError, TypeError):
            parsed[name] = text
    return DIGESTS[algorithm](body.encode()).digest(), parsed
