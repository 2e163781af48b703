"""Which cluster a task talks to, as whom, and whose certificate is believed."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ansible_collections.confidential.containers.plugins.module_utils import cluster_login, keys
from ansible_collections.confidential.containers.plugins.module_utils.cluster import (
    ApiFailure,
    Cluster,
    Unreachable,
    explain,
)
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from tests.fake_api import Authority, FakeApi


def version(params: dict[str, Any]) -> str:
    return str(Cluster.from_params(params).request("GET", "/version")["gitVersion"])


@pytest.fixture
def other() -> Iterator[FakeApi]:
    with FakeApi() as server:
        yield server


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[tuple[FakeApi, Authority]]:
    authority = Authority(tmp_path)
    with FakeApi(authority.server()) as server:
        yield server, authority


def test_a_kubeconfig_is_a_path_a_dictionary_or_its_text(api: FakeApi, tmp_path: Path) -> None:
    api.token = "right"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(api.kubeconfig()))
    for given in (str(path), api.kubeconfig(), json.dumps(api.kubeconfig()), f"{tmp_path}/none:{path}", "~/kubeconfig"):
        assert version({"kubeconfig": given}) == "v1.32.9"


def test_a_rewritten_kubeconfig_is_read_again(api: FakeApi, other: FakeApi, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    for number, server in enumerate((api, other)):
        path.write_text(yaml.safe_dump(server.kubeconfig()))
        os.utime(path, ns=(number, number))
        version({"kubeconfig": str(path)})
    assert (len(api.requests), len(other.requests)) == (1, 1)


def test_sessions_are_kept(api: FakeApi) -> None:
    params = {"kubeconfig": api.kubeconfig()}
    assert Cluster.from_params(params) is Cluster.from_params(dict(params))
    assert Cluster.from_params(params) is not Cluster.from_params({**params, "api_key": "other"})
    for _number in range(5):
        version(params)
    assert api.connections == 1


def test_the_environment_never_overrules_a_kubeconfig(api: FakeApi, other: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    api.token = "right"
    for name, value in (("K8S_AUTH_HOST", other.url), ("K8S_AUTH_API_KEY", "wrong"), ("K8S_AUTH_CONTEXT", "none"), ("KUBECONFIG", "/none"),
                        ("K8S_AUTH_USERNAME", "u"), ("K8S_AUTH_PASSWORD", "p"), ("K8S_AUTH_SSL_CA_CERT", "/none"),
                        ("K8S_AUTH_PROXY", "http://127.0.0.1:9"), ("K8S_AUTH_VERIFY_SSL", "no")):
        monkeypatch.setenv(name, value)
    assert version({"kubeconfig": api.kubeconfig()}) == "v1.32.9"
    assert not other.requests
    assert cluster_login.options({"kubeconfig": "x"})["validate_certs"] is None


def test_the_environment_is_used_when_the_task_says_nothing(api: FakeApi, other: FakeApi, monkeypatch: pytest.MonkeyPatch,
                                                            tmp_path: Path) -> None:
    api.token = "of-the-environment"
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(other.kubeconfig()))
    monkeypatch.setenv("KUBECONFIG", str(path))
    assert version({})
    assert (len(api.requests), len(other.requests)) == (0, 1)
    monkeypatch.setenv("K8S_AUTH_HOST", api.url)
    monkeypatch.setenv("K8S_AUTH_API_KEY", "of-the-environment")
    assert version({})
    assert (len(api.requests), len(other.requests)) == (1, 1)


def test_a_host_of_the_environment_gets_no_credentials_of_a_kubeconfig(api: FakeApi, other: FakeApi, monkeypatch: pytest.MonkeyPatch,
                                                                       tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(api.kubeconfig(token="of-the-kubeconfig")))
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setenv("K8S_AUTH_HOST", other.url)
    assert version({})
    assert "authorization" not in other.requests[0].headers


def test_a_named_context_is_of_a_kubeconfig(api: FakeApi, other: FakeApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A host in the environment does not overrule it, and its token is not sent to the context's server."""
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(api.kubeconfig(token="of-the-context")))
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setenv("K8S_AUTH_HOST", other.url)
    monkeypatch.setenv("K8S_AUTH_API_KEY", "of-the-other-cluster")
    assert version({"context": "fake"})
    assert not other.requests
    assert api.requests[0].headers["authorization"] == "Bearer of-the-context"


