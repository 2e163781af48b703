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

# The same contract from generation C: an object with all claims, values by a function.
CPU_OBJECT = """package policy
import rego.v1
trust_claims := {
  "instance-identity": 0, "configuration": configuration, "executables": executables, "file-system": 0,
  "hardware": hardware, "runtime-opaque": 0, "storage-opaque": 0, "sourced-data": 0,
}
extensions := [{"key": -70002, "name": "ear.trustee.identifiers", "value": {"validated": {}}}]
default executables := 33
default hardware := 97
default configuration := 36
executables := 3 if input.sample.launch_digest in query_reference_value("launch_digest")
hardware := 2 if {
  input.sample.svn in query_reference_value("svn")
  input.sample.platform_version.major == query_reference_value("major_version")
  input.sample.platform_version.minor >= query_reference_value("minimum_minor_version")
}
configuration := 2 if input.sample.debug == false
"""

_CLAIMS = "package policy\nimport rego.v1\ntrust_claims := "

# Policies of a later generation have no rule that this one reads, so all of them fail.
ATTESTATION = {
    "no-rules": "package policy\n",
    "minimal": _CLAIMS + '{"executables": 3, "hardware": 2, "configuration": 2}\n',
    "odd-values": _CLAIMS + '{"executables": 3.5, "foo": 2}\n',
    "unknown-claim": _CLAIMS + '{"executables": 3, "foo": 2}\n',
    "underscore-claim": _CLAIMS + '{"executables": 3, "file_system": 2}\n',
    "big": _CLAIMS + '{"executables": 300, "hardware": -3}\n',
    "neg": _CLAIMS + '{"executables": 1, "hardware": -3, "configuration": 32}\n',
    "ext": _CLAIMS + '{"executables": 3}\n'
           'extensions := [{"key": -70002, "name": "ear.trustee.identifiers", "value": {"a": "b"}}]\n',
}

METRICS = (
    "kbs_auth_requests_total", "kbs_auth_successes_total", "kbs_auth_errors_total", "kbs_attestation_requests_total",
    "kbs_attestation_errors_total", "kbs_attestation_successes_total", "kbs_attestation_failures_total",
    "kbs_policy_evaluations_total", "kbs_policy_approvals_total", "kbs_policy_violations_total", "kbs_policy_errors_total",
    "kbs_resource_reads_total", "kbs_resource_writes_total", "kbs_http_requests_total", "kbs_http_active_connections",
    "kbs_http_request_duration_seconds", "kbs_http_request_size_bytes", "kbs_http_response_size_bytes", "kbs_build_info",
)

# Product 0.3 (v0 engine, one rule per claim); the names are those of its recording.
OLD_ALL = "package policy\nimport rego.v1\nexecutables := 3\nhardware := 2\nconfiguration := 2\n"
OLD_ATTESTATION = {
    "no-rules": "package policy\n",
    "allow-only": "package policy\ndefault allow = true\n",
    "one-claim": "package policy\nhardware := 2\n",
    "v0-bodies": "package policy\ndefault hardware = 97\nhardware = 2 { input.sample.svn == \"1\" }\n"
                 "executables = 3\nconfiguration = 2\n",
    "unknown-claim": "package policy\nhardware := 2\nfoo := 3\n",
    "trust_claims": "package policy\ntrust_claims := {\"hardware\": 2}\n",
    "string": "package policy\nhardware := \"2\"\n",
    "float": "package policy\nhardware := 3.5\n",
    "300": "package policy\nhardware := 300\nexecutables := -3\n",
    "tiers": "package policy\nhardware := 1\nexecutables := -3\nconfiguration := 32\n",
    "zero": "package policy\nhardware := 0\n",
    "instance": "package policy\n\"instance-identity\" := 2\n",
    "wrong-package": "package another\nhardware := 2\n",
    "input-data": "package policy\nimport rego.v1\nhardware := 2 if { input.sample.svn == \"1\"; "
                  "input.runtime_data_claims.nonce; is_object(data.reference) }\nexecutables := 3 if input.init_data == \"\"\n",
}


def _path(text: str) -> str:
    return _V1 + f'allow if data["resource-path"] == "{text}"\n'


OLD_RESOURCE = {
    "v0-body": V0_BODY,
    **{name: RESOURCE[name] for name in ("wrong-package", "no-allow", "allow-undefined", "allow-number", "deny-all")},
    "if-no-import": RESOURCE["allow-if-no-import"],
    "if-import": _V1 + "allow if input.absent == 1\n",
    "data-string": RESOURCE["data-string"],
    "data-string-no-prefix": _path("default/kbsres1/key1"),
    "data-plugin": _V1 + 'allow if data.plugin == "resource"\n',
    "query": RESOURCE["data-string"],
    "two-seg-path": _path("resource/kbsres1/two"),
    "tee-not-sample": "package policy\ndefault allow = false\nallow { input[\"tee\"] != \"sample\" }\n",
    "cpu0-not-sample": "package policy\ndefault allow = false\n"
                       "allow { not input.submods.cpu0[\"ear.veraison.annotated-evidence\"].sample }\n",
    "op-0.3-sample": "package policy\ndefault allow = false\n"
                     "allow { input[\"submods\"][\"cpu\"][\"ear.status\"] != \"contraindicated\" }\n",
}
