"""lab-kbs: stands in for the KBS of the Red Hat build of Trustee 1.0 (upstream v0.15, generation B).

Only the trust anchor is false: evidence of ``azsnpvtpm`` is verified with the lab's silicon key (``LAB_SILICON_PUBLIC``) in
place of the vendor's chain. What it does is compared with a recording of the real server in tests/contract.

    command      command line, start              server       paths and methods -> handlers
    config       the configuration file           handshake    /auth, /attest; sessions, attestation, verifiers, appraisal
    material     keys and certificates            access       token, resource policy, encrypted answer
    generation   what differs between releases    http         the wire
"""

from lab.kbs.command import main

__all__ = ["main"]
