"""The recorded exchanges about reference values and attestation policies (see test_exchanges.py)."""

from __future__ import annotations

import json
from typing import Any

from tests.contract import policies
from tests.contract.client import Key, b64, b64url
from tests.contract.groups import GROUPS
from tests.contract.talk import RESOURCE, SECRET, Talk
from tests.contract.test_exchanges import ALL


@ALL
def test_reference_values(talk: Talk) -> None:
    admin, key = talk.client.admin, Key()
    talk.resource()
    body = {"policy": b64url(policies.AFFIRMING.encode())}
    talk("admin/set-resource-policy/affirming", "POST", "/kbs/v0/resource-policy", body, bearer=admin())
    cookie, _ = talk.handshake("affirming/no-rv", key)
    talk("affirming/no-rv/get", "GET", RESOURCE, cookie=cookie)

    def get(label: str, path: str = "", bearer: str | None = None) -> None:
        talk(f"rv/{label}", "GET", f"/kbs/v0/reference-value{path}", bearer=admin() if bearer is None else bearer)

    def put(label: str, body: Any, bearer: str | None = None) -> None:
        talk(f"rv/set/{label}", "POST", "/kbs/v0/reference-value", body, bearer=admin() if bearer is None else bearer)

    def message(payload: Any, **changes: Any) -> dict[str, Any]:
        return {"version": "0.1.0", "type": "sample", "payload": b64(json.dumps(payload).encode()), **changes}

    get("get/no-jwt", "/svn", "")
    get("get/unset", "/svn")
    get("get-all")
    put("no-jwt", message({"svn": ["1"]}), "")
    put("not-json", b"x")
    put("bad-version", message({"svn": ["1"]}, version="0.9.0"))
    put("bad-type", message({"svn": ["1"]}, type="foo"))
    put("bad-payload-base64", {**message({}), "payload": "!!"})
    put("bad-payload-json", message([1]))
    put("no-version", {name: value for name, value in message({"zz": ["1"]}).items() if name != "version"})
    for name, values in (
        ("launch_digest-list", {"launch_digest": ["abcde"]}), ("svn-number", {"svn": 1}), ("svn-string", {"svn": "1"}),
        ("svn-list-number", {"svn": [1]}), ("svn-list-string", {"svn": ["1"]}),
        ("major-list", {"major_version": [1], "minimum_minor_version": [4]}),
        ("major-string", {"major_version": "1", "minimum_minor_version": "4"}),
        ("minor-5", {"major_version": 1, "minimum_minor_version": 5}),
        ("all-good", {"major_version": 1, "minimum_minor_version": 4}),
    ):
        label = ""
        for value in values:
            label = f"{name}/{value}"
            put(label, message({value: values[value]}))
        talk.attest(f"rv/set/{label}", talk.auth(f"rv/set/{label}"), key)
    get("get/svn", "/svn")
    get("get/major", "/major_version")
    get("get-all-after")
    get("get/encoded-slash", "/a%2Fb")
    cookie, _ = talk.handshake("affirming/with-rv", key)
    assert key.decrypt(talk("affirming/with-rv/get", "GET", RESOURCE, cookie=cookie)) == SECRET
    talk.done(*GROUPS["rv"])


@ALL
def test_attestation_policy(talk: Talk) -> None:
    admin, key = talk.client.admin, Key()
    talk.resource()
    talk.resource_policy(policies.AFFIRMING)
    for values in ({"launch_digest": ["abcde"], "svn": ["1"]}, {"major_version": 1, "minimum_minor_version": 4}):
        talk.post("reference-value", {"type": "sample", "payload": b64(json.dumps(values).encode())})
    cpu = policies.CPU if talk.side.name == "B" else policies.CPU_OBJECT
    good, encoded = {"type": "rego", "policy_id": "default_cpu"}, b64url(cpu.encode())
    affirmed, _ = talk.attested(key)

    def put(name: str, members: dict[str, Any] | None = None, policy: str = encoded, bearer: str | None = None) -> None:
        body = {**(good if members is None else members), "policy": policy}
        talk(f"attpol/{name}", "POST", "/kbs/v0/attestation-policy", body, bearer=admin() if bearer is None else bearer)

    put("no-jwt", bearer="")
    put("set/same")
    put("set/no-type", {"policy_id": "default_cpu"})
    put("set/type-foo", {**good, "type": "foo"})
    put("set/no-id", {"type": "rego"})
    put("set/bad-id", {**good, "policy_id": "../x"})
    put("set/id-dots", {**good, "policy_id": "a.b"})
    put("set/id-default", {**good, "policy_id": "default"})
    put("set/bad-base64", policy="!!")
    put("set/std-padded", policy=b64((cpu + "#" * (4 - len(cpu) % 3)).encode()))
    talk("attpol/get", "GET", "/kbs/v0/attestation-policy", bearer=admin())
    talk("attpol/get-id", "GET", "/kbs/v0/attestation-policy/default_cpu", bearer=admin())
    put("set/bad-rego", policy=b64url(b"no policy"))
    talk.handshake("attpol/after-bad-rego", key)
    for name, text in policies.ATTESTATION.items():
        put(f"set/{name}", policy=b64url(text.encode()))
        talk.handshake(f"attpol/after-{name}", key)
        if name == "unknown-claim":
            talk("attpol/after-panic-alive", "GET", RESOURCE, cookie=affirmed)
    put("restore")
    metrics = talk("metrics", "GET", "/metrics").body.decode()
    for family in policies.METRICS:
        assert f"# TYPE {family} " in metrics, family
    assert f'git_hash="{talk.side.git_hash}",version="0.1.0"}} 1' in metrics
    talk.done(*GROUPS["attpol"])
