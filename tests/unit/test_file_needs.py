"""What a kind cluster cannot give to a RayService file: all of it is listed at once, with places and ways out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_serve_chaos.cluster.kubernetes.install.file_checks import FileChecks
from pytest_serve_chaos.cluster.kubernetes.install.file_needs import amount
from pytest_serve_chaos.cluster.kubernetes.install.file_objects import KindOffers
from pytest_serve_chaos.cluster.kubernetes.install.file_templates import in_serve_config
from pytest_serve_chaos.cluster.kubernetes.install.rayservice_file import parse_own_file
from pytest_serve_chaos.cluster.serve_check import Finding, RayAnswer
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json

FILE = Path("ranker.yaml")
SERVICE: dict[str, Any] = yaml.safe_load("""
apiVersion: ray.io/v1
kind: RayService
metadata: {name: ranker, namespace: ranking}
spec:
  serveConfigV2: |
    applications:
      - name: ranker
        import_path: ranker:app
        deployments: [{name: Ranker, num_replicas: 2}]
  rayClusterConfig:
    rayVersion: "2.60.0"
    headGroupSpec:
      rayStartParams: {num-cpus: "0"}
      template: {spec: {containers: [{name: ray-head, image: "ranker:2.60.0"}]}}
    workerGroupSpecs:
      - groupName: w
        replicas: 2
        minReplicas: 2
        maxReplicas: 2
        rayStartParams: {}
        template: {spec: {containers: [{name: ray-worker, image: "ranker:2.60.0"}]}}
""")
Change = Callable[[dict[str, Any]], object]
"""Changes the RayService in place."""


def obj(kind: str, name: str, api: str = "v1", **fields: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "ranking"}, **fields}


def written(change: Change = lambda _: None, *others: dict[str, Any]) -> str:
    service = copy.deepcopy(SERVICE)
    change(service)
    return yaml.safe_dump_all([*others, service], sort_keys=False)


def read(change: Change = lambda _: None, *others: dict[str, Any], checks: FileChecks | None = None) -> None:
    parse_own_file(written(change, *others), FILE, checks=checks)


def refused(change: Change = lambda _: None, *others: dict[str, Any], checks: FileChecks | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        read(change, *others, checks=checks)
    assert caught.value.fix
    return str(caught.value)


def cluster(service: dict[str, Any]) -> Any:
    return service["spec"]["rayClusterConfig"]


def pod(service: dict[str, Any]) -> Any:
    """The spec of the workers' pods."""
    return cluster(service)["workerGroupSpecs"][0]["template"]["spec"]


def worker(service: dict[str, Any]) -> Any:
    return pod(service)["containers"][0]


def with_pod(**fields: Any) -> Change:
    return lambda service: pod(service).update(fields)


def with_container(**fields: Any) -> Change:
    return lambda service: worker(service).update(fields)


def with_volume(**source: Any) -> Change:
    return with_pod(volumes=[{"name": "v", **source}])


def variable(**source: Any) -> Change:
    return with_container(env=[{"name": "A", "valueFrom": source}])


