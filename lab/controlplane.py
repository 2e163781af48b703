"""etcd, kube-apiserver, kube-controller-manager and OLM of one cluster: their files, flags and identities."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from lab import pki
from lab.paths import run_directory
from lab.processes import Processes

CONTROLLERS = (
    "namespace-controller", "serviceaccount-controller", "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller", "garbage-collector-controller", "deployment-controller",
    "replicaset-controller", "daemonset-controller", "job-controller", "statefulset-controller",
    "clusterrole-aggregation-controller", "certificatesigningrequest-signing-controller",
    "certificatesigningrequest-approving-controller", "endpointslice-controller", "endpoints-controller",
    "pod-garbage-collector-controller",
)
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [
        {"level": "None", "users": ["system:apiserver", "system:kube-controller-manager"]},
        {"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*", "/metrics"]},
        {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
        {"level": "Metadata"},
    ],
}
ADMIN = "lab-admin"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Cluster:
    """One cluster's place: its directory, number, node list and ports."""

    name: str
    number: int
    state: Path
    nodes: list[str]
    domain: str
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        return self.state / self.name

    @property
    def pki(self) -> Path:
        return self.directory / "pki"

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.ports['api']}"

    @property
    def egress_socket(self) -> Path:
        return run_directory(self.state) / f"egress-{self.name}.sock"

    def address(self, index: int) -> str:
        """The made-up address of node ``index``."""
        return f"10.{self.number}.0.{10 + index}"

    def kubeconfig(self, user: str) -> Path:
        return self.directory / "kubeconfig" / f"{user}.yaml"

    def write_pki(self, identities: list[str]) -> None:
        """Authorities, serving certificates, and client certificates of nodes, the administrator and each identity."""
        ca = pki.Authority(self.pki, "ca")
        front = pki.Authority(self.pki, "front-proxy-ca")
        ca.issue("apiserver", "kube-apiserver", names=(
            "127.0.0.1", "localhost", "172.30.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local"))
        ca.issue("apiserver-kubelet-client", "system:kube-apiserver", ("kubeadm:cluster-admins",))
        front.issue("front-proxy-client", "front-proxy")
        ca.issue("service-account", "service-account")
        router = pki.Authority(self.pki, "router-ca")
        router.issue("router", f"*.{self.domain}", names=(f"*.{self.domain}",))
        pki.Authority(self.pki, "service-ca")
        for index, node in enumerate(self.nodes):
            ca.issue(f"kubelet-{node}", f"system:node:{node}", ("system:nodes",), names=(node, self.address(index)))
            ca.issue(f"node-{node}", f"system:node:{node}", ("system:nodes",))
        for user in (ADMIN, *identities):
            groups = () if user == "system:kube-controller-manager" else ("system:masters",)
            ca.issue("user-" + user.replace(":", "-"), user, groups)

    def write_kubeconfigs(self, identities: list[str]) -> None:
        """A kubeconfig for each node, the administrator and each identity."""
        for node in self.nodes:
            self.write_kubeconfig(f"node-{node}", f"node-{node}")
        for user in (ADMIN, *identities):
            name = user.replace(":", "-")
            self.write_kubeconfig(name, f"user-{name}")

    def write_kubeconfig(self, user: str, certificate: str) -> None:
        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": self.name,
            "clusters": [{"name": self.name, "cluster": {"server": self.server,
                                                         "certificate-authority": str(self.pki / "ca.crt")}}],
            "users": [{"name": user, "user": {"client-certificate": str(self.pki / f"{certificate}.crt"),
                                              "client-key": str(self.pki / f"{certificate}.key")}}],
            "contexts": [{"name": self.name, "context": {"cluster": self.name, "user": user, "namespace": "default"}}],
        }
        pki.write_private(self.kubeconfig(user), yaml.safe_dump(config).encode())

    # Programs ---------------------------------------------------------------------------------------------------

    def start_etcd(self, processes: Processes, programs: dict[str, Path]) -> None:
        client, peer = (f"http://127.0.0.1:{self.ports[name]}" for name in ("etcd", "etcd-peer"))
        processes.start("etcd", [
            str(programs["etcd"]), "--data-dir", str(self.directory / "etcd"), "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}", "--unsafe-no-fsync", "--log-level", "warn",
        ])

    def start_apiserver(self, processes: Processes, programs: dict[str, Path]) -> None:
        egress = self.directory / "egress.yaml"
        egress.write_text(yaml.safe_dump({
            "apiVersion": "apiserver.k8s.io/v1beta1", "kind": "EgressSelectorConfiguration",
            "egressSelections": [{"name": "cluster", "connection": {
                "proxyProtocol": "HTTPConnect", "transport": {"uds": {"udsName": str(self.egress_socket)}}}}],
        }))
        audit = self.directory / "audit-policy.yaml"
        audit.write_text(yaml.safe_dump(AUDIT_POLICY))
        files = {
            "tls-cert-file": "apiserver.crt", "tls-private-key-file": "apiserver.key", "client-ca-file": "ca.crt",
            "service-account-key-file": "service-account.crt", "service-account-signing-key-file": "service-account.key",
            "requestheader-client-ca-file": "front-proxy-ca.crt", "proxy-client-cert-file": "front-proxy-client.crt",
            "proxy-client-key-file": "front-proxy-client.key",
            "kubelet-client-certificate": "apiserver-kubelet-client.crt",
            "kubelet-client-key": "apiserver-kubelet-client.key", "kubelet-certificate-authority": "ca.crt",
        }
        flags = {
            "etcd-servers": f"http://127.0.0.1:{self.ports['etcd']}", "cert-dir": str(self.pki),
            "secure-port": str(self.ports["api"]), "bind-address": "127.0.0.1", "advertise-address": "127.0.0.1",
            "endpoint-reconciler-type": "none", "service-cluster-ip-range": "172.30.0.0/16", "allow-privileged": "true",
            "authorization-mode": "Node,RBAC", "service-account-issuer": "https://kubernetes.default.svc",
            "requestheader-allowed-names": "front-proxy", "requestheader-username-headers": "X-Remote-User",
            "requestheader-group-headers": "X-Remote-Group", "requestheader-extra-headers-prefix": "X-Remote-Extra-",
            "kubelet-preferred-address-types": "InternalIP", "enable-aggregator-routing": "true",
            "enable-admission-plugins": "NodeRestriction,OwnerReferencesPermissionEnforcement",
            "egress-selector-config-file": str(egress), "audit-policy-file": str(audit),
            "audit-log-path": str(self.directory / "audit.log"), "audit-log-maxsize": "2000",
            "profiling": "false", "shutdown-delay-duration": "0s",
        }
        flags.update({flag: str(self.pki / file) for flag, file in files.items()})
        processes.start("kube-apiserver", [str(programs["kube-apiserver"]), *(f"--{k}={v}" for k, v in flags.items())])

    def start_controller_manager(self, processes: Processes, programs: dict[str, Path]) -> None:
        config = str(self.kubeconfig("system-kube-controller-manager"))
        processes.start("kube-controller-manager", [
            str(programs["kube-controller-manager"]), f"--kubeconfig={config}", f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            f"--service-account-private-key-file={self.pki / 'service-account.key'}",
            f"--root-ca-file={self.pki / 'ca.crt'}", "--use-service-account-credentials=true", "--leader-elect=false",
            f"--cluster-signing-cert-file={self.pki / 'ca.crt'}", f"--cluster-signing-key-file={self.pki / 'ca.key'}",
            "--bind-address=127.0.0.1", f"--secure-port={self.ports['kcm']}", f"--cert-dir={self.pki}",
            "--controllers=" + ",".join(CONTROLLERS), "--profiling=false",
        ])

    def start_olm(self, processes: Processes, programs: dict[str, Path]) -> None:
        """OLM's two operators; they want the API to be ready."""
        namespace = "openshift-operator-lifecycle-manager"
        env = {"OPERATOR_NAMESPACE": namespace, "OPERATOR_NAME": "olm-operator", "RELEASE_VERSION": "4.20.8"}
        processes.start("olm", [
            str(programs["olm"]), "--namespace", namespace, "--writeStatusName", "operator-lifecycle-manager",
        ], {**env, "KUBECONFIG": str(self.kubeconfig("olm-operator"))})
        processes.start("catalog", [
            str(programs["catalog"]), "--kubeconfig", str(self.kubeconfig("catalog-operator")), "--namespace",
            "openshift-marketplace", "--writeStatusName", "operator-lifecycle-manager-catalog",
        ], {**env, "OPERATOR_NAME": "catalog-operator", "KUBECONFIG": str(self.kubeconfig("catalog-operator"))})

    def wait_ready(self, processes: Processes, seconds: float = 120) -> None:
        """Until ``/readyz`` answers; the failing program's last lines otherwise."""
        context = ssl.create_default_context(cafile=str(self.pki / "ca.crt"))
        context.load_cert_chain(self.pki / f"user-{ADMIN}.crt", self.pki / f"user-{ADMIN}.key")
        deadline = time.monotonic() + seconds
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        while True:
            try:
                with opener.open(f"{self.server}/readyz", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except (OSError, urllib.error.URLError):
                pass
            for name in ("etcd", "kube-apiserver"):
                processes.check(name)
            if time.monotonic() > deadline:
                raise processes.failure("kube-apiserver", f"not ready after {seconds:.0f} s")
            time.sleep(0.1)

    def clear(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True, mode=0o700)
        os.chmod(self.directory, 0o700)
