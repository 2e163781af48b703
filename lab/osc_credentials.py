"""lab-osc's controller of the cloud credentials: from a CredentialsRequest to peer-pods-secret (reference/operators.md 7).

Trigger is the KataConfig: created or changed, with peer pods, while peer-pods-secret is absent. A Secret that is there is left
alone, whoever made it. Nothing of this shows in a status: a Secret that the Cloud Credential Operator has not made is a line in
the log, tried again with back-off.

The reference says that the request is deleted "when KataConfig goes". Read here as: when the object is gone, not when its deletion
begins. The image deletion job needs peer-pods-secret still (operators.md 3.4, 3.6), which hangs from the request's Secret by
ownership, and without it KataConfig would never go.
"""

from __future__ import annotations

import logging

from lab import osc_objects as make
from lab.kube import ApiError, Controller, Kube
from lab.osc_objects import Settings
from lab.osc_pass import KATA_API
from lab.osc_state import Invalid, spec_of

log = logging.getLogger("lab")


class Credentials:
    """The controller; :attr:`controller` watches KataConfigs."""

    def __init__(self, kube: Kube, settings: Settings) -> None:
        self.kube, self.settings = kube, settings
        self.controller = Controller(kube, "credentials", self.reconcile)
        self.controller.watch(KATA_API, "KataConfig")

    async def reconcile(self, name: str) -> float | None:
        """Ask for credentials and hand them on, or give the request back. Raises :class:`Invalid` to be tried again."""
        kataconfig = await self.kube.get(KATA_API, "KataConfig", name)
        if kataconfig is None:
            if await self.kube.delete(make.REQUEST_API, "CredentialsRequest", make.REQUEST, make.REQUEST_NAMESPACE):
                log.info("CredentialsRequest %s is deleted, KataConfig %s is gone", make.REQUEST, name)
            return None
        if kataconfig["metadata"].get("deletionTimestamp") or not spec_of(kataconfig).get("enablePeerPods"):
            return None
        namespace = self.settings.namespace
        if await self.kube.get("v1", "Secret", make.PEER_PODS_SECRET, namespace) is not None:
            return None
        await self._create(make.credentials_request(self.settings))
        given = await self.kube.get("v1", "Secret", make.CCO_SECRET, namespace)
        if given is None or given["metadata"].get("deletionTimestamp"):
            raise Invalid(f'{make.PEER_PODS_SECRET} is not there, and secrets "{make.CCO_SECRET}" not found')
        await self._create(make.peer_pods_secret(self.settings, {"apiVersion": "v1", "kind": "Secret", **given}))
        log.info("%s is made of %s", make.PEER_PODS_SECRET, make.CCO_SECRET)
        return None

    async def _create(self, obj: make.Object) -> None:
        """Create, unless it is there: releases up to 1.9 may not read requests."""
        try:
            await self.kube.create(obj)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