CLAIM = {"persistentVolumeClaim": {"claimName": "weights"}}
LACKS: list[tuple[str, Change, str]] = [
    ("gpu", with_container(resources={"limits": {"nvidia.com/gpu": 1}}), "no kind node has nvidia.com/gpu (1)"),
    ("tpu", with_container(resources={"requests": {"google.com/tpu": "4"}}), "no kind node has google.com/tpu (4)"),
    ("hugepages", with_container(resources={"limits": {"hugepages-2Mi": "1Gi"}}), "no kind node has hugepages-2Mi"),
    ("gpu-of-init", with_pod(initContainers=[{"name": "i", "image": "i", "resources": {"limits": {"amd.com/gpu": 1}}}]),
     "amd.com/gpu"),
    ("secret", variable(secretKeyRef={"name": "hub", "key": "token"}), "has no Secret hub"),
    ("config-map", variable(configMapKeyRef={"name": "conf", "key": "a"}), "has no ConfigMap conf"),
    ("env-from", with_container(envFrom=[{"secretRef": {"name": "all"}}]), "has no Secret all"),
    ("secret-volume", with_volume(secret={"secretName": "tls"}), "has no Secret tls"),
    ("config-volume", with_volume(configMap={"name": "conf"}), "has no ConfigMap conf"),
    ("projected", with_volume(projected={"sources": [{"secret": {"name": "p"}}]}), "has no Secret p"),
    ("claim", with_volume(**CLAIM), "has no PersistentVolumeClaim weights"),
    ("ephemeral", with_volume(ephemeral={"volumeClaimTemplate": {"spec": {"storageClassName": "gp3"}}}),
     "no storage class gp3"),
    ("host-path", with_volume(hostPath={"path": "/mnt/models"}), "nothing at the host path /mnt/models"),
    ("csi", with_volume(csi={"driver": "secrets-store"}), "no volumes of the kind csi"),
    ("nfs", with_volume(nfs={"server": "x", "path": "/"}), "no volumes of the kind nfs"),
    ("account", with_pod(serviceAccountName="ranker"), "has no ServiceAccount ranker"),
    ("pull-secret", with_pod(imagePullSecrets=[{"name": "registry"}]), "has no Secret registry with which images"),
    ("priority", with_pod(priorityClassName="online"), "has no PriorityClass online"),
    ("runtime-class", with_pod(runtimeClassName="nvidia"), "no RuntimeClass nvidia"),
    ("scheduler", with_pod(schedulerName="volcano"), "no scheduler volcano"),
    ("redis", lambda s: cluster(s).update(gcsFaultToleranceOptions={
        "redisAddress": "redis.example.com:6379",
        "redisPassword": {"valueFrom": {"secretKeyRef": {"name": "redis", "key": "p"}}},
    }), "has no Secret redis"),
    ("image", with_container(image="${REGISTRY}/ranker:2.60.0"), "${REGISTRY} is a template"),
    ("bare", with_container(image="$IMAGE"), "$IMAGE is a template"),
    ("tag", with_container(image="ranker:$TAG"), "$TAG is a template"),
    ("helm", lambda s: s["metadata"].update(labels={"app": "{{ .Release.Name }}"}), "Name }} is a template"),
    ("label", lambda s: s["metadata"].update(labels={"team": "${TEAM}"}), "${TEAM} is a template"),
    ("label-of-a-pod", lambda s: cluster(s)["workerGroupSpecs"][0]["template"].update(
        metadata={"labels": {"team": "team-$TEAM"}}), "$TEAM is a template"),
    ("annotation", lambda s: s["metadata"].update(annotations={"owner": "${TEAM}@corp"}), "${TEAM} is a template"),
    ("annotation-of-a-pod", lambda s: cluster(s)["headGroupSpec"]["template"].update(
        metadata={"annotations": {"team": "$TEAM"}}), "$TEAM is a template"),
    ("annotation-of-lines", lambda s: s["metadata"].update(annotations={"a": "owned by\n${TEAM}\n"}),
     "${TEAM} is a template"),
    ("annotation-key", lambda s: s["metadata"].update(annotations={"${DOMAIN}/team": "a"}), "${DOMAIN} is a template"),
    ("in-a-variable", with_container(env=[{"name": "A", "value": "redis://${HOST}:1"}]), "${HOST} is a template"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), [row[1:] for row in LACKS], ids=[row[0] for row in LACKS])
def test_what_kind_lacks_is_named(change: Change, said: str) -> None:
    assert said in refused(change)


def test_templates_in_a_serve_config_are_told_from_what_apps_and_ray_read() -> None:
    config: dict[str, Json] = {
        "applications": [
            {
                "args": {
                    "model": "s3://${BUCKET}/model",
                    "chat": "{{ bos }}{% for m in messages %}",
                    "name": "${name}",
                },
                "runtime_env": {"env_vars": {"PATH": "${PATH}:/opt/bin", "TOKEN": "${TOKEN}"}},
            }
        ]
    }
    found = {path[-1]: what for path, what in in_serve_config(config)}
    assert set(found) == {"model", "name", "TOKEN"}
    assert found["model"] == "${BUCKET} is a template, and not a value"


