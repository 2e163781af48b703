"""What the router makes of Routes, Services and EndpointSlices: hosts, admission, backends, names. Pure.

Facts: reference/operators.md section 6 (host defaulting, Admitted and its reasons).
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

from lab.egress import loopback

Object = dict[str, Any]
GENERATED = "openshift.io/host.generated"
TIMEOUT = "haproxy.router.openshift.io/timeout"
SERVICE_OF = "kubernetes.io/service-name"


@dataclass(frozen=True)
class Backend:
    """Where an admitted route leads."""

    route: str  # namespace/name
    host: str
    path: str
    termination: str  # "", edge, passthrough, reencrypt
    insecure: str
    service: str  # name.namespace.svc
    addresses: tuple[tuple[str, int], ...] = ()
    timeout: float | None = None
    certificate: tuple[str, str] | None = None
    destination_ca: str = ""


@dataclass
class Verdict:
    """A route's host and whether the router serves it."""

    host: str
    admitted: bool
    reason: str = ""
    message: str = ""


@dataclass
class Table:
    """What the router serves: backends by host (longest path first) and the verdict on each route."""

    backends: dict[str, list[Backend]] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)


def seconds(text: str) -> float | None:
    """A haproxy time (``30s``, ``5m``, ``500ms``); None for anything else."""
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number = text.rstrip("usmhd")
    unit = text[len(number):] or "ms"
    return float(number) * units[unit] if number.isdigit() and unit in units else None


def defaults(route: Object, domain: str) -> Object:
    """The merge patch that OpenShift's API would have applied when the route was created (empty: nothing to do)."""
    meta, spec = route["metadata"], route["spec"]
    patch: Object = {}
    if not spec.get("host") and not spec.get("subdomain"):
        host = f"{meta['name'].replace('.', '-')}-{meta['namespace']}.{domain}"
        patch = {"metadata": {"annotations": {GENERATED: "true"}}, "spec": {"host": host}}
    if not spec.get("wildcardPolicy"):
        patch.setdefault("spec", {})["wildcardPolicy"] = "None"
    to = spec.get("to") or {}
    if not to.get("kind") or to.get("weight") is None:
        patch.setdefault("spec", {})["to"] = {"kind": to.get("kind") or "Service",
                                              "weight": 100 if to.get("weight") is None else to["weight"]}
    return patch


def invalid(spec: Object) -> str:
    """What the router's extended validation says about a route, or nothing."""
    tls = spec.get("tls")
    if not tls:
        return ""
    kind = tls.get("termination")
    if kind not in ("edge", "passthrough", "reencrypt"):
        return f'spec.tls.termination: Invalid value: "{kind}": must be one of edge, passthrough, reencrypt'
    if kind == "passthrough":
        if spec.get("path"):
            return f'spec.path: Invalid value: "{spec["path"]}": passthrough termination does not support paths'
        for name in ("certificate", "key", "caCertificate", "destinationCACertificate"):
            if tls.get(name):
                return f'spec.tls.{name}: Invalid value: "redacted": passthrough termination does not support certificates'
        if tls.get("insecureEdgeTerminationPolicy") == "Allow":
            return "spec.tls.insecureEdgeTerminationPolicy: Invalid value: \"Allow\": acceptable values are None, Redirect"
    if kind == "edge" and tls.get("destinationCACertificate"):
        return ('spec.tls.destinationCACertificate: Invalid value: "redacted": edge termination does not support '
                "destination certificates")
    if tls.get("destinationCACertificate"):
        try:
            ssl.create_default_context(cadata=tls["destinationCACertificate"])
        except (ssl.SSLError, ValueError):
            return ('spec.tls.destinationCACertificate: Invalid value: "redacted destination ca certificate data": '
                    "failed to parse")
    return ""


def service_port(route: Object, service: Object) -> Object | None:
    """The port of the Service that a route means."""
    ports = service["spec"].get("ports") or []
    wanted = (route["spec"].get("port") or {}).get("targetPort")
    if wanted is None:
        return ports[0] if ports else None
    for port in ports:
        if wanted in (port.get("name"), port.get("port"), port.get("targetPort")) or str(wanted) == str(port.get("port")):
            return port  # type: ignore[no-any-return]
    return None


def endpoints(slices: list[Object], port: Object) -> list[tuple[str, int]]:
    """Loopback addresses of the ready endpoints behind a Service's port, sorted."""
    found = set()
    for one in slices:
        numbers = [p["port"] for p in one.get("ports") or [] if (p.get("name") or "") == (port.get("name") or "")]
        for entry in one.get("endpoints") or []:
            if (entry.get("conditions") or {}).get("ready") is False or not numbers:
                continue
            for address in entry.get("addresses") or []:
                served = loopback(address)
                if served:
                    found.add((served, int(numbers[0])))
    return sorted(found)


def slices_by_service(slices: dict[str, Object]) -> dict[str, list[Object]]:
    """EndpointSlices by ``namespace/service``."""
    found: dict[str, list[Object]] = {}
    for one in slices.values():
        name = (one["metadata"].get("labels") or {}).get(SERVICE_OF)
        if name:
            found.setdefault(f"{one['metadata']['namespace']}/{name}", []).append(one)
    return found


def host_of(route: Object, domain: str) -> str:
    """The host under which the router serves a route."""
    spec = route["spec"]
    if spec.get("host"):
        return str(spec["host"])
    return f"{spec['subdomain']}.{domain}" if spec.get("subdomain") else ""


