"""Azure Resource Manager as the programs in the cluster speak to it: log in with a secret, write, wait for what takes long.

Names are Azure's own (``management.azure.com``, ``login.microsoftonline.com``); in the lab they lead to lab-arm (``LAB_HOSTS``), whose
certificate is trusted by ``LAB_CLOUD``/arm/pki/ca.crt, as a machine trusts public authorities.
"""

from __future__ import annotations

import asyncio
import http
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from lab.paths import resolve

ARM, ENTRA = "https://management.azure.com", "https://login.microsoftonline.com"
COMPUTE = "2024-07-01"
GALLERIES = "2024-03-03"


class AzureError(Exception):
    """A refusal, in the words of Azure's Go library: status, code, message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        phrase = http.HTTPStatus(status).phrase
        super().__init__(f"RESPONSE {status}: {status} {phrase} ERROR CODE: {code}: {message}")
        self.status, self.code, self.message = status, code, message


class _Resolver(AbstractResolver):
    """Azure's names, by the lab's ``hosts.json``; :meth:`Azure._url` put the port of lab-arm into the URL."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        address, _port = resolve(host, 443)
        return [{"hostname": host, "host": address, "port": port, "family": family, "proto": 0, "flags": socket.AI_NUMERICHOST}]

    async def close(self) -> None:
        return


class Azure:
    """One principal (the AZURE_* variables of an environment) at Azure Resource Manager: ``async with``.

    Everything raises :class:`AzureError` where Azure refuses, OSError where it does not answer.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.tenant, self.subscription = environment["AZURE_TENANT_ID"], f"/subscriptions/{environment['AZURE_SUBSCRIPTION_ID']}"
        self._client, self._secret = environment["AZURE_CLIENT_ID"], environment.get("AZURE_CLIENT_SECRET", "")
        context = ssl.create_default_context(cafile=str(Path(environment["LAB_CLOUD"]) / "arm" / "pki" / "ca.crt"))
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=_Resolver(), ssl=context),
                                              timeout=aiohttp.ClientTimeout(total=60))
        self._token = ""

    async def __aenter__(self) -> Azure:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._session.close()

    async def login(self) -> None:
        """Get a token."""
        form = {"grant_type": "client_credentials", "client_id": self._client, "client_secret": self._secret, "scope": f"{ARM}/.default"}
        status, document, _headers = await self._send("POST", f"{ENTRA}/{self.tenant}/oauth2/v2.0/token", data=form)
        if status != 200:
            raise AzureError(status, document["error"], document["error_description"])
        self._token = document["access_token"]

    async def get(self, path: str, version: str) -> dict[str, Any]:
        """The document at a path."""
        return (await self._request("GET", f"{ARM}{path}?api-version={version}"))[0]

    async def put(self, path: str, version: str, body: dict[str, Any]) -> dict[str, Any]:
        """Write a resource and wait until Azure has done it; the resource as it is then."""
        _document, headers = await self._request("PUT", f"{ARM}{path}?api-version={version}", body)
        await self._wait(headers)
        return await self.get(path, version)

    async def delete(self, path: str, version: str) -> None:
        """Delete a resource (nothing to do where there is none) and wait until it is gone."""
        _document, headers = await self._request("DELETE", f"{ARM}{path}?api-version={version}")
        await self._wait(headers)

    async def _wait(self, headers: Mapping[str, str]) -> None:
        url = headers.get("Azure-AsyncOperation")
        while url:
            document, answer = await self._request("GET", url)
            if document["status"] not in ("InProgress", "Succeeded"):
                error = document.get("error") or {}
                raise AzureError(200, error.get("code", document["status"]), error.get("message", ""))
            if document["status"] == "Succeeded":
                return
            await asyncio.sleep(float(answer.get("Retry-After", 0)))

    async def _request(self, method: str, url: str, body: dict[str, Any] | None = None) -> tuple[dict[str, Any], Mapping[str, str]]:
        for again in (True, False):
            if not self._token:
                await self.login()
            status, document, headers = await self._send(method, url, json=body, headers={"Authorization": f"Bearer {self._token}"})
            if status == 401 and again:  # an old token
                self._token = ""
                continue
            if status >= 400:
                raise AzureError(status, document["error"]["code"], document["error"]["message"])
            return document, headers
        raise AssertionError("the second attempt ends in an answer")

    async def _send(self, method: str, url: str, **more: Any) -> tuple[int, dict[str, Any], Mapping[str, str]]:
        try:
            async with self._session.request(method, _url(url), **more) as answer:
                text = await answer.text()
                return answer.status, await answer.json() if text else {}, answer.headers
        except aiohttp.ClientError as error:
            raise OSError(f"{url.partition('?')[0]}: {error}") from error


def _url(url: str) -> str:
    """Where the lab serves a URL of Azure's: the same name, at lab-arm's port."""
    for name in (ARM, ENTRA):
        if url.startswith(f"{name}/"):
            _address, port = resolve(name.removeprefix("https://"), 443)
            return f"{name}:{port}{url.removeprefix(name)}"
    return url