def test_all_of_it_is_listed_at_once_with_document_line_object_and_field() -> None:
    def everything(service: dict[str, Any]) -> None:
        pod(service).update(serviceAccountName="ranker", nodeSelector={"accelerator": "l4"})
        worker(service).update(resources={"limits": {"nvidia.com/gpu": 1}})

    text = written(everything, obj("PodMonitor", "ranker", "monitoring.coreos.com/v1"))
    with pytest.raises(SettingsError) as caught:
        parse_own_file(text, FILE)
    monitor, *rest = caught.value.checked
    account, gpu, selector = (next(x for x in rest if word in x) for word in ("Account", "nvidia", "nodeSelector"))
    (line,) = [n for n, content in enumerate(text.splitlines(), 1) if "nvidia.com/gpu: 1" in content]
    assert monitor.startswith(
        "document 1, line 1: PodMonitor ranker, apiVersion: kind does not know PodMonitor of monitoring"
    )
    assert "patch: null}" in monitor
    both = account + gpu
    assert f"document 2, line {line}: RayService ranker, spec.rayClusterConfig.workerGroupSpecs[w]" in both
    assert "containers[ray-worker].resources.limits.nvidia.com/gpu" in both
    assert "serviceAccountName" in both
    assert selector.endswith("no kind node has the labels accelerator: l4: the plugin leaves it out")
    assert "3 of its parts" in caught.value.what


GIVEN: list[tuple[str, Change, tuple[dict[str, Any], ...]]] = [
    ("secret", variable(secretKeyRef={"name": "hub", "key": "token"}), (obj("Secret", "hub", data={"token": "eA=="}),)),
    ("optional", variable(secretKeyRef={"name": "hub", "key": "token", "optional": True}), ()),
    ("config-map", with_volume(configMap={"name": "c"}), (obj("ConfigMap", "c", data={}),)),
    ("account", with_pod(serviceAccountName="ranker"), (obj("ServiceAccount", "ranker"),)),
    ("priority", with_pod(priorityClassName="online"),
     (obj("PriorityClass", "online", "scheduling.k8s.io/v1", value=7),)),
    ("system-priority", with_pod(priorityClassName="system-node-critical"), ()),
    ("claim-of-the-head", lambda s: cluster(s)["headGroupSpec"]["template"]["spec"].update(
        volumes=[{"name": "v", **CLAIM}]),
     (obj("PersistentVolumeClaim", "weights", spec={"accessModes": ["ReadWriteOnce"]}),)),
    ("namespace", lambda _: None, (obj("Namespace", "ranking"),)),
    ("no-gpu", with_container(resources={"limits": {"nvidia.com/gpu": 0, "cpu": "500m"}}), ()),
    ("shm", with_volume(hostPath={"path": "/dev/shm"}), ()),
    ("shell", with_container(command=["sh", "-c", "echo ${HOME} $HOME"]), ()),
    ("kubernetes-own", with_container(env=[{"name": "A", "value": "$(HOME)/x"}]), ()),
    ("script", lambda _: None, (obj("ConfigMap", "s", data={"run.sh": "echo ${A}\necho {{ b }}"}),)),
    ("own-templates", lambda s: s["metadata"].update(annotations={
        "a": "#{host}:%%port%%", "b": "proxy_set_header X $host", "c": "${name}"}), ()),
    ("agent", lambda s: s["metadata"].update(annotations={"a": "{{ with secret `x` }}{{ end }}"}), ()),
    ("password", with_container(env=[{"name": "A", "value": "pa$$word$x"}]), ()),
    ("ray-parameter", lambda s: cluster(s)["headGroupSpec"]["rayStartParams"].update(block="$FLAG"), ()),
]  # fmt: skip


@pytest.mark.parametrize(("change", "others"), [row[1:] for row in GIVEN], ids=[row[0] for row in GIVEN])
def test_what_the_file_gives_and_what_only_looks_like_a_need_is_fine(
    change: Change, others: tuple[dict[str, Any], ...]
) -> None:
    read(change, *others)


def test_a_key_that_a_secret_of_the_file_lacks_is_named() -> None:
    secret = obj("Secret", "hub", stringData={"other": "x"})
    assert "the Secret hub of the file has no key token" in refused(
        variable(secretKeyRef={"name": "hub", "key": "token"}), secret
    )


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"storageClassName": "efs"}, "kind has no storage class efs"),
        ({"accessModes": ["ReadWriteMany"]}, "cannot serve ReadWriteMany"),
        ({"volumeName": "pv-1"}, "no volume that volumeName could mean"),
    ],
)
def test_a_claim_that_kinds_storage_class_cannot_serve_is_refused(spec: dict[str, Any], said: str) -> None:
    assert said in refused(lambda _: None, obj("PersistentVolumeClaim", "weights", spec=spec))