def test_a_second_cluster_ignores_the_environment(api: FakeApi, other: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K8S_AUTH_API_KEY", "wrong")
    monkeypatch.setenv("K8S_AUTH_HOST", other.url)
    api.token = "right"
    Cluster.from_params({"hub_host": api.url, "hub_api_key": "right"}, "hub_").request("GET", "/version")
    assert not other.requests


def test_options_of_the_task_complete_a_kubeconfig(api: FakeApi, other: FakeApi) -> None:
    """As in kubernetes.core: host replaces the server, api_key the credentials."""
    other.token = "mine"
    assert version({"kubeconfig": api.kubeconfig(token="x"), "api_key": "mine", "host": other.url})
    other.token = "of-the-kubeconfig"
    assert version({"kubeconfig": api.kubeconfig(token="of-the-kubeconfig"), "host": other.url})
    assert not api.requests


def test_basic_authentication(api: FakeApi) -> None:
    version({"host": api.url, "username": "me", "password": "pw"})
    assert api.requests[0].headers["authorization"] == "Basic bWU6cHc="


def test_no_credentials_at_all() -> None:
    with pytest.raises(CocoError, match=r"no credentials are given.*coco_kubeconfig"):
        Cluster.from_params({})


@pytest.mark.parametrize(("params", "text"), [
    ({"kubeconfig": "/none/kubeconfig"}, "/none/kubeconfig does not exist"),
    ({"host": "https://a", "ca_cert": "/none/ca"}, "ca_cert names the file /none/ca, which does not exist"),
    ({"kubeconfig": {"clusters": []}}, "no usable credentials"),
    ({"kubeconfig": "{no json"}, "no usable credentials"),
])
def test_unusable_credentials(params: dict[str, Any], text: str) -> None:
    with pytest.raises(CocoError, match=text):
        Cluster.from_params(params)


def test_an_unknown_context(api: FakeApi) -> None:
    with pytest.raises(CocoError, match="nowhere"):
        Cluster.from_params({"kubeconfig": api.kubeconfig(), "context": "nowhere"})


# TLS ------------------------------------------------------------------------------------------------------------------

def test_a_private_authority_is_believed(secured: tuple[FakeApi, Authority]) -> None:
    api, authority = secured
    assert version({"kubeconfig": api.kubeconfig(str(authority.ca))})
    assert version({"host": api.url, "ca_cert": str(authority.ca)})


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"])
def test_bundles_of_the_environment_play_no_part(secured: tuple[FakeApi, Authority], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                 name: str) -> None:
    api, authority = secured
    for content in (Authority(tmp_path, "company").ca, tmp_path / "none"):
        monkeypatch.setenv(name, str(content))
        Cluster._sessions.clear()
        assert version({"kubeconfig": api.kubeconfig(str(authority.ca))})


def test_an_unknown_authority_is_refused(secured: tuple[FakeApi, Authority], tmp_path: Path) -> None:
    api, _authority = secured
    for params in ({"kubeconfig": api.kubeconfig()}, {"host": api.url, "ca_cert": str(Authority(tmp_path, "other").ca)}):
        with pytest.raises(Unreachable) as raised:
            version(params)
        said = str(explain("X failed", raised.value, api.url))
        assert f"the certificate of {api.url} is not trusted" in said
        assert "Set ca_cert" in said
    assert not api.requests


def test_an_intermediate_authority_is_believed_alone(tmp_path: Path) -> None:
    """As kubectl does: what the kubeconfig names is trusted, whoever signed it."""
    root, intermediate = Authority(tmp_path, "root"), Authority(tmp_path, "intermediate")
    certified = keys.cross_certificate(root._key, root.pem, intermediate.pem, datetime.datetime.now(datetime.timezone.utc))
    (tmp_path / "certified.pem").write_text(certified)
    with FakeApi(intermediate.server()) as api:
        assert version({"kubeconfig": api.kubeconfig(str(tmp_path / "certified.pem"))})


def test_threads_share_a_context_that_no_connection_changes(tmp_path: Path) -> None:
    """urllib3 sets the list of protocols at each connection; done to a context in use by another thread, it garbles that handshake."""
    authority = Authority(tmp_path)
    server = authority.server()
    server.set_alpn_protocols(["changed", "http/1.1"])
    context = cluster_login._tls(SimpleNamespace(ssl_ca_cert=str(authority.ca), verify_ssl=True, cert_file=None))
    context.set_alpn_protocols(["changed"])
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(theirs, ours, server_hostname="localhost")
    accepted = server.wrap_bio(ours, theirs, server_side=True)
    for side in (client, accepted, client, accepted):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    assert client.selected_alpn_protocol() == "http/1.1"


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_verification_can_be_switched_off(secured: tuple[FakeApi, Authority], monkeypatch: pytest.MonkeyPatch) -> None:
    api, _authority = secured
    assert version({"host": api.url, "validate_certs": False})
    monkeypatch.setenv("K8S_AUTH_VERIFY_SSL", "no")
    assert version({"host": api.url})
    with pytest.raises(Unreachable):
        version({"host": api.url, "validate_certs": True})


def test_a_certificate_for_another_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with FakeApi(authority.server("elsewhere.test")) as api:
        with pytest.raises(Unreachable) as raised:
            version({"kubeconfig": api.kubeconfig(str(authority.ca))})
        assert "is for another name" in str(explain("X", raised.value, api.url))
        config = api.kubeconfig(str(authority.ca))
        config["clusters"][0]["cluster"]["tls-server-name"] = "elsewhere.test"
        assert version({"kubeconfig": config})


def test_tls_spoken_to_a_plain_server(api: FakeApi) -> None:
    with pytest.raises(Unreachable) as raised:
        version({"host": api.url.replace("http:", "https:")})
    assert "does not speak TLS" in str(explain("X", raised.value, "https://a"))


# Failures -------------------------------------------------------------------------------------------------------------

def test_an_unreachable_cluster() -> None:
    with pytest.raises(Unreachable) as raised:
        version({"host": "http://127.0.0.1:1"})
    said = str(explain("The cluster cannot be examined", raised.value, "http://127.0.0.1:1"))
    assert said.startswith("The cluster cannot be examined · http://127.0.0.1:1 does not answer: ")
    assert "refused" in said
    assert "Check host, kubeconfig and context" in said


def test_a_name_that_does_not_resolve() -> None:
    with pytest.raises(Unreachable) as raised:
        version({"host": "http://api.no-such-cluster.invalid"})
    assert "cannot be resolved" in str(explain("X", raised.value, "http://api.no-such-cluster.invalid"))


def test_an_expired_token(api: FakeApi) -> None:
    api.token = "new"
    with pytest.raises(ApiFailure) as raised:
        version({"kubeconfig": api.kubeconfig(token="old")})
    said = str(explain("X", raised.value, api.url))
    assert f"{api.url} refused the credentials (401 Unauthorized)" in said
    assert "The token has expired" in said


def test_something_else_than_an_api_server(api: FakeApi) -> None:
    api.script("GET", "/version", 200, "<html>login</html>")
    with pytest.raises(Unreachable, match="no API server"):
        version({"kubeconfig": api.kubeconfig()})
