"""lab-caa: stands in for cloud-api-adaptor on Azure. It alone makes pod VMs.

Whether a VM can be made says Azure Resource Manager (lab-arm), where it is a resource with disk and network interface: it stays
behind when this program is killed. What runs in it is the lab's: a directory (``LAB_CLOUD``) of images that lab-podvm-image made,
and one directory a VM. Configuration is the environment, read once at the start, as in the real program: a peer-pods-cm edited later
changes nothing here. Which OSC release it belongs to says ``LAB_RELEASE``, which lab-node sets by the pinned image.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
import os
import random
import re
import string
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path
from typing import Any

from lab import program
from lab.azure import COMPUTE, Azure, AzureError
from lab.kube import ApiError, Kube, owner_reference
from lab.paths import rooted, run_directory, time_scale
from lab.releases import OSC, Osc

log = logging.getLogger("lab")

NEEDED = ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZURE_SUBNET_ID",
          "AZURE_IMAGE_ID")
DEFAULT_SIZE = "Standard_DC2as_v5"
HYPERVISOR = "io.katacontainers.config.hypervisor."
RESOURCE = "kata.peerpods.io/vm"
BOOT_SECONDS = 40
DEFAULT_RELEASE = "1.11.1"  # of an image that no CSV of the lab pins
NO_INITDATA = "algorithm = \"sha256\"\nversion = \"0.1.0\"\n\n[data]\n\"aa.toml\" = '''\n'''"
MAX_USER_DATA = 64 * 1024
SSH_KEY = "/root/.ssh/id_rsa.pub"


class CreateError(Exception):
    """A pod VM that could not be made, in the real program's words."""