def test_a_volume_for_pods_on_several_nodes_is_refused() -> None:
    claim = obj("PersistentVolumeClaim", "weights", spec={"accessModes": ["ReadWriteOnce"]})
    assert "is for several pods, and a volume of kind is on one node" in refused(with_volume(**CLAIM), claim)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (obj("ExternalSecret", "hub", "external-secrets.io/v1"), "put the Secret that it makes into the file"),
        (obj("VirtualService", "v", "networking.istio.io/v1"), "kind does not know VirtualService"),
        (obj("Deploymnet", "d", "apps/v1"), "apps/v1 has no kind Deploymnet"),
        (obj("ClusterRole", "r", "rbac.authorization.k8s.io/v1"), "belongs to no namespace, so it would outlive"),
        (obj("ConfigMap", "serve-chaos-code"), "a name that this plugin needs"),
    ],
)
def test_objects_that_kind_does_not_take_are_named(item: dict[str, Any], said: str) -> None:
    assert said in refused(lambda _: None, item)


def test_two_objects_of_one_name_are_refused() -> None:
    twice = [obj("ConfigMap", "c"), obj("ConfigMap", "c")]
    twice[1]["metadata"]["namespace"] = "other"
    assert "two objects of this kind and name (documents 1 and 2)" in refused(lambda _: None, *twice)


# -- what this machine and this KubeRay have ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"requests": {"cpu": "16"}}, "the pod requests 16 processors of cpu, and a node of this machine has 4"),
        ({"requests": {"cpu": 4}}, "has 4, of which Kubernetes' own pods take 0.1"),
        ({"limits": {"memory": "64Gi"}}, "requests 64 GiB of memory, and a node of this machine has 8"),
        ({"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"cpu": "16"}}, ""),
    ],
)
def test_a_pod_that_fits_on_no_node_is_refused(resources: dict[str, Any], said: str) -> None:
    checks = FileChecks(KindOffers(processors=4, memory=8 * 2**30))
    change = with_container(resources=resources)
    if said:
        assert said in refused(change, checks=checks)
    else:
        read(change, checks=checks)


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", 0.5), (2, 2.0), ("1.5", 1.5), ("16Gi", 2.0**34), ("1e3", 1e3), ("2G", 2e9), ("x", None), ("1 x", None)],
)
def test_quantities_are_read_as_kubernetes_reads_them(text: Json, value: float | None) -> None:
    assert amount(text) == value


def rocksdb(service: dict[str, Any]) -> None:
    cluster(service)["gcsFaultToleranceOptions"] = {"backend": "rocksdb"}


def test_a_storage_that_needs_a_newer_kuberay_is_refused_with_the_version() -> None:
    said = refused(rocksdb, checks=FileChecks(KindOffers(operator=(1, 6))))
    assert "KubeRay 1.7 is the first that knows it, and the run installs 1.6" in said
    read(rocksdb, checks=FileChecks(KindOffers(operator=(1, 7))))
    read(rocksdb)


SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "serveConfigV2": {"type": "string"},
                "rayClusterConfig": {
                    "type": "object",
                    "required": ["headGroupSpec"],
                    "properties": {
                        "rayVersion": {"type": "string"},
                        "headGroupSpec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                        "workerGroupSpecs": {
                            "type": "array",
                            "items": {
                                "type": "object",
                                "properties": {
                                    "groupName": {"type": "string"},
                                    "replicas": {"type": "integer"},
                                    "minReplicas": {"type": "integer"},
                                    "maxReplicas": {"type": "integer"},
                                    "mode": {"type": "string", "enum": ["fast", "slow"]},
                                    "rayStartParams": {"type": "object", "additionalProperties": {"type": "string"}},
                                    "template": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                                },
                            },
                        },
                    },
                },
            },
        }
    },
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["spec"].update(upgradStrategy={}), "KubeRay does not know the field upgradStrategy"),
        (lambda s: cluster(s)["workerGroupSpecs"][0].update(minReplica=1), "To fix this:\n  - write minReplicas"),
        (lambda s: cluster(s)["workerGroupSpecs"][0].update(maxReplicas="2"), "maxReplicas must be a whole number"),
        (lambda s: cluster(s)["workerGroupSpecs"][0].update(mode="x"), "KubeRay does not take 'x'"),
        (lambda s: cluster(s).update(rayVersion=2.6), "rayVersion must be text (write it in quotes)"),
    ],
)
def test_what_the_installed_kuberay_does_not_know_is_named(change: Change, said: str) -> None:
    checks = FileChecks(KindOffers(schema=SCHEMA))
    read(checks=checks)
    assert said in refused(change, checks=checks)


