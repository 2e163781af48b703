"""Policies that the exchanges need, written for this suite; each has the property that its recorded name tells."""

from __future__ import annotations

V0_BODY = "package policy\ndefault allow = false\nallow {\n  input.absent == 1\n}\n"

_V1 = "package policy\nimport rego.v1\ndefault allow := false\n"

RESOURCE = {
    "wrong-package": "package another\ndefault allow = true\n",
    "no-allow": "package policy\nsomething = 1\n",
    "allow-undefined": "package policy\nimport rego.v1\nallow if input.absent == 1\n",
    "allow-number": "package policy\nallow = 1\n",
    "deny-all": "package policy\n\ndefault allow = false\n",
    "allow-if-no-import": "package policy\ndefault allow = false\nallow if { input.absent == 1 }\n",
    "data-plugin": _V1 + 'allow if {\n  data.plugin == "resource"\n'
                         '  data["resource-path"] == ["default", "kbsres1", "key1"]\n}\n',
    "data-string": _V1 + 'allow if data["resource-path"] == "resource/default/kbsres1/key1"\n',
    "query": _V1 + 'allow if data.query.a == "b"\n',
}

AFFIRMING = _V1 + """
allow if {
  count(input.submods) > 0
  every submod in input.submods { submod["ear.status"] == "affirming" }
}
"""

# The contract of the stock CPU policy for the sample TEE (trustee.md 5.2).
CPU = """package policy
import rego.v1
default executables := 33
default hardware := 97
default configuration := 36
executables := 3 if input.sample.launch_digest in data.reference.launch_digest
hardware := 2 if {
  input.sample.svn in data.reference.svn
  input.sample.platform_version.major == data.reference.major_version
  input.sample.platform_version.minor >= data.reference.minimum_minor_version
}
configuration := 2 if input.sample.debug == false
"""

_CLAIMS = "package policy\nimport rego.v1\ntrust_claims := "

# Policies of a later generation have no rule that this one reads, so all of them fail.
ATTESTATION = {
    "no-rules": "package policy\n",
    "minimal": _CLAIMS + '{"executables": 3, "hardware": 2}\n',
    "odd-values": _CLAIMS + '{"executables": 3.5, "foo": 2}\n',
    "unknown-claim": _CLAIMS + '{"executables": 3, "foo": 2}\n',
    "underscore-claim": _CLAIMS + '{"executables": 3, "file_system": 2}\n',
    "big": _CLAIMS + '{"executables": 300, "hardware": -3}\n',
    "neg": _CLAIMS + '{"executables": 1, "hardware": -3, "configuration": 32}\n',
    "ext": _CLAIMS + '{"executables": 3}\nextensions := []\n',
}

METRICS = (
    "kbs_auth_requests_total", "kbs_auth_successes_total", "kbs_auth_errors_total", "kbs_attestation_requests_total",
    "kbs_attestation_errors_total", "kbs_attestation_successes_total", "kbs_attestation_failures_total",
    "kbs_policy_evaluations_total", "kbs_policy_approvals_total", "kbs_policy_violations_total", "kbs_policy_errors_total",
    "kbs_resource_reads_total", "kbs_resource_writes_total", "kbs_http_requests_total", "kbs_http_active_connections",
    "kbs_http_request_duration_seconds", "kbs_http_request_size_bytes", "kbs_http_response_size_bytes", "kbs_build_info",
)
