"""What Kubernetes would refuse of a file's objects and pods, when KubeRay creates them or before."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from pytest_serve_chaos.cluster.kubernetes.install.file_checks import FileChecks
from pytest_serve_chaos.cluster.kubernetes.install.file_objects import KindOffers
from pytest_serve_chaos.cluster.kubernetes.install.rayservice_file import parse_own_file
from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.model import Json
from tests.unit.test_file_needs import FILE, Change, cluster, obj, pod, read, refused, worker, written

SOME_SHA = "sha256:" + "0f" * 32


def with_worker(**fields: Any) -> Change:
    return lambda service: worker(service).update(fields)


def with_pod(**fields: Any) -> Change:
    return lambda service: pod(service).update(fields)


@pytest.mark.parametrize(
    "image",
    [
        "<your-registry>/ranker:1", "%IMAGE%", "__IMAGE__", "@IMAGE@", "#{Image}", "$image", "$(IMAGE)", "((image))",
        "REPLACE_ME", "[[ .image ]]", "<%= image %>", "Ranker:1",
        "registry.example.com/Team/ranker:1", "ranker:", "ranker:a b", "https://registry.example.com/ranker",
    ],
)  # fmt: skip
def test_a_placeholder_of_any_tool_is_not_an_image(image: str) -> None:
    said = refused(with_worker(image=image))
    assert f"{image} is not the name of an image" in said
    assert "containers[ray-worker].image" in said


def test_a_part_of_an_image_may_be_a_template() -> None:
    said = refused(with_worker(image="registry-$REGION.example.com/ranker:1"))
    assert "$REGION is a template, and not a value" in said
    assert "containers[ray-worker].image" in said


@pytest.mark.parametrize(
    "image",
    [
        "ray", "ray:2.60.0-py311", "localhost:5000/ray", "Registry.example.com/a/b__c--d.e:v1_2", f"a/b@{SOME_SHA}",
        f"registry.example.com:443/a/b:1@{SOME_SHA}", "123.dkr.ecr.eu-west-1.amazonaws.com/ray-ml:latest",
    ],
)  # fmt: skip
def test_what_runtimes_take_is_an_image(image: str) -> None:
    read(with_worker(image=image))


def test_the_image_that_the_options_replace_may_be_anything() -> None:
    def change(service: dict[str, Any]) -> None:
        for group in (cluster(service)["headGroupSpec"], cluster(service)["workerGroupSpecs"][0]):
            group["template"]["spec"]["containers"][0]["image"] = "<image>"

    read(change, checks=FileChecks(other_image=True))
    assert "<image> is not the name of an image" in refused(change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_worker(image=""), "the container has no image"),
        (with_worker(name="ray_worker"), "'ray_worker' is not the name of a container"),
        (
            with_pod(initContainers=[{"name": "ray-worker", "image": "a"}]),
            "two containers of the pod have the name ray-worker",
        ),
        (with_worker(volumeMounts=[{"name": "cache", "mountPath": "/c"}]), "the pod has no volume cache"),
        (with_worker(resources={"requests": {"memory": "2GB"}}), "'2GB' is not a quantity"),
        (with_worker(resources={"limits": {"cpu": "half"}}), "'half' is not a quantity"),
        (
            with_worker(resources={"requests": {"cpu": 1}, "limits": {"cpu": "500m"}}),
            "the request 1 is above the limit 500m",
        ),
    ],
)
def test_a_pod_that_kuberay_could_not_create_is_refused(change: Change, said: str) -> None:
    assert said in refused(change)


def test_volumes_of_the_pod_and_of_its_statefulset_can_be_mounted() -> None:
    read(with_worker(volumeMounts=[{"name": "ray-logs", "mountPath": "/tmp/ray"}]))
    mount = {"name": "c", "image": "c", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}
    of_claims = {"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]}
    read(
        lambda _: None,
        obj("StatefulSet", "s", "apps/v1", spec={"template": {"spec": {"containers": [mount]}}} | of_claims),
    )


@pytest.mark.parametrize(
    ("container", "said"),
    [
        ({"env": [{"name": "PORT", "value": 8000}]}, "the variable PORT is not text"),
        ({"env": [{"name": "ON", "value": True}]}, "the variable ON is not text"),
        ({"args": ["--port", 6379]}, "word 2 of args is not text"),
        ({"command": ["sleep", 3600]}, "word 2 of command is not text"),
    ],
)
def test_numbers_are_no_texts_in_other_pods_of_the_file(container: dict[str, Any], said: str) -> None:
    job = {"template": {"spec": {"containers": [{"name": "c", "image": "c"} | container]}}}
    assert said in refused(lambda _: None, obj("Job", "warm", "batch/v1", spec=job))


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (obj("ConfigMap", "c", data={"PORT": 8000}), "its PORT is not text"),
        (obj("ConfigMap", "c", data={True: "a"}), "have the key True, which is not text"),
        (obj("Secret", "s", data={"token": "not base64!"}), "the data token is not base64"),
        (obj("ConfigMap", "c", binaryData={"x": "?"}), "the binaryData x is not base64"),
        (obj("ConfigMap", "Upper_Case"), "Upper_Case is not the name of a ConfigMap"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "My_Team"}},
         "My_Team is not the name of a namespace"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {"version": 2}}},
         "its version is not text"),
        (obj("Deployment", "d", "apps/v1", spec={"template": {"metadata": {"annotations": {"scrape": True}}}}),
         "its scrape is not text"),
    ],
)  # fmt: skip
def test_what_yaml_takes_for_something_else_is_refused(item: dict[str, Any], said: str) -> None:
    text = refused(lambda _: None, item)
    assert said in text
    assert "not base64!" not in text, "what a Secret holds is not shown"


def test_a_secret_that_is_still_a_template_is_named_once() -> None:
    said = refused(lambda _: None, obj("Secret", "s", data={"token": "${HF_TOKEN}"}))
    assert "${HF_TOKEN} is a template" in said
    assert "base64" not in said


def test_nothing_is_an_empty_text() -> None:
    read(lambda _: None, obj("ConfigMap", "c", data={"MODEL": None}), obj("Secret", "s", data={"token": None}))


def test_base64_of_several_lines_is_base64() -> None:
    read(lambda _: None, obj("Secret", "s", data={"cert": "aGVs\nbG8=\n"}))


@pytest.mark.parametrize(
    ("api", "kind", "now"),
    [
        ("autoscaling/v2beta2", "HorizontalPodAutoscaler", "autoscaling/v2"),
        ("networking.k8s.io/v1beta1", "Ingress", "networking.k8s.io/v1"),
        ("extensions/v1beta1", "Ingress", "networking.k8s.io/v1"),
        ("batch/v1beta1", "CronJob", "batch/v1"),
        ("policy/v1beta1", "PodDisruptionBudget", "policy/v1"),
        ("apps/v1beta2", "Deployment", "apps/v1"),
        ("v1", "Deployment", "apps/v1"),
    ],
)
def test_a_version_that_kubernetes_no_longer_has_comes_with_the_one_that_it_has(api: str, kind: str, now: str) -> None:
    said = refused(lambda _: None, obj(kind, "x", api, spec={}))
    assert f"write {now}, or leave it out" in said


def test_what_kustomize_reads_is_recognised() -> None:
    said = refused(lambda _: None, obj("Kustomization", "x", "kustomize.config.k8s.io/v1beta1"))
    assert "give the output of kustomize build" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_pod(resourceClaims=[{"name": "gpu"}]), "kind has no driver for the devices that gpu claims"),
        (
            with_worker(securityContext={"seccompProfile": {"type": "Localhost", "localhostProfile": "a.json"}}),
            "no kind node has the profile a.json",
        ),
        (
            with_pod(securityContext={"sysctls": [{"name": "net.core.somaxconn", "value": "9"}]}),
            "kind nodes do not allow pods to set net.core.somaxconn",
        ),
    ],
)
def test_what_an_administrator_puts_on_nodes_first_is_named(change: Change, said: str) -> None:
    assert said in refused(change)


def test_profiles_and_parameters_that_every_node_has_are_fine() -> None:
    read(with_pod(securityContext={"seccompProfile": {"type": "RuntimeDefault"},
                                   "sysctls": [{"name": "net.ipv4.tcp_keepalive_time", "value": "60"}]}))  # fmt: skip


def test_gpus_that_a_group_is_told_to_offer_are_there() -> None:
    def change(service: dict[str, Any]) -> None:
        cluster(service)["workerGroupSpecs"][0]["resources"] = {"CPU": "2", "GPU": "1"}
        config = yaml.safe_load(service["spec"]["serveConfigV2"])
        config["applications"][0]["deployments"][0]["ray_actor_options"] = {"num_gpus": 1}
        service["spec"]["serveConfigV2"] = yaml.safe_dump(config)

    read(change)


def test_a_problem_that_is_alone_says_how_a_patch_is_given() -> None:
    assert "--serve-chaos-rayservice-patch=FILE" in refused(with_worker(resources={"limits": {"google.com/tpu": 4}}))


def test_problems_are_in_the_order_of_the_file_with_the_field_that_has_them() -> None:
    def change(service: dict[str, Any]) -> None:
        cluster(service)["headGroupSpec"]["rayStartParams"]["num-cpus"] = 2
        cluster(service)["headGroupSpec"]["template"]["spec"]["serviceAccountName"] = "x"
        worker(service)["image"] = "?"

    lines = [line for line in refused(change).splitlines() if line.startswith("  - document")]
    numbers = [int(line.split("line ")[1].partition(":")[0]) for line in lines]
    assert numbers == sorted(numbers)
    assert "spec.rayClusterConfig.headGroupSpec.rayStartParams.num-cpus" in lines[0]


def test_a_serve_config_that_is_no_yaml_is_refused_with_the_line_of_the_file() -> None:
    without = written(lambda service: service["spec"].pop("serveConfigV2"))
    text = without.replace("spec:\n", "spec:\n  serveConfigV2: |\n    applications:\n    - ]\n", 1)
    (line,) = [n for n, content in enumerate(text.splitlines(), 1) if content == "    - ]"]
    with pytest.raises(SettingsError, match=f"it is not YAML: .* in line {line}"):
        parse_own_file(text, FILE)


def test_what_stands_at_the_top_of_the_object_by_mistake_is_named() -> None:
    anything: dict[str, Json] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema: dict[str, Json] = {"type": "object", "properties": {"spec": anything}}
    checks = FileChecks(KindOffers(schema=schema))
    said = refused(lambda s: s.update(workerGroupSpecs=[]), checks=checks)
    assert "the installed KubeRay does not know the field workerGroupSpecs" in said
