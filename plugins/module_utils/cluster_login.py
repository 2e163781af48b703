# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: credentials of a cluster, and the pool of connections made with them.

Which cluster a task talks to is never a matter of chance: a kubeconfig that the task names excludes everything the environment
says, a host that it names takes at most its credentials from there, and only a task that names neither goes where the
environment points (``K8S_AUTH_HOST`` before ``K8S_AUTH_KUBECONFIG`` before ``KUBECONFIG``, the default kubeconfig, the pod's own
ServiceAccount). Certificates are verified against the cluster's own authority where there is one, whatever REQUESTS_CA_BUNDLE or
SSL_CERT_FILE say; those matter only for clusters with a publicly trusted certificate.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import ssl
import tempfile
import threading
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError, require

try:
    import urllib3
    from kubernetes import client, config
    from kubernetes.client.rest import should_bypass_proxies
    from kubernetes.config import kube_config
    from kubernetes.config.config_exception import ConfigException
    MISSING = ""
except ImportError as missing:
    MISSING = str(missing)

ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "kubeconfig": ("K8S_AUTH_KUBECONFIG", "KUBECONFIG"), "context": ("K8S_AUTH_CONTEXT",), "host": ("K8S_AUTH_HOST",),
    "api_key": ("K8S_AUTH_API_KEY",), "username": ("K8S_AUTH_USERNAME",), "password": ("K8S_AUTH_PASSWORD",),
    "ca_cert": ("K8S_AUTH_SSL_CA_CERT",), "client_cert": ("K8S_AUTH_CERT_FILE",), "client_key": ("K8S_AUTH_KEY_FILE",),
    "validate_certs": ("K8S_AUTH_VERIFY_SSL",), "proxy": ("K8S_AUTH_PROXY",),
}
#: A dead peer (a rebooting control plane) is noticed after about ten seconds, not after the system's two hours.
KEEP_ALIVE = (("SO_KEEPALIVE", socket.SOL_SOCKET, 1), ("TCP_KEEPIDLE", socket.IPPROTO_TCP, 4),
              ("TCP_KEEPINTVL", socket.IPPROTO_TCP, 2), ("TCP_KEEPCNT", socket.IPPROTO_TCP, 3),
              ("TCP_NODELAY", socket.IPPROTO_TCP, 1))
_LOADING = threading.Lock()
WHAT = "The cluster cannot be reached"


