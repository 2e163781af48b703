"""``/metrics``: the families of v0.15 (trustee-verified.md 3.8)."""

from __future__ import annotations

from collections import Counter

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BYTES = (100.0, 1000.0, 10000.0, 100000.0, 1000000.0)

# Name, help, label (only samples that were seen are shown for a labelled family).
_COUNTERS = (
    ("kbs_attestation_errors_total", "Total count of errors during attestation processing", ""),
    ("kbs_attestation_failures_total", "Total count of evidence that did not verify", "tee_type"),
    ("kbs_attestation_requests_total", "Total count of attestation requests", ""),
    ("kbs_attestation_successes_total", "Total count of successful attestations", "tee_type"),
    ("kbs_auth_errors_total", "Total count of errors during auth processing", ""),
    ("kbs_auth_requests_total", "Total count of auth requests", ""),
    ("kbs_auth_successes_total", "Total count of successful auths", ""),
    ("kbs_http_requests_total", "Total count of HTTP requests", ""),
    ("kbs_policy_approvals_total", "Total count of accesses that the resource policy approved", ""),
    ("kbs_policy_errors_total", "Total count of errors of the resource policy", ""),
    ("kbs_policy_evaluations_total", "Total count of evaluations of the resource policy", ""),
    ("kbs_policy_violations_total", "Total count of accesses that the resource policy denied", ""),
    ("kbs_resource_reads_total", "Total count of resource reads", ""),
    ("kbs_resource_writes_total", "Total count of resource writes", ""),
)
_HISTOGRAMS = (
    ("kbs_http_request_duration_seconds", "Distribution of request handling times", _SECONDS),
    ("kbs_http_request_size_bytes", "Distribution of request sizes", _BYTES),
    ("kbs_http_response_size_bytes", "Distribution of response sizes", _BYTES),
)


class Metrics:
    """Counts of one process."""

    def __init__(self, git_hash: str) -> None:
        self._git_hash = git_hash
        self._counts: Counter[tuple[str, str]] = Counter()
        self._sums = {name: 0.0 for name, _, _ in _HISTOGRAMS}
        self._buckets: Counter[tuple[str, float]] = Counter()
        self.connections = 0

    def count(self, what: str, label: str = "") -> None:
        """One more of ``kbs_<what>_total``."""
        self._counts[f"kbs_{what}_total", label] += 1

    def request(self, seconds: float, received: int, sent: int) -> None:
        """One HTTP request, answered."""
        self.count("http_requests")
        for (name, _, bounds), value in zip(_HISTOGRAMS, (seconds, float(received), float(sent)), strict=True):
            self._sums[name] += value
            for bound in bounds:
                if value <= bound:
                    self._buckets[name, bound] += 1

    def text(self) -> str:
        """The page in Prometheus' text format."""
        lines: list[str] = []
        for name, words, label in _COUNTERS:
            found = {key[1]: number for key, number in self._counts.items() if key[0] == name}
            if label and not found:
                continue
            lines += [f"# HELP {name} {words}", f"# TYPE {name} counter"]
            if not label:
                lines.append(f"{name} {found.get('', 0)}")
            lines += [f'{name}{{{label}="{key}"}} {number}' for key, number in sorted(found.items()) if label]
        lines += ["# HELP kbs_build_info Build of the server", "# TYPE kbs_build_info gauge",
                  f'kbs_build_info{{build_date="",git_hash="{self._git_hash}",version="0.1.0"}} 1',
                  "# HELP kbs_http_active_connections Open connections", "# TYPE kbs_http_active_connections gauge",
                  f"kbs_http_active_connections {self.connections}"]
        total = self._counts["kbs_http_requests_total", ""]
        for name, words, bounds in _HISTOGRAMS:
            lines += [f"# HELP {name} {words}", f"# TYPE {name} histogram"]
            lines += [f'{name}_bucket{{le="{bound:g}"}} {self._buckets[name, bound]}' for bound in bounds]
            lines += [f'{name}_bucket{{le="+Inf"}} {total}', f"{name}_sum {self._sums[name]:g}", f"{name}_count {total}"]
        return "\n".join(lines) + "\n"
