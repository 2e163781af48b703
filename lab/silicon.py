"""The lab's silicon: what signs evidence in place of an AMD processor and its vTPM.

Only the trust anchor is false. The quote covers the report data and the PCRs as an Azure SEV-SNP vTPM's does, so changing
one byte of initdata changes what is signed. lab-kbs trusts the public half where the real server trusts the vendor's chain.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

# Report fields of an Azure confidential VM (strings in the claims: operators.md section 8).
REPORT = {
    "measurement": base64.b64encode(hashlib.sha384(b"lab az-snp launch measurement").digest()).decode(),
    "policy_abi_major": "0", "policy_abi_minor": "31", "policy_debug_allowed": "0", "policy_migrate_ma": "0",
    "policy_single_socket": "0", "policy_smt_allowed": "1",
    "platform_smt_enabled": "1", "platform_tsme_enabled": "1",
    "reported_tcb_bootloader": "4", "reported_tcb_microcode": "219", "reported_tcb_snp": "24", "reported_tcb_tee": "0",
    "vmpl": "0",
}


class EvidenceError(ValueError):
    """Evidence that does not verify, with the real verifier's words."""


def generate() -> tuple[bytes, bytes]:
    """A new silicon key: (private PEM, public PEM)."""
    key = ec.generate_private_key(ec.SECP256R1())
    return (
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    )


def quote(private_key_pem: bytes, report_data: bytes, pcrs: dict[int, bytes]) -> dict[str, Any]:
    """Evidence of a VM: a quote over ``report_data`` and the sha256 bank (24 PCRs of 32 bytes; absent ones are zero)."""
    key = serialization.load_pem_private_key(private_key_pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the lab silicon key is not an EC key; remove <state>/silicon and run 'lab up' again")
    bank = [pcrs.get(index, bytes(32)) for index in range(24)]
    message = json.dumps(
        {"extra_data": report_data.hex(), "pcr_digest": hashlib.sha256(b"".join(bank)).hexdigest()},
        sort_keys=True, separators=(",", ":"),
    ).encode()
    return {
        "version": 1,
        "quote": {
            "message": base64.b64encode(message).decode(),
            "signature": base64.b64encode(key.sign(message, ec.ECDSA(hashes.SHA256()))).decode(),
            "pcrs": [value.hex() for value in bank],
        },
        "report": dict(REPORT),
    }


def verify(public_key_pem: bytes, evidence: Any, expected_report_data: bytes) -> dict[str, Any]:
    """Claims of evidence that verifies; :class:`EvidenceError` otherwise.

    ``init_data`` (the value of PCR 8) and ``report_data`` are hex strings beside the claims, as the real verifier gives them.
    """
    try:
        message = base64.b64decode(evidence["quote"]["message"], validate=True)
        signature = base64.b64decode(evidence["quote"]["signature"], validate=True)
        bank = [bytes.fromhex(value) for value in evidence["quote"]["pcrs"]]
        signed = json.loads(message)
        report = {name: str(evidence["report"][name]) for name in REPORT}
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceError(f"Failed to deserialize Azure vTPM SEV-SNP evidence: {error}") from error
    key = serialization.load_pem_public_key(public_key_pem)
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise EvidenceError("the trusted lab silicon key is not an EC key")
    try:
        key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise EvidenceError("Failed to verify vTPM quote: signature is not valid") from error
    if signed["extra_data"] != expected_report_data.hex():
        raise EvidenceError("TPM quote nonce doesn't match expected report_data")
    if len(bank) != 24 or signed["pcr_digest"] != hashlib.sha256(b"".join(bank)).hexdigest():
        raise EvidenceError("Digest of PCRs does not match digest in Quote")
    return {
        **report,
        "tpm": {f"pcr{index:02d}": value.hex() for index, value in enumerate(bank)},
        "init_data": bank[8].hex(),
        "report_data": expected_report_data.hex(),
    }