def options(params: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The connection options in force: what the task says (names behind ``prefix``), completed from the environment.

    With a prefix (a second cluster) the environment is never looked at.
    """
    given = {name: params.get(prefix + name) for name in ENVIRONMENT}
    if prefix or given["kubeconfig"]:
        return given
    from_environment = set(ENVIRONMENT) - ({"kubeconfig", "context"} if given["host"] else set())
    if given["context"] and not given["host"]:
        from_environment = {"kubeconfig"}  # a context was named: host and credentials of the environment are of another cluster
    for name in from_environment:
        if given[name] is None:
            given[name] = next((os.environ[key] for key in ENVIRONMENT[name] if os.environ.get(key)), None)
    if given["host"]:
        given["kubeconfig"] = None  # K8S_AUTH_HOST comes before K8S_AUTH_KUBECONFIG and KUBECONFIG
    if isinstance(given["validate_certs"], str):
        given["validate_certs"] = given["validate_certs"].strip().lower() not in ("0", "no", "false", "off", "n", "f")
    return given


def load(given: dict[str, Any]) -> tuple[Any, ssl.SSLContext]:
    """(the client's configuration, the TLS context) for :func:`options`. Raises :class:`CocoError`.

    Private keys from a kubeconfig touch the disk only for the moment in which the TLS library reads them.
    """
    require("kubernetes", MISSING)
    with _LOADING, tempfile.TemporaryDirectory(prefix="coco-") as directory:
        try:
            configuration = _configuration(given, directory)
            return configuration, _tls(configuration)
        except (ConfigException, ValueError, TypeError, KeyError, OSError) as error:
            raise CocoError(WHAT, f"no usable credentials: {error}", "Set kubeconfig and context, or host and api_key.") from error
        finally:
            with contextlib.suppress(AttributeError, OSError):
                kube_config._cleanup_temp_files()


def _configuration(given: dict[str, Any], directory: str) -> Any:
    configuration = client.Configuration()
    kubeconfig = given["kubeconfig"]
    if isinstance(kubeconfig, str) and kubeconfig.lstrip().startswith("{"):
        kubeconfig = json.loads(kubeconfig)
    if given["host"] and not kubeconfig:
        pass
    elif isinstance(kubeconfig, dict):
        config.load_kube_config_from_dict(kubeconfig, context=given["context"], client_configuration=configuration,
                                          temp_file_path=directory)
    elif kubeconfig:
        paths = [os.path.expanduser(path) for path in str(kubeconfig).split(os.pathsep) if path]
        if not any(os.path.exists(path) for path in paths):
            raise CocoError(WHAT, f"the kubeconfig {os.pathsep.join(paths)} does not exist",
                            "Set kubeconfig (coco_kubeconfig) to a file that exists where the task runs.")
        config.load_kube_config(os.pathsep.join(paths), context=given["context"], client_configuration=configuration,
                                persist_config=False, temp_file_path=directory)
    elif os.path.exists(os.path.expanduser("~/.kube/config")):
        config.load_kube_config(os.path.expanduser("~/.kube/config"), context=given["context"],
                                client_configuration=configuration, persist_config=False, temp_file_path=directory)
    elif os.environ.get("KUBERNETES_SERVICE_HOST"):
        config.load_incluster_config(client_configuration=configuration)
    else:
        raise CocoError(WHAT, "no credentials are given: no kubeconfig, no host, no ~/.kube/config, and this is no pod",
                        "Set coco_kubeconfig (module option kubeconfig), or K8S_AUTH_HOST and K8S_AUTH_API_KEY.")
    if given["host"]:
        configuration.host = str(given["host"])
    if given["api_key"]:
        configuration.api_key = {"authorization": given["api_key"], "BearerToken": given["api_key"]}
        configuration.api_key_prefix = {"authorization": "Bearer", "BearerToken": "Bearer"}
        configuration.refresh_api_key_hook = None
    elif given["username"] and given["password"]:
        token = "Basic " + base64.b64encode(f"{given['username']}:{given['password']}".encode()).decode()
        configuration.api_key = {"authorization": token, "BearerToken": token}
        configuration.api_key_prefix = {}
        configuration.refresh_api_key_hook = None
    for name, attribute in (("ca_cert", "ssl_ca_cert"), ("client_cert", "cert_file"), ("client_key", "key_file"),
                            ("proxy", "proxy")):
        if given[name]:
            value = str(given[name]) if name == "proxy" else os.path.expanduser(str(given[name]))
            if name != "proxy" and not os.path.exists(value):
                raise CocoError(WHAT, f"{name} names the file {value}, which does not exist", f"Correct {name}.")
            setattr(configuration, attribute, value)
    if given["validate_certs"] is not None:
        configuration.verify_ssl = bool(given["validate_certs"])
    return configuration


class SharedContext(ssl.SSLContext):
    """A client context that threads may share: certificates are verified, as kubectl does, and the list of protocols is fixed.

    ``urllib3`` sets that list (ALPN) anew at each connection; the TLS library then frees the old one while a handshake that
    another thread begins still reads it. A garbled ClientHello is what the server sees: TLSV1_ALERT_DECODE_ERROR, measured once
    in some 70,000 connections of eight threads.
    """

    def __new__(cls) -> SharedContext:
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        # Clusters' own authorities lack optional extensions (Python 3.13 would be strict), and may be intermediate ones.
        context.verify_flags = context.verify_flags & ~ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        ssl.SSLContext.set_alpn_protocols(context, ["http/1.1"])
        return context

    def set_alpn_protocols(self, alpn_protocols: Any) -> None:
        """Not again: see above."""


def _tls(configuration: Any) -> ssl.SSLContext:
    context = SharedContext()
    cafile, cadata = configuration.ssl_ca_cert or None, getattr(configuration, "ca_cert_data", None) or None
    if cafile or cadata:
        context.load_verify_locations(cafile, cadata=cadata)
    else:
        context.load_default_certs()
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file or None)
    return context


def pool(configuration: Any, context: ssl.SSLContext, size: int) -> Any:
    """Kept connections to the server (``urllib3``), through the proxy where one is set."""
    keep_alive = [(level, getattr(socket, name), value) for name, level, value in KEEP_ALIVE if hasattr(socket, name)]
    settings: dict[str, Any] = {
        "ssl_context": context, "maxsize": size, "socket_options": keep_alive,
        "retries": urllib3.Retry(total=3, connect=2, read=1, status=0, redirect=0, other=0, backoff_factor=0.2,
                                 allowed_methods=frozenset({"GET", "PATCH", "DELETE"}),
                                 respect_retry_after_header=False),  # "later" is for Cluster.raw, which repeats POST on 429, too
    }
    if getattr(configuration, "tls_server_name", None):
        settings["server_hostname"] = settings["assert_hostname"] = configuration.tls_server_name
    if configuration.proxy and not should_bypass_proxies(configuration.host, no_proxy=configuration.no_proxy or ""):
        return urllib3.ProxyManager(configuration.proxy, proxy_headers=configuration.proxy_headers, **settings)
    return urllib3.PoolManager(**settings)
