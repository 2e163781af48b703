"""Where lab-kbs legitimately differs from the recorded server. One table; nothing else is loosened.

An entry with a label names a header of that exchange (or a part of every token); the suite fails when the difference is no
longer there. An entry without a label is what no recorded exchange shows. ``sides`` are the generations it is about.
"""

from __future__ import annotations

from typing import NamedTuple

TOKENS = "every token"


class Difference(NamedTuple):
    label: str
    header: str
    what: str
    reason: str
    sides: tuple[str, ...] = ("B",)  # of the generations that were recorded


DIFFERENCES = (
    Difference("admin/get-resource-policy/initial", "content-length", "text of the stock resource policy",
               "written anew from its contract (sample evidence denied, everything else allowed); the real text is not copied"),
    Difference("respol/get-initial", "content-length", "text of the stock resource policy", "as above", ("0.3",)),
    Difference(TOKENS, "iss", "no claim `iss`", "v0.21 was recorded; the product's 1.2 issues none (trustee-verified.md, head)", ("D",)),
    Difference(TOKENS, "x5c", "certificates of the signer in unpadded base64url", "as above", ("D",)),
    Difference("metrics", "content-length", "/metrics: help texts, buckets, build date",
               "the recording holds the first 80 bytes; families, labels and git_hash are those of the reference", ("B", "D")),
    Difference("", "", "generation C: less is compared (no token's claims, lengths or bodies of requests)",
               "only the compact list of its exchanges is left (trustee-verified.md 4.1)", ("C",)),
    Difference("", "", "no empty reference value file is made at the start",
               "inferred: a missing file fails every attestation of v0.11, not of v0.13 (trustee-verified-0.3.md 4, 6)", ("0.3",)),
    Difference("", "", "the stock policy's rules for the sample TEE and Azure are those of B without the later values",
               "the real text of v0.11 is not copied; what is recorded of it is equal", ("0.3",)),
    Difference("", "", "administrators by Ed25519 keys only; a provider with jwk_set_uri refuses to start",
               "a stand-in may accept less; a key or certificate of another kind starts, as the real one, and nobody is known by it",
               ("D",)),
    Difference("", "", "TLS profiles: versions 1.2 and 1.3 only; ciphers and groups are not looked at",
               "which versions a profile has is told for intermediate only; the lab's clients need no others", ("D",)),
    Difference("", "", "storage in Postgres or Redis refuses to start", "a stand-in may accept less", ("D",)),
    Difference("", "", "a start-up error ends without the link to the documentation", "its text is not in the reference", ("D",)),
    Difference("", "", "DELETE of a resource that is not there is 401 PluginInternalError; PUT with a good token too",
               "not recorded; the words of other failures of the plugin", ("D",)),
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
