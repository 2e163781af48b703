"""lab-service-ca beside OpenShift's service-ca operator (operators.md 1.1 and 4, lab.md: the fork note on KCM)."""

from __future__ import annotations

import base64

from cryptography import x509

from tests.contract.cluster import namespace, until
from tests.integration.lab import Lab

PREFIX = "service.beta.openshift.io/"


def test_serving_certificate(cluster: Lab) -> None:
    """A Service that names a Secret gets one of type kubernetes.io/tls for ``<service>.<namespace>.svc`` (operators.md 4)."""
    namespace(cluster, "contract-serving")
    cluster.request("POST", "/api/v1/namespaces/contract-serving/services", {
        "metadata": {"name": "web", "annotations": {f"{PREFIX}serving-cert-secret-name": "web-tls"}},
        "spec": {"ports": [{"port": 443}]}})
    secret = until(lambda: cluster.request("GET", "/api/v1/namespaces/contract-serving/secrets/web-tls"))
    assert secret["type"] == "kubernetes.io/tls"
    assert set(secret["data"]) == {"tls.crt", "tls.key"}
    leaf = x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["tls.crt"]))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert names == ["web.contract-serving.svc", "web.contract-serving.svc.cluster.local"]


def test_bundle_in_every_namespace(cluster: Lab) -> None:
    """``openshift-service-ca.crt`` is published in each new namespace (lab.md, the fork note on KCM)."""
    namespace(cluster, "contract-published")
    published = until(lambda: cluster.config_map("contract-published", "openshift-service-ca.crt"))
    assert x509.load_pem_x509_certificate(published["service-ca.crt"].encode())
