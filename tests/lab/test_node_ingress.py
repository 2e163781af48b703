"""The router's table: hosts, admission, backends, names; SNI and HTTP heads; the service CA's bundles."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from lab.ingress import request_line, server_name
from lab.ingress_table import build, defaults, endpoints, names, seconds, status
from lab.service_ca import INJECT, bundled

DOMAIN = "apps.lab.example.test"


def route(name: str = "r", namespace: str = "n", created: str = "2026-01-01T00:00:00Z", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "creationTimestamp": created, "uid": name},
            "spec": {"to": {"kind": "Service", "name": "kbs-service", "weight": 100}, "wildcardPolicy": "None", **spec}}


def service(name: str = "kbs-service", namespace: str = "n", **port: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace},
            "spec": {"ports": [{"name": "kbs-port", "port": 8080, "targetPort": 8080, **port}]}}


def slice_of(*addresses: str, ready: bool = True, name: str = "kbs-port", port: int = 8080) -> dict[str, Any]:
    return {"metadata": {"name": "s", "namespace": "n", "labels": {"kubernetes.io/service-name": "kbs-service"}},
            "ports": [{"name": name, "port": port}],
            "endpoints": [{"addresses": [a], "conditions": {"ready": ready}} for a in addresses]}


def test_generated_host() -> None:
    bare = {"metadata": {"name": "kbs.v1", "namespace": "trustee-operator-system"}, "spec": {"to": {"name": "s"}}}
    assert defaults(bare, DOMAIN) == {
        "metadata": {"annotations": {"openshift.io/host.generated": "true"}},
        "spec": {"host": f"kbs-v1-trustee-operator-system.{DOMAIN}", "wildcardPolicy": "None",
                 "to": {"kind": "Service", "weight": 100}}}
    assert defaults(route(host="x.example"), DOMAIN) == {}
    assert defaults(route(subdomain="sub"), DOMAIN) == {}


def test_subdomain_is_served_without_a_host() -> None:
    table = build({"n/r": route(subdomain="sub")}, {}, {}, DOMAIN)
    assert table.verdicts["n/r"].host == f"sub.{DOMAIN}"
    assert table.verdicts["n/r"].admitted


def test_older_route_keeps_the_host() -> None:
    routes = {"n/young": route("young", created="2026-01-02T00:00:00Z", host="h.example"),
              "n/old": route("old", host="h.example"),
              "m/other": route("other", "m", "2026-01-03T00:00:00Z", host="h.example")}
    table = build(routes, {}, {}, DOMAIN)
    assert table.verdicts["n/old"].admitted
    young, other = table.verdicts["n/young"], table.verdicts["m/other"]
    assert (young.reason, young.message) == ("HostAlreadyClaimed", "route old already exposes h.example and is older")
    assert (other.reason, other.message) == ("HostAlreadyClaimed",
                                             "a route in another namespace holds h.example and is older than other")
    assert [b.route for b in table.backends["h.example"]] == ["n/old"]


@pytest.mark.parametrize("tls", [
    {"termination": "none"}, {"termination": "passthrough", "certificate": "x"},
    {"termination": "passthrough", "insecureEdgeTerminationPolicy": "Allow"},
    {"termination": "edge", "destinationCACertificate": "x"}, {"termination": "reencrypt", "destinationCACertificate": "x"},
])
def test_extended_validation(tls: dict[str, Any]) -> None:
    verdict = build({"n/r": route(host="h.example", tls=tls)}, {}, {}, DOMAIN).verdicts["n/r"]
    assert (verdict.admitted, verdict.reason) == (False, "ExtendedValidationFailed")


@pytest.mark.parametrize("wanted", ["kbs-port", 8080, None])
def test_backend_is_a_ready_pod(wanted: Any) -> None:
    given = route(host="h.example", **({"port": {"targetPort": wanted}} if wanted else {}))
    table = build({"n/r": given}, {"n/kbs-service": service()}, {"n/s": slice_of("10.200.4.2")}, DOMAIN)
    assert table.backends["h.example"][0].addresses == (("127.200.4.2", 8080),)


def test_no_ready_endpoint() -> None:
    assert endpoints([slice_of("10.200.4.2", ready=False)], service()["spec"]["ports"][0]) == []
    table = build({"n/r": route(host="h.example", port={"targetPort": "nope"})}, {"n/kbs-service": service()},
                  {"n/s": slice_of("10.200.4.2")}, DOMAIN)
    assert table.verdicts["n/r"].admitted
    assert table.backends["h.example"][0].addresses == ()


def test_names() -> None:
    services = {"n/kbs-service": service(), "n/down": service("down")}
    slices = {"n/s": slice_of("10.200.4.3", "10.200.4.2")}
    table = build({"n/r": route(host="h.example")}, services, slices, DOMAIN)
    found = names(table, services, slices, "127.200.0.2:8443", "127.200.0.2:8080", 200)
    assert found["h.example:443"] == "127.200.0.2:8443"
    assert found["kbs-service.n.svc:8080"] == found["kbs-service.n.svc.cluster.local:8080"] == "127.200.4.2:8080"
    assert found["down.n.svc:8080"] == "127.200.255.253:8080"


def test_status_is_written_once() -> None:
    given = route(host="h.example")
    verdict = build({"n/r": given}, {}, {}, DOMAIN).verdicts["n/r"]
    written = status(given, verdict, DOMAIN, "2026-01-01T00:00:09Z")
    assert written is not None
    ingress = written["ingress"][0]
    assert ingress["conditions"] == [{"type": "Admitted", "status": "True", "lastTransitionTime": "2026-01-01T00:00:09Z"}]
    assert ingress["routerCanonicalHostname"] == f"router-default.{DOMAIN}"
    assert status({**given, "status": written}, verdict, DOMAIN, "2027-01-01T00:00:00Z") is None


@pytest.mark.parametrize(("text", "value"), [("30s", 30), ("5m", 300), ("500ms", 0.5), ("1000", 1), ("x", None), ("", None)])
def test_timeout(text: str, value: float | None) -> None:
    assert seconds(text) == value


def hello(name: str | None) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def test_sni() -> None:
    whole = hello("kbs-service-ns.apps.lab.example.test")
    assert server_name(whole) == (True, "kbs-service-ns.apps.lab.example.test")
    assert server_name(hello(None)) == (True, "")
    assert server_name(whole[:40]) == (False, "")
    assert server_name(b"") == (False, "")
    assert server_name(b"GET / HTTP/1.1\r\n") == (True, "")
    assert server_name(b"\x16\x03\x01\x00\x04abcd") == (True, "")


def test_request_line() -> None:
    assert request_line(b"GET /a?b HTTP/1.1\r\nX: y\r\nHOST: H.example:8443\r\n\r\n") == ("h.example", "/a?b")
    assert request_line(b"GET\r\n\r\n") == ("", "/")


def test_bundle_injection() -> None:
    asked = {"annotations": {INJECT: "true"}}
    config = {"kind": "ConfigMap", "metadata": asked, "data": {"x": "y"}}
    assert bundled(config, "PEM") == {"data": {"x": None, "service-ca.crt": "PEM"}}
    assert bundled({**config, "data": {"service-ca.crt": "PEM"}}, "PEM") is None
    assert bundled({"kind": "ConfigMap", "metadata": {}}, "PEM") is None
    hooks = {"kind": "MutatingWebhookConfiguration", "metadata": asked,
             "webhooks": [{"name": "a", "clientConfig": {"service": {"name": "s"}}}]}
    patched = bundled(hooks, "PEM")
    assert patched == {"webhooks": [{"name": "a", "clientConfig": {"service": {"name": "s"}, "caBundle": "UEVN"}}]}
    assert bundled({**hooks, **patched}, "PEM") is None
