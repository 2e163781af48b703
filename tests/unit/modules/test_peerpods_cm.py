"""peerpods_cm: what is given is written, what others wrote stays, and the adaptor restarts only when it must."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from ansible_collections.confidential.containers.plugins.module_utils import initdata
from ansible_collections.confidential.containers.plugins.module_utils.errors import CocoError
from tests.fake_api import FakeApi
from tests.fake_api.store import Object

OSC = "openshift-sandboxed-containers-operator"
SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
CONF = {"subscriptionId": SUBSCRIPTION, "location": "eastus", "resourceGroup": "lab-rg", "vnetResourceGroup": "net-rg", "vnetName": "vnet",
        "subnetName": "workers", "securityGroupName": "nsg", "aadClientSecret": "very-private"}
SUBNET = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/net-rg/providers/Microsoft.Network/virtualNetworks/vnet/subnets/workers"
NSG = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/lab-rg/providers/Microsoft.Network/networkSecurityGroups/nsg"
IMAGE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Compute/galleries/g/images/i/versions/1.0.0"
TOML = b'algorithm = "sha256"\nversion = "0.1.0"\n\n[data]\n"aa.toml" = "x"\n'
RELEASE = "1.11/1.0"


@pytest.fixture(autouse=True)
def _azure(api: FakeApi) -> None:
    api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OSC}})
    api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cloud-conf", "namespace": "openshift-cloud-controller-manager"},
             "data": {"cloud.conf": json.dumps(CONF)}})


def config_map(**data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "peer-pods-cm", "namespace": OSC}, "data": data}


def stored(api: FakeApi) -> dict[str, str]:
    found = api.find("v1", "ConfigMap", "peer-pods-cm", OSC)
    assert found is not None
    data: dict[str, str] = found["data"]
    return data


def adaptor(api: FakeApi, name: str = "osc-caa-ds") -> None:
    """A DaemonSet whose controller makes a new pod for one that was deleted."""
    daemon_set = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name, "namespace": OSC}, "spec": {}}
    ready = {"desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberReady": 1}
    api.put({**daemon_set, "status": ready})
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{name}-1", "namespace": OSC, "labels": {"name": name}}, "spec": {}}
    api.put(pod)

    def react(event: str, obj: Object) -> None:
        if event == "DELETED" and obj["kind"] == "Pod":
            api.put({**pod, "metadata": {**pod["metadata"], "name": f"{name}-2"}})
    api.reactors.append(react)


def deleted_pods(api: FakeApi) -> list[str]:
    return [r.path.rpartition("/")[2] for r in api.requests if r.method == "DELETE" and not r.dry]


def test_made_from_the_clusters_own_configuration(api: FakeApi, call: Any) -> None:
    result = call("peerpods_cm", release=RELEASE)
    assert result["changed"]
    assert stored(api) == result["data"]
    assert result["data"] == {
        "AZURE_IMAGE_ID": "", "CLOUD_PROVIDER": "azure", "VXLAN_PORT": "9000", "AZURE_REGION": "eastus", "AZURE_RESOURCE_GROUP": "lab-rg",
        "AZURE_SUBNET_ID": SUBNET, "AZURE_NSG_ID": NSG,
        "AZURE_INSTANCE_SIZE": "Standard_DC2as_v5", "AZURE_INSTANCE_SIZES": "Standard_DC2as_v5", "PROXY_TIMEOUT": "5m"}
    assert result["restarted"] == []
    again = call("peerpods_cm", release=RELEASE)
    assert (again["changed"], again["changes"]) == (False, [])


def test_what_others_wrote_stays(api: FakeApi, call: Any) -> None:
    """An administrator's own sizes and time-out, the operator's image, and keys that nobody here knows."""
    theirs = {"AZURE_INSTANCE_SIZE": "Standard_DC4as_v5", "AZURE_INSTANCE_SIZES": "Standard_DC4as_v5,Standard_DC8as_v5",
              "PROXY_TIMEOUT": "10m",
              "AZURE_IMAGE_ID": IMAGE, "DISABLECVM": "false", "PEERPODS_LIMIT_PER_NODE": "12", "SOMEONES": "key"}
    api.put(config_map(**theirs))
    result = call("peerpods_cm", release=RELEASE, data={"TAGS": "team=a"})
    assert theirs.items() <= stored(api).items()
    assert stored(api)["AZURE_SUBNET_ID"] == SUBNET
    assert {"key": "TAGS", "before": "", "after": "team=a"} in result["changes"]
    assert not {change["key"] for change in result["changes"]} & set(theirs)


def test_what_is_given_wins(api: FakeApi, call: Any) -> None:
    api.put(config_map(PROXY_TIMEOUT="10m", AZURE_INSTANCE_SIZE="Standard_DC4as_v5", AZURE_INSTANCE_SIZES="Standard_DC4as_v5"))
    given = {"PROXY_TIMEOUT": "8m", "AZURE_INSTANCE_SIZE": "Standard_DC2as_v5", "ROOT_VOLUME_SIZE": 20}
    call("peerpods_cm", release=RELEASE, data=given)
    assert stored(api)["PROXY_TIMEOUT"] == "8m"
    assert stored(api)["ROOT_VOLUME_SIZE"] == "20"
    assert stored(api)["AZURE_INSTANCE_SIZES"] == "Standard_DC2as_v5", "the default must be among the sizes"
    api.put(config_map(AZURE_INSTANCE_SIZES="Standard_DC2as_v5,Standard_DC8as_v5"))
    assert not call("peerpods_cm", release=RELEASE, data=given)["changed"], "a longer list with the default in it stays"


def test_blanks_in_lists_are_mended(api: FakeApi, call: Any) -> None:
    call("peerpods_cm", release=RELEASE, data={"AZURE_INSTANCE_SIZES": "Standard_DC2as_v5, Standard_DC4as_v5", "TAGS": "a=1, b=2"})
    assert stored(api)["AZURE_INSTANCE_SIZES"] == "Standard_DC2as_v5,Standard_DC4as_v5"
    assert stored(api)["TAGS"] == "a=1,b=2"


def test_defaults_of_tdx(api: FakeApi, call: Any) -> None:
    assert call("peerpods_cm", release=RELEASE, tee="tdx")["data"]["AZURE_INSTANCE_SIZE"] == "Standard_DC2es_v5"


def test_the_same_document_of_another_tool_is_no_change(api: FakeApi, call: Any) -> None:
    call("peerpods_cm", release=RELEASE, initdata=initdata.encode(TOML, "gzip+base64"))
    kept = stored(api)["INITDATA"]
    another = base64.b64encode(gzip.compress(TOML, 1, mtime=77)).decode()
    assert another != kept
    assert not call("peerpods_cm", release=RELEASE, initdata=another)["changed"]
    assert stored(api)["INITDATA"] == kept
    changed = call("peerpods_cm", release=RELEASE, initdata=initdata.encode(TOML + b"# \n", "gzip+base64"))
    assert [change["key"] for change in changed["changes"]] == ["INITDATA"]
    assert call("peerpods_cm", release="1.9/0.3", initdata=initdata.encode(TOML + b"# \n", "base64"))["changed"], "another release reads it"


def test_the_adaptor_restarts_for_what_it_must_see(api: FakeApi, call: Any, lines: list[str]) -> None:
    call("peerpods_cm", release=RELEASE)
    adaptor(api)
    assert call("peerpods_cm", release=RELEASE)["restarted"] == []
    result = call("peerpods_cm", release=RELEASE, data={"TAGS": "a=1"})
    assert result["restarted"] == deleted_pods(api) == ["osc-caa-ds-1"]
    assert lines == [], "without an image no new pod can start: nothing is awaited"
    result = call("peerpods_cm", release=RELEASE, data={"TAGS": "a=2"}, image_id=IMAGE)
    assert result["restarted"] == ["osc-caa-ds-2"]
    assert lines == ["osc-caa-ds: 1 pods restarted for the new configuration"]


def test_the_adaptor_of_a_failed_image_job_is_not_awaited(api: FakeApi, call: Any) -> None:
    """It crash-loops without AZURE_IMAGE_ID until step 8 has an image; a mended key of step 5 must not wait for that."""
    call("peerpods_cm", release=RELEASE)
    adaptor(api)
    api.put({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "osc-caa-ds", "namespace": OSC},
             "status": {"desiredNumberScheduled": 1, "numberReady": 0}})
    assert call("peerpods_cm", release=RELEASE, data={"TAGS": "a=1"}, wait_timeout=1)["restarted"] == ["osc-caa-ds-1"]


def test_an_image_id_is_given_in_its_own_place(api: FakeApi, call: Any) -> None:
    with pytest.raises(CocoError, match=r"AZURE_IMAGE_ID is given among the other keys.*coco_peerpods_image_id"):
        call("peerpods_cm", release=RELEASE, data={"AZURE_IMAGE_ID": IMAGE})
    assert call("peerpods_cm", release=RELEASE, data={"AZURE_IMAGE_ID": ""})["data"]["AZURE_IMAGE_ID"] == ""


def test_a_new_image_key_alone_restarts_nothing(api: FakeApi, call: Any) -> None:
    call("peerpods_cm", release=RELEASE)
    data = stored(api)
    data.pop("AZURE_IMAGE_ID")
    adaptor(api)
    result = call("peerpods_cm", release=RELEASE)
    assert result["changes"] == [{"key": "AZURE_IMAGE_ID", "before": "", "after": ""}]
    assert result["restarted"] == []


@pytest.mark.parametrize(("release", "options"), [("1.13/1.2", {}), (RELEASE, {"restart_caa": "never"})])
def test_the_adaptor_is_left_alone(api: FakeApi, call: Any, release: str, options: dict[str, Any]) -> None:
    """Where the operator rolls it by itself, and where that is wished."""
    call("peerpods_cm", release=release)
    adaptor(api)
    result = call("peerpods_cm", release=release, data={"TAGS": "a=1"}, **options)
    assert (result["changed"], result["restarted"], deleted_pods(api)) == (True, [], [])


def test_its_name_in_the_first_release(api: FakeApi, call: Any) -> None:
    adaptor(api, "peerpodconfig-ctrl-caa-daemon")
    assert call("peerpods_cm", release="1.8/0.2")["restarted"] == ["peerpodconfig-ctrl-caa-daemon-1"]


def test_running_kata_pods_are_named_before_a_restart(api: FakeApi, call: Any, lines: Any) -> None:
    adaptor(api)
    api.put({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"},
             "spec": {"runtimeClassName": "kata-remote"}})
    call("peerpods_cm", release=RELEASE)
    assert "default/web" in lines.warnings[0]


def test_check_mode_writes_nothing(api: FakeApi, call: Any) -> None:
    adaptor(api)
    for existing in (False, True):
        if existing:
            call("peerpods_cm", release=RELEASE, restart_caa="never")
        version = api.version
        result = call("peerpods_cm", check=True, diff=True, release=RELEASE, data={"TAGS": "a=1"})
        assert result["changed"]
        assert result["restarted"] == ["osc-caa-ds-1"]
        assert '"TAGS": "a=1"' in result["diff"][0]["after"]
        assert bool(json.loads(result["diff"][0]["before"] or "null")) is existing
        assert api.version == version


def test_check_mode_before_the_operator_is_there(api: FakeApi, call: Any) -> None:
    api.delete(("v1", "namespaces", "", OSC))
    assert call("peerpods_cm", check=True, release=RELEASE)["changed"]


def test_what_would_not_work_is_not_written(api: FakeApi, call: Any) -> None:
    version = api.version
    with pytest.raises(CocoError, match=r"The config map peer-pods-cm would not work · .*D4s_v5 is no confidential size") as raised:
        call("peerpods_cm", release=RELEASE, data={"AZURE_INSTANCE_SIZE": "Standard_D4s_v5"})
    assert [finding["code"] for finding in raised.value.details["findings"]] == ["size"]
    assert api.version == version


def test_no_cloud_configuration(api: FakeApi, call: Any) -> None:
    api.put({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cloud-conf", "namespace": "openshift-cloud-controller-manager"},
             "data": {"cloud.conf": "no json"}})
    with pytest.raises(CocoError, match="AZURE_SUBNET_ID is empty"):
        call("peerpods_cm", release=RELEASE)


def test_a_write_by_somebody_in_between_is_not_lost(api: FakeApi, call: Any) -> None:
    """The patch names the version that was read."""
    call("peerpods_cm", release=RELEASE)
    api.requests.clear()
    call("peerpods_cm", release=RELEASE, data={"TAGS": "a=1"})
    (write,) = api.writes()
    assert write.body["metadata"]["resourceVersion"]
    assert write.body["data"] == {"TAGS": "a=1"}


def test_credentials_of_the_cloud_are_not_shown(api: FakeApi, call: Any) -> None:
    assert "very-private" not in json.dumps(call("peerpods_cm", diff=True, release=RELEASE))


def test_forbidden(api: FakeApi, call: Any) -> None:
    api.forbidden.add(("create", "configmaps"))
    with pytest.raises(CocoError, match="The config map peer-pods-cm was not handled · the credentials may not do this"):
        call("peerpods_cm", release=RELEASE)


def test_a_run_that_was_killed_before_the_restart_is_resumed(api: FakeApi, call: Any) -> None:
    call("peerpods_cm", release=RELEASE)
    adaptor(api)
    stop = api.script("DELETE", "/pods/", 500, times=1)
    with pytest.raises(CocoError):
        call("peerpods_cm", release=RELEASE, data={"TAGS": "a=1"})
    assert stored(api)["TAGS"] == "a=1"
    assert stop.times == 0
    checked = call("peerpods_cm", check=True, release=RELEASE, data={"TAGS": "a=1"})
    assert (checked["changed"], checked["changes"], checked["restarted"]) == (True, [], ["osc-caa-ds-1"])
    resumed = call("peerpods_cm", release=RELEASE, data={"TAGS": "a=1"})
    assert (resumed["changed"], resumed["changes"], resumed["restarted"]) == (True, [], ["osc-caa-ds-1"])
    assert not call("peerpods_cm", release=RELEASE, data={"TAGS": "a=1"})["changed"]
    found = api.find("v1", "ConfigMap", "peer-pods-cm", OSC)
    assert found is not None
    assert not found["metadata"].get("annotations")