def _admitted(route: Object) -> bool:
    """Was the route admitted before? (Of two routes of one second the one that was stays.)"""
    ingress = ((route.get("status") or {}).get("ingress") or [{}])[0]
    return any(c.get("type") == "Admitted" and c.get("status") == "True" for c in ingress.get("conditions") or [])


def build(routes: dict[str, Object], services: dict[str, Object], slices: dict[str, Object], domain: str) -> Table:
    """Admit routes, oldest first, and find their backends."""
    table = Table()
    claimed: dict[str, tuple[str, str, set[str]]] = {}  # host → (namespace, oldest route's name, paths)
    behind = slices_by_service(slices)
    ordered = sorted(routes.items(), key=lambda item: (item[1]["metadata"].get("creationTimestamp", ""),
                                                       not _admitted(item[1]), item[1]["metadata"].get("uid", "")))
    for key, route in ordered:
        meta, spec = route["metadata"], route["spec"]
        host, path = host_of(route, domain), spec.get("path") or ""
        if not host:
            table.verdicts[key] = Verdict("", False, "NoHostValue", f"no host value was defined for the route {meta['name']}")
            continue
        if any(not 0 < len(label) <= 63 for label in host.split(".")) or len(host) > 253:
            table.verdicts[key] = Verdict(host, False, "InvalidHost", f"host name validation errors: {host}")
            continue
        complaint = invalid(spec)
        if complaint:
            table.verdicts[key] = Verdict(host, False, "ExtendedValidationFailed", complaint)
            continue
        holder = claimed.get(host)
        if holder is not None and holder[0] != meta["namespace"]:
            table.verdicts[key] = Verdict(host, False, "HostAlreadyClaimed",
                                          f"a route in another namespace holds {host} and is older than {meta['name']}")
            continue
        if holder is not None and path in holder[2]:
            table.verdicts[key] = Verdict(host, False, "HostAlreadyClaimed",
                                          f"route {holder[1]} already exposes {host} and is older")
            continue
        claimed.setdefault(host, (meta["namespace"], meta["name"], set()))[2].add(path)
        table.verdicts[key] = Verdict(host, True)
        table.backends.setdefault(host, []).append(_backend(key, route, host, path, services, behind))
    for backends in table.backends.values():
        backends.sort(key=lambda b: -len(b.path))
    return table


def _backend(key: str, route: Object, host: str, path: str, services: dict[str, Object],
             behind: dict[str, list[Object]]) -> Backend:
    spec, namespace = route["spec"], route["metadata"]["namespace"]
    tls = spec.get("tls") or {}
    name = spec["to"]["name"]
    service = services.get(f"{namespace}/{name}")
    addresses: list[tuple[str, int]] = []
    if service is not None:
        port = service_port(route, service)
        if port is not None:
            addresses = endpoints(behind.get(f"{namespace}/{name}", []), port)
    pair = (tls["certificate"] + "\n" + (tls.get("caCertificate") or ""), tls["key"]) if (
        tls.get("certificate") and tls.get("key")) else None
    timeout = seconds((route["metadata"].get("annotations") or {}).get(TIMEOUT, ""))
    return Backend(key, host, path, tls.get("termination") or "", tls.get("insecureEdgeTerminationPolicy") or "None",
                   f"{name}.{namespace}.svc", tuple(addresses), timeout, pair, tls.get("destinationCACertificate") or "")


def names(table: Table, services: dict[str, Object], slices: dict[str, Object], router: str, plain: str,
          number: int) -> dict[str, str]:
    """hosts.json: names of admitted routes and of Services with the address that serves them.

    A Service without a ready endpoint leads to an address where nothing listens: its connections are refused.
    """
    found: dict[str, str] = {}
    for host in table.backends:
        found[f"{host}:443"], found[f"{host}:80"] = router, plain
    behind = slices_by_service(slices)
    for key, service in services.items():
        namespace, _, name = key.partition("/")
        for port in service["spec"].get("ports") or []:
            ready = endpoints(behind.get(key, []), port)
            address, served = ready[0] if ready else (f"127.{number}.255.253", int(port["port"]))
            for suffix in ("svc", "svc.cluster.local"):
                found[f"{name}.{namespace}.{suffix}:{port['port']}"] = f"{address}:{served}"
    return found


def status(route: Object, verdict: Verdict, domain: str, now: str) -> Object | None:
    """The status to write for a route, None if it is there already."""
    condition = {"type": "Admitted", "status": "True" if verdict.admitted else "False"}
    if verdict.reason:
        condition |= {"reason": verdict.reason, "message": verdict.message}
    before = ((route.get("status") or {}).get("ingress") or [{}])[0]
    known: Object = next((c for c in before.get("conditions") or [] if c.get("type") == "Admitted"), {})
    same = {k: v for k, v in known.items() if k != "lastTransitionTime"} == condition
    wanted = {"host": verdict.host, "routerName": "default", "routerCanonicalHostname": f"router-default.{domain}",
              "wildcardPolicy": "None"}
    if same and all(before.get(k) == v for k, v in wanted.items()):
        return None
    kept = known.get("lastTransitionTime") if known.get("status") == condition["status"] else None
    return {"ingress": [{**wanted, "conditions": [{**condition, "lastTransitionTime": kept or now}]}]}