def seconds(duration: str) -> float:
    """A Go duration such as ``5m`` or ``1h30m``."""
    units = {"h": 3600, "m": 60, "s": 1}
    return float(sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", duration)))


def vcpus(size: str) -> int:
    found = re.search(r"_[A-Z]+(\d+)", size)
    return int(found.group(1)) if found else 0


class Adaptor:
    """The remote hypervisor of one node."""

    def __init__(self, env: dict[str, str], kube: Kube, release: Osc) -> None:
        self.env, self.kube, self.release = env, kube, release
        self.cloud = Path(env["LAB_CLOUD"])
        self.run = run_directory(self.cloud.parent)
        self.vms: dict[str, dict[str, str]] = {}

    def machine_id(self, name: str) -> str:
        return (f"/subscriptions/{self.env['AZURE_SUBSCRIPTION_ID']}/resourceGroups/{self.env['AZURE_RESOURCE_GROUP']}"
                f"/providers/Microsoft.Compute/virtualMachines/{name}")

    def machine(self, name: str, size: str, image_id: str, confidential: bool, initdata: str) -> dict[str, Any]:
        """The document of a VM: Azure makes disk and interface with it, and removes them with it."""
        configuration: dict[str, Any] = {"deleteOption": "Delete", "ipConfigurations": [
            {"name": "ip-config", "properties": {"subnet": {"id": self.env["AZURE_SUBNET_ID"]}}}]}
        if self.env.get("AZURE_NSG_ID"):
            configuration["networkSecurityGroup"] = {"id": self.env["AZURE_NSG_ID"]}
        disk: dict[str, Any] = {"storageAccountType": "Standard_LRS"}
        properties: dict[str, Any] = {
            "hardwareProfile": {"vmSize": size},
            "storageProfile": {"imageReference": {"id": image_id}, "osDisk": {
                "name": f"{name}-disk", "createOption": "FromImage", "caching": "ReadWrite", "deleteOption": "Delete",
                "managedDisk": disk}},
            "osProfile": {"computerName": name, "adminUsername": self.env.get("SSH_USERNAME") or "peerpod"},
            "networkProfile": {"networkApiVersion": "2022-11-01", "networkInterfaceConfigurations": [
                {"name": f"{name}-net", "properties": configuration}]},
            "userData": base64.b64encode(initdata.encode()).decode()}
        if confidential:
            disk["securityProfile"] = {"securityEncryptionType": "VMGuestStateOnly"}
            secure = self.env.get("ENABLE_SECURE_BOOT") == "true"
            properties["securityProfile"] = {"securityType": "ConfidentialVM",
                                             "uefiSettings": {"secureBootEnabled": secure, "vTpmEnabled": True}}
        tags = dict(pair.partition("=")[::2] for pair in self.env.get("TAGS", "").split(",") if pair)
        return {"location": self.env.get("AZURE_REGION", ""), "tags": tags, "properties": properties}

    def image(self, image_id: str) -> dict[str, Any]:
        """What an image of the lab's cloud measures as; Azure has it, so it was made by lab-podvm-image."""
        for file in sorted((self.cloud / "images").glob("*.json")):
            image: dict[str, Any] = json.loads(file.read_text())
            if image["id"].lower() == image_id.lower():
                return image
        raise CreateError(f"the lab has nothing to boot in {image_id}: only images that lab-podvm-image made can run")

    def size(self, annotations: dict[str, str]) -> str:
        """The VM size: asked by annotation and listed, the smallest listed one that fits, or the default."""
        default = self.env.get("AZURE_INSTANCE_SIZE") or DEFAULT_SIZE
        listed = [size for size in self.env.get("AZURE_INSTANCE_SIZES", "").split(",") if size]
        asked = annotations.get(HYPERVISOR + "machine_type")
        if asked:
            if asked in listed or asked == default:
                return asked
            log.warning("instance type %s is not in the list of instance types; using the default", asked)
            return default
        cpus = int(annotations.get(HYPERVISOR + "default_vcpus") or 0)
        if cpus and listed:
            fitting = sorted((s for s in listed if vcpus(s) >= cpus), key=vcpus)
            if fitting:
                return fitting[0]
        return default

    def initdata(self, annotations: dict[str, str]) -> str:
        """The initdata for the VM: the pod's, else the global one, else the dummy; gzip and base64.

        Up to 1.9 there is no dummy, and nothing is looked at: whatever was given is handed on, for the guest to refuse.
        """
        text = annotations.get(self.release.annotation) or self.env.get("INITDATA", "")
        if not self.release.gzip_initdata:
            return text
        if not text:
            return base64.b64encode(gzip.compress(NO_INITDATA.encode(), mtime=0)).decode()
        try:
            document = tomllib.loads(gzip.decompress(base64.b64decode(text, validate=True)).decode())
        except (ValueError, OSError, EOFError, zlib.error) as error:
            raise CreateError(f"failed to set initdata from annotation: {error}") from error
        if document.get("algorithm") not in ("sha256", "sha384", "sha512"):
            raise CreateError(f"failed to set initdata from annotation: unsupported algorithm: "
                              f"{document.get('algorithm')}")
        return text

    def check_key(self) -> None:
        """The ssh key, which up to 1.10 is read for every VM."""
        if not self.release.ssh_key:
            return
        try:
            rooted(SSH_KEY).read_bytes()
        except OSError as error:
            text = (error.strerror or "not readable").lower()
            raise CreateError(f"creating an instance : reading ssh public key file: open {SSH_KEY}: {text}") from error

    async def create(self, pod: dict[str, Any]) -> dict[str, Any]:
        """Make a VM for a pod and wait for its agent."""
        annotations = pod.get("annotations") or {}
        name = f"podvm-{pod['name'][:40]}-{os.urandom(4).hex()}"
        initdata = self.initdata(annotations)
        size = self.size(annotations)
        self.check_key()
        image_id = annotations.get(HYPERVISOR + "image") or self.env["AZURE_IMAGE_ID"]
        if len(base64.b64encode(initdata.encode())) > MAX_USER_DATA:
            raise CreateError("creating an instance : base64 encoded userData is greater than 64KB")
        wants_confidential = self.env.get("DISABLECVM", "false") != "true"
        try:
            async with Azure(self.env) as arm:
                instance = await arm.put(self.machine_id(name), COMPUTE, self.machine(name, size, image_id, wants_confidential, initdata))
        except (AzureError, OSError) as error:
            raise CreateError(f"creating an instance : Creating instance ({name}): beginning VM creation or update: {error}") from error
        try:
            image = self.image(image_id)
        except CreateError:
            await self.stop(name)
            raise
        directory = self.cloud / "vms" / name
        directory.mkdir(parents=True, mode=0o700)
        short = name.rsplit("-", 1)[1]
        agent = self.run / f"vm-{short}.sock"
        (directory / "vm.json").write_text(json.dumps({
            "name": name, "size": size, "location": self.env.get("AZURE_REGION", ""),
            "resource_group": self.env["AZURE_RESOURCE_GROUP"], "image": image["id"],
            "confidential": wants_confidential, "pcrs": image["pcrs"], "user_data": {"initdata": initdata},
            "agent": str(agent), "scratch": str(self.run / f"vm-{short}"), "tee": self.release.tee,
            "osc": self.release.version, "image_policy": image.get("image_policy", ""),
            "silicon_key": self.env["LAB_SILICON_KEY"], "boot_seconds": BOOT_SECONDS * time_scale(),
        }, indent=1))
        environment = {k: v for k, v in os.environ.items() if k in ("PATH", "LAB_HOSTS", "PYTHONPATH", "HOME")}
        with (directory / "console.log").open("ab") as console:
            subprocess.Popen([sys.executable, "-m", "lab.guest", "--vm", str(directory)], env=environment,
                             stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
                             cwd=Path(__file__).parent.parent)
        log.info("created an instance %s for sandbox %s", name, pod["uid"])
        self.vms[name] = {"peerpod": await self.create_peerpod(pod, instance["id"]), "namespace": pod["namespace"]}
        deadline = asyncio.get_running_loop().time() + seconds(self.env.get("PROXY_TIMEOUT") or "5m") * time_scale()
        log.info("Trying to establish agent proxy connection to %s:15150", name)
        while not agent.exists():
            if asyncio.get_running_loop().time() > deadline:
                log.error("failed to establish agent proxy connection to %s; cleaning up instance due to error", name)
                await self.stop(name)
                raise CreateError(f"failed to establish agent proxy connection to {name}:15150: context deadline "
                                  "exceeded")
            await asyncio.sleep(0.05)
        return {"vm": name, "agent": str(agent)}

    async def create_peerpod(self, pod: dict[str, Any], instance: str) -> str:
        name = f"{pod['name']}-resource-" + "".join(random.choices(string.ascii_lowercase + string.digits, k=5))
        owner = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod["name"], "uid": pod["uid"]}}
        try:
            await self.kube.create({
                "apiVersion": "confidentialcontainers.org/v1alpha1", "kind": "PeerPod",
                "metadata": {"name": name, "namespace": pod["namespace"], "finalizers": ["peer.pod/finalizer"],
                             "ownerReferences": [owner_reference(owner, controller=False)]},
                "spec": {"cloudProvider": "azure", "instanceID": instance},
            })
        except ApiError as error:
            log.warning("PeerPod not recorded: %s", error)
        return name

    async def stop(self, name: str) -> dict[str, Any]:
        """Delete a VM: what a StopVM names, also one made before this program started."""
        try:
            async with Azure(self.env) as arm:
                await arm.delete(self.machine_id(name), COMPUTE)
        except (AzureError, OSError) as error:
            log.error("beginning VM deletion: %s", error)
            return {}
        directory = self.cloud / "vms" / Path(name).name
        if not (directory / "vm.json").exists():
            return {}
        vm = json.loads((directory / "vm.json").read_text())
        Path(vm["agent"]).unlink(missing_ok=True)
        subprocess.run(["rm", "-rf", "--one-file-system", str(directory), vm["scratch"]], check=False)
        known = self.vms.pop(name, None)
        log.info("deleted an instance %s", name)
        if known:
            await self.remove_peerpod(known)
        return {}

    async def remove_peerpod(self, known: dict[str, str]) -> None:
        api = ("confidentialcontainers.org/v1alpha1", "PeerPod", known["peerpod"])
        try:
            await self.kube.patch(*api, {"metadata": {"finalizers": None}}, known["namespace"])
            await self.kube.delete(*api, known["namespace"])
        except ApiError as error:
            if error.status != 404:
                log.warning("PeerPod not removed: %s", error)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                request = json.loads(line)
                try:
                    if request["method"] == "CreateVM":
                        answer = await self.create(request["pod"])
                    elif request["method"] == "StopVM":
                        answer = await self.stop(request["vm"])
                    else:
                        answer = {"error": f"unknown method {request['method']!r}"}
                except CreateError as error:
                    log.error("%s", error)
                    answer = {"error": str(error)}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (OSError, ValueError):
            pass
        finally:
            writer.close()

    async def capacity(self, count: int | None) -> None:
        """Offer VMs on the node (None: take the offer off)."""
        path = "/status/capacity/" + RESOURCE.replace("/", "~1")
        patch = {"op": "remove", "path": path} if count is None else {"op": "add", "path": path, "value": str(count)}
        await self.kube.patch("v1", "Node", self.env["NODE_NAME"], [patch], subresource="status", type="json")


