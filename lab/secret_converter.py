"""lab-secret-converter: the init container of trustee-deployment from Trustee 1.2 on (reference/trustee.md 4.3).

Copies every mounted Secret once into the KBS's storage, one flat file a key: ``/`` in a resource's name becomes ``\\x2F``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lab.paths import rooted
from lab.program import log, main

SECRETS = "/tmp/kbs-secrets"
REPOSITORY = "/opt/confidential-containers/storage/repository"


def convert(secrets: Path, repository: Path) -> int:
    """Copy all; how many keys there were."""
    count = 0
    for secret in sorted(secrets.iterdir()) if secrets.is_dir() else []:
        for key in sorted(secret.iterdir()):
            if not key.name.startswith(".."):
                (repository / "\\x2F".join(("default", secret.name, key.name))).write_bytes(key.read_bytes())
                count += 1
    return count


async def work() -> None:
    count = convert(rooted(SECRETS), rooted(REPOSITORY))
    log.info("%d keys of Secrets copied to %s", count, REPOSITORY)


if __name__ == "__main__":
    sys.exit(main("lab-secret-converter", "the trustee operator's secret-converter", os.environ.get("LAB_RELEASE", "1.2.1"),
                  work))
