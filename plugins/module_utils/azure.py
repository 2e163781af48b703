# Copyright (c) 2026, confidential.containers contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Edge: a session with Azure Resource Manager. One credential and one pool of connections for all clients.

Resource providers are never registered (Azure's SDK would do it silently). A request that is told to come later comes later, within limits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from ansible_collections.confidential.containers.plugins.module_utils import azure_login
from ansible_collections.confidential.containers.plugins.module_utils.azure_errors import explain, no_login, unreachable
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError

try:
    import requests
    from azure.core import exceptions
    from azure.core.pipeline import policies
    from azure.core.pipeline.transport import RequestsTransport
    from azure.core.rest import HttpRequest
    from azure.mgmt.compute import ComputeManagementClient
    from azure.mgmt.core import ARMPipelineClient
    from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy
    from azure.mgmt.network import NetworkManagementClient
    MISSING = ""
except ImportError as missing:
    MISSING = str(missing)

#: Of one request: attempts after the first, and the longest wait in seconds that Azure may ask for.
RETRIES, LONGEST = 4, 60
#: Seconds between two looks at a long-running operation, where Azure names none.
POLL = 2
TIMEOUT = 60

if not MISSING:
    class Session(requests.Session):
        """Counts what is sent."""

        calls = 0

        def request(self, *args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return super().request(*args, **kwargs)

    class Patience(policies.RetryPolicy[Any, Any]):
        """Honours Retry-After, but not one that nobody would wait for."""

        def is_retry(self, settings: Any, response: Any) -> bool:
            return (self.get_retry_after(response) or 0) <= LONGEST and bool(super().is_retry(settings, response))


class Azure:
    """``network`` and ``compute``: Azure's own clients; ``get`` and ``list``: what they do not know."""

    def __init__(self, login: azure_login.Login, progress: Callable[[str], None]) -> None:
        if MISSING:
            raise CocoError("Azure's Python libraries are not there", MISSING,
                            f"pip install {azure_login.PACKAGES} (requirements.txt) for the Python interpreter that runs the task.")
        self.login = login
        self.subscription = login.subscription
        self._progress = progress
        self._session = Session()
        self._transport = RequestsTransport(session=self._session, session_owner=False, connection_verify=login.verify,
                                            connection_timeout=TIMEOUT, read_timeout=TIMEOUT)

    @classmethod
    def from_params(cls, params: dict[str, Any], progress: Callable[[str], None], subscription: str = "") -> Azure:
        """A session for a task's options (``azure_login.OPTIONS``); ``subscription``: the one if they name none."""
        login = azure_login.login(params)
        login = dataclasses.replace(login, subscription=login.subscription or subscription)
        if not login.subscription:
            raise CocoError(azure_login.WHAT, "no subscription is given", "Set subscription_id (AZURE_SUBSCRIPTION_ID).")
        return cls(login, progress)

    @property
    def calls(self) -> int:
        """Number of requests to Azure Resource Manager so far (tokens are not counted)."""
        return int(self._session.calls)

    def token(self) -> str:
        """The access token in use, for those who want to know whose it is. It is never shown."""
        with self.explained("The login to Azure failed"):
            return str(self.login.credential.get_token(self.login.cloud.audience + "/.default").token)

    @cached_property
    def network(self) -> Any:
        return NetworkManagementClient(self.login.credential, self.subscription, polling_interval=POLL, **self._shared())

    @cached_property
    def compute(self) -> Any:
        return ComputeManagementClient(self.login.credential, self.subscription, polling_interval=POLL, **self._shared())

    @cached_property
    def _plain(self) -> Any:
        return ARMPipelineClient(**self._shared())

    def get(self, path: str, api_version: str) -> dict[str, Any]:
        """The document at a path (or at a URL of ARM's own, as in nextLink). Raises :class:`CocoError`."""
        url = path if path.startswith("https://") else self.login.cloud.arm + path
        with self.explained(f"{path.split('?', maxsplit=1)[0]} cannot be read"):
            request = HttpRequest("GET", url, params=None if "api-version=" in url else {"api-version": api_version})
            response = self._plain.send_request(request)
            if response.status_code >= 400:
                raise exceptions.HttpResponseError(response=response)
            document = response.json()
        return document if isinstance(document, dict) else {}

    def list(self, path: str, api_version: str) -> Any:
        """The items of all pages at a path: a list of dicts. Raises :class:`CocoError`."""
        items: list[dict[str, Any]] = []
        while path:
            page = self.get(path, api_version)
            items += page.get("value") or []
            path = page.get("nextLink") or ""
            if path and not path.startswith(self.login.cloud.arm + "/"):
                raise CocoError("A list of Azure's cannot be read", f"its next page is said to be elsewhere: {path.split('?')[0]}",
                                "Check arm_endpoint and the proxy: tokens are sent to ARM only.")
        return items

    def wait(self, poller: Any, what: str, seconds: int = 900) -> Any:
        """The result of a long-running operation; a line of progress at each change of its state. Raises :class:`CocoError`."""
        deadline, state = time.monotonic() + seconds, ""
        with self.explained(f"{what} failed"):
            while not poller.done():
                if poller.status() != state:
                    state = poller.status()
                    self._progress(f"{what}: {state}")
                if time.monotonic() > deadline:
                    raise CocoError(f"{what} takes too long", f"{state} after {seconds} seconds", "Look at the resource, then run again.")
                poller.wait(POLL)
            return poller.result()

    @contextlib.contextmanager
    def explained(self, what: str) -> Iterator[None]:
        """Azure's exceptions become :class:`CocoError` (``azure_errors.explain``)."""
        try:
            yield
        except exceptions.HttpResponseError as error:
            if error.response is None and "AADSTS" not in str(error):  # no answer to the login at all, or no login of az
                raise no_login(what, str(error), self.login.used, self.login.cloud.authority, self.login.todo) from error
            raise explain(_code(error), _message(error), error.status_code or 0, what) from error
        except exceptions.AzureError as error:
            raise unreachable(what, str(error), self.login.cloud.arm) from error

    def _shared(self) -> dict[str, Any]:
        cloud = self.login.cloud
        scope = cloud.audience + "/.default"
        return {"base_url": cloud.arm, "transport": self._transport, "credential_scopes": [scope], "policies": [
            policies.RequestIdPolicy(), policies.HeadersPolicy(), policies.UserAgentPolicy("confidential.containers"),
            policies.ProxyPolicy(), policies.ContentDecodePolicy(),
            Patience(retry_total=RETRIES, retry_status=RETRIES, retry_backoff_max=LONGEST),
            ARMChallengeAuthenticationPolicy(self.login.credential, scope)]}


def _code(error: Any) -> str:
    found = getattr(error, "error", None)
    return str(getattr(found, "code", "") or _body(error).get("code", "") or "")


def _message(error: Any) -> str:
    found = getattr(error, "error", None)
    return str(getattr(found, "message", "") or _body(error).get("message", "") or getattr(error, "message", "") or error)


def _body(error: Any) -> dict[str, Any]:
    with contextlib.suppress(Exception):
        found = error.response.json()["error"]
        return found if isinstance(found, dict) else {}
    return {}
