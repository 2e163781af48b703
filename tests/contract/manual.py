"""An operator installed by hand: Manual approval, any version of the index, a namespace of its own that is removed afterwards."""

from __future__ import annotations

from typing import Any

from tests.contract.cluster import namespace, until
from tests.integration.lab import Lab


class Subscribed:
    """A Subscription with Manual approval in a namespace of its own."""

    def __init__(self, lab: Lab, where: str, package: str, **more: str) -> None:
        self.lab, self.where, self.package = lab, where, package
        self.alpha = f"/apis/operators.coreos.com/v1alpha1/namespaces/{where}"
        self.groups = f"/apis/operators.coreos.com/v1/namespaces/{where}/operatorgroups"
        namespace(lab, where)
        lab.request("POST", self.groups, {"apiVersion": "operators.coreos.com/v1", "kind": "OperatorGroup",
                                          "metadata": {"name": package}, "spec": {"targetNamespaces": [where]}})
        lab.request("POST", f"{self.alpha}/subscriptions", {
            "apiVersion": "operators.coreos.com/v1alpha1", "kind": "Subscription", "metadata": {"name": package},
            "spec": {"name": package, "channel": "stable", "source": "redhat-operators", "sourceNamespace": "openshift-marketplace",
                     "installPlanApproval": "Manual", **more}})

    def status(self) -> dict[str, Any]:
        found = self.lab.request("GET", f"{self.alpha}/subscriptions/{self.package}")
        return dict(found.get("status") or {})

    def csvs(self) -> dict[str, Any]:
        listed = self.lab.request("GET", f"{self.alpha}/clusterserviceversions")["items"]
        return {item["metadata"]["name"]: item for item in listed}

    def succeeded(self, name: str) -> Any:
        csv = self.csvs().get(name)
        return csv if csv and csv.get("status", {}).get("phase") == "Succeeded" else None

    def plan(self, csv: str) -> dict[str, Any]:
        """The plan for ``csv``, once the Subscription refers to it and it waits for approval."""
        def offered() -> Any:
            reference = self.status().get("installPlanRef")
            found = reference and self.lab.request("GET", f"{self.alpha}/installplans/{reference['name']}")
            return found if found and csv in found["spec"]["clusterServiceVersionNames"] \
                and found.get("status", {}).get("phase") == "RequiresApproval" else None
        found: dict[str, Any] = until(offered)
        return found

    def approve(self, plan: dict[str, Any]) -> None:
        self.lab.request("PATCH", f"{self.alpha}/installplans/{plan['metadata']['name']}", {"spec": {"approved": True}})

    def remove(self) -> None:
        """Uninstall; afterwards nothing is left in the way of another installation."""
        self.lab.request("DELETE", f"{self.alpha}/subscriptions/{self.package}")
        self.lab.request("DELETE", f"{self.alpha}/installplans")  # one that is not Complete would bring the operator back
        until(lambda: not self.lab.request("GET", f"{self.alpha}/installplans")["items"])
        until(lambda: not [self.lab.request("DELETE", f"{self.alpha}/clusterserviceversions/{name}") for name in self.csvs()])
        path = f"/api/v1/namespaces/{self.where}"
        self.lab.request("DELETE", path)
        until(lambda: self.lab.request("GET", path) is None)
