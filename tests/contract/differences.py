"""Where lab-kbs legitimately differs from the recorded server. One table; nothing else is loosened.

An entry with a label names a header of that exchange; the suite fails when the difference is no longer there. An entry without
one is what no recorded exchange shows.
"""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    label: str
    header: str
    what: str
    reason: str


DIFFERENCES = (
    Difference("admin/get-resource-policy/initial", "content-length", "text of the stock resource policy",
               "written anew from its contract (sample evidence denied, everything else allowed); the real text is not copied"),
    Difference("metrics", "content-length", "/metrics: help texts, buckets, build date",
               "the recording holds the first 80 bytes; families, labels and git_hash are those of the reference"),
    Difference("", "", "HTTP/2 by ALPN", "HTTP/1.1 only: no client of the lab needs h2"),
    Difference("", "", "plain HTTP to the TLS port is closed, not reset", "asyncio closes with FIN"),
    Difference("", "", "SIGTERM stops at once even with an open keep-alive connection",
               "the real server waits up to 30 s for it; the lab would only get slower"),
    Difference("", "", "no deadlock under parallel handshakes", "an upstream defect (trustee-verified.md 3.3)"),
    Difference("", "", "stock attestation policies cover the sample TEE and azsnpvtpm only",
               "the lab has no other verifiers; other TEEs are refused as by a build without that feature"),
    Difference("", "", "azsnpvtpm is verified with the lab's silicon key", "the trust anchor (rule 4 of the lab)"),
    Difference("", "", "token broker Simple, RVPS GrpcRemote, coco_as_grpc, intel_ta and key sets by URL refuse to start",
               "a stand-in may accept less than the real program"),
    Difference("", "", "storage type LocalFs keeps reference values in a JSON file", "the real format is that of an embedded database"),
    Difference("", "", "log lines have the lab's prefix (time, level)", "one log format for all stand-ins; matched by substrings"),
)