# -- what Ray has ------------------------------------------------------------------------------------------------------


def config(service: dict[str, Any], **deployment: Any) -> None:
    apps = {"applications": [{"name": "a", "import_path": "a:b", "deployments": [{"name": "D", **deployment}]}]}
    service["spec"]["serveConfigV2"] = yaml.safe_dump(apps)


@pytest.mark.parametrize(
    ("deployment", "said"),
    [
        ({"ray_actor_options": {"num_gpus": 1}}, "want num_gpus, which no Ray node of the file offers"),
        ({"ray_actor_options": {"resources": {"zone-a": 1}}}, "want zone-a"),
        ({"ray_actor_options": {"accelerator_type": "L4"}}, "want accelerator_type:L4"),
        ({"placement_group_bundles": [{"CPU": 1, "GPU": 1}]}, "placement_group_bundles[0].GPU: its"),
    ],
)
def test_resources_that_no_ray_node_offers_are_named(deployment: dict[str, Any], said: str) -> None:
    text = refused(lambda s: config(s, **deployment))
    assert said.replace(": its", "") in text


def test_resources_that_ray_nodes_are_told_to_offer_are_there() -> None:
    def change(service: dict[str, Any]) -> None:
        config(service, ray_actor_options={"num_gpus": 1, "resources": {"zone-a": 1}})
        parameters = cluster(service)["workerGroupSpecs"][0]["rayStartParams"]
        parameters.update({"num-gpus": "1", "resources": '\'"{\\"zone-a\\": 2}"\''})

    read(change)


def test_what_serve_refuses_is_said_in_its_words_with_the_line_of_the_file() -> None:
    answer = RayAnswer("2.60.0", (Finding(("applications", 0, "deployments", 0), "Serve says no.", "change it"),))
    text = """\
apiVersion: ray.io/v1
kind: RayService
metadata: {name: ranker}
spec:
  serveConfigV2: |
    applications:
      - name: ranker
        import_path: ranker:app
        deployments:
          - {name: Ranker, num_replicas: 2}
  rayClusterConfig:
    rayVersion: "2.60.1"
    headGroupSpec:
      rayStartParams: {}
      template: {spec: {containers: [{name: ray-head, image: "ranker:latest"}]}}
"""
    with pytest.raises(SettingsError) as caught:
        parse_own_file(text, FILE, checks=FileChecks(ask_ray=lambda _: answer))
    assert "Serve says no." in caught.value.what
    (where,) = caught.value.checked
    assert where.startswith("document 1, line 10: RayService ranker, ")
    assert where.endswith("spec.serveConfigV2 applications[ranker].deployments[Ranker]")
    older = text.replace("2.60.1", "2.46.0")
    parse_own_file(older, FILE, checks=FileChecks(ask_ray=lambda _: answer))


def test_an_option_that_ray_start_does_not_have_is_named() -> None:
    checks = FileChecks(ask_ray=lambda _: RayAnswer("2.60.0", start=frozenset({"num-cpus", "block"})))
    read(checks=checks)
    text = refused(lambda s: cluster(s)["headGroupSpec"]["rayStartParams"].update({"num-cpu": "1"}), checks=checks)
    assert "`ray start` of Ray 2.60.0 has no option --num-cpu" in text


def test_a_file_that_is_no_yaml_because_of_its_templates_says_so() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_own_file("metadata: {{ .Values.x }}\n", FILE)
    assert "helm template" in caught.value.fix[0]