async def work() -> None:
    env = dict(os.environ)
    for name in NEEDED:
        if not env.get(name):
            print(f"${name} is NOT set", flush=True)
            sys.exit(1)
    kube = Kube.from_kubeconfig(agent="lab-caa")
    adaptor = Adaptor(env, kube, OSC[env.get("LAB_RELEASE") or DEFAULT_RELEASE])
    published = rooted("/run/peerpod/hypervisor.sock")
    published.parent.mkdir(parents=True, exist_ok=True)
    socket = adaptor.run / f"caa-{env['NODE_NAME']}.sock"
    socket.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(adaptor.serve, str(socket), limit=1 << 24)
    published.unlink(missing_ok=True)
    published.symlink_to(socket)
    limit = int(env.get("PEERPODS_LIMIT_PER_NODE") or 10)
    await adaptor.capacity(limit if limit >= 0 else 0)
    log.info("server config: region %s, resource group %s, size %s, DISABLECVM %s", env.get("AZURE_REGION"),
             env["AZURE_RESOURCE_GROUP"], env.get("AZURE_INSTANCE_SIZE") or DEFAULT_SIZE,
             env.get("DISABLECVM", "false"))
    try:
        await asyncio.Event().wait()
    finally:
        server.close()
        published.unlink(missing_ok=True)
        socket.unlink(missing_ok=True)
        try:
            await adaptor.capacity(None)
        finally:
            await kube.close()


if __name__ == "__main__":
    sys.exit(program.main("lab-caa", "cloud-api-adaptor", f"OSC {os.environ.get('LAB_RELEASE') or DEFAULT_RELEASE}", work))
