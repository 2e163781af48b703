"""lab-ingress beside OpenShift's router (operators.md 6)."""

from __future__ import annotations

import time
from typing import Any

from tests.contract.cluster import namespace, until
from tests.integration.lab import Lab

ROUTES = "/apis/route.openshift.io/v1/namespaces/{}/routes"


def route(cluster: Lab, where: str, name: str, **spec: Any) -> dict[str, Any]:
    """Make a Route; it as the router has judged it."""
    path = ROUTES.format(where)
    cluster.request("POST", path, {"apiVersion": "route.openshift.io/v1", "kind": "Route", "metadata": {"name": name},
                                   "spec": {"to": {"kind": "Service", "name": "web"}, **spec}})
    found: dict[str, Any] = until(
        lambda: (seen := cluster.request("GET", f"{path}/{name}")) and seen.get("status", {}).get("ingress") and seen)
    return found


def admitted(found: dict[str, Any]) -> dict[str, Any]:
    [ingress] = found["status"]["ingress"]
    [condition] = ingress["conditions"]
    assert condition["type"] == "Admitted"
    return dict(condition)


def test_generated_host_and_defaults(cluster: Lab) -> None:
    """``<name>-<namespace>.<ingress domain>``, dots of the name as ``-``; annotation; weight and wildcardPolicy."""
    namespace(cluster, "contract-host")
    domain = cluster.request("GET", "/apis/config.openshift.io/v1/ingresses/cluster")["spec"]["domain"]
    found = route(cluster, "contract-host", "my.web")
    assert found["spec"]["host"] == f"my-web-contract-host.{domain}"
    assert found["metadata"]["annotations"]["openshift.io/host.generated"] == "true"
    assert (found["spec"]["to"]["weight"], found["spec"]["wildcardPolicy"]) == (100, "None")
    assert admitted(found)["status"] == "True"
    assert found["status"]["ingress"][0]["host"] == found["spec"]["host"]


def test_claimed_host(cluster: Lab) -> None:
    """A second Route of a host is accepted by the API, then not admitted, in the words for its own and for another namespace."""
    namespace(cluster, "contract-one")
    namespace(cluster, "contract-two")
    host = "claimed.example.com"
    assert admitted(route(cluster, "contract-one", "old", host=host))["status"] == "True"
    for where, words in (("contract-one", f"route old already exposes {host} and is older"),
                         ("contract-two", f"a route in another namespace holds {host} and is older than young")):
        time.sleep(1.1)  # creation times are whole seconds
        condition = admitted(route(cluster, where, "young", host=host))
        assert (condition["status"], condition["reason"], condition["message"]) == ("False", "HostAlreadyClaimed", words)
