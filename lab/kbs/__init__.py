"""lab-kbs: stands in for the KBS of the Red Hat build of Trustee 0.3, 1.0, 1.1 or 1.2 (``--release``, or the pod's ``LAB_RELEASE``).

Only the trust anchor is false: evidence of an Azure SEV-SNP VM is verified with the lab's silicon key (``LAB_SILICON_PUBLIC``) in
place of the vendor's chain. What it does is compared with recordings of the real servers in tests/contract.

    generation   what differs between releases, a row each
    command      command line, start              server       paths and methods -> handlers
    config       the configuration file           handshake    /auth, /attest; sessions, attestation, verifiers, appraisal
    config_d     the same in Trustee 1.2          access       token, resource policy, encrypted answer
    material     keys and certificates            admin        who may administrate
    storage      where things are kept            http         the wire
"""

from lab.kbs.command import main

__all__ = ["main"]
