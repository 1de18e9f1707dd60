"""The manifests of deploy/kubernetes, held against the schemas of Kubernetes and against the service."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from shoe_classifier.cli import app
from shoe_classifier.settings import Settings, load_settings

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy/kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
MANIFESTS: list[dict[str, Any]] = [
    document for name in KUSTOMIZATION["resources"] for document in yaml.safe_load_all((FOLDER / name).read_text())
]
SECRET = [line.partition("=")[0] for line in (FOLDER / "secret.env.example").read_text().splitlines()]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [manifest for manifest in MANIFESTS if manifest["kind"] == kind]


REPLICAS = of_kind("StatefulSet")[0]["spec"]
RETRAIN = of_kind("CronJob")[0]["spec"]["jobTemplate"]["spec"]
PODS: dict[str, dict[str, Any]] = {"replicas": REPLICAS["template"], "retrain": RETRAIN["template"]}


def containers(pod: str) -> list[dict[str, Any]]:
    spec = PODS[pod]["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def settings(container: dict[str, Any]) -> Settings:
    """Those of the service in a container, with a secret that is filled in."""
    given = {one["name"]: one["value"] for one in container.get("env", [])}
    assert {name.lower() for name in [*given, *SECRET]} <= set(Settings.model_fields)
    secret = {"api_key": "key", "supabase_url": "https://x.supabase.co", "supabase_key": "key"}
    assert {name.lower() for name in SECRET} == set(secret)
    return load_settings(_env_file=None, **secret, **{name.lower(): value for name, value in given.items()})


def services() -> Iterator[tuple[str, dict[str, Any]]]:
    for pod in PODS:
        yield from ((pod, container) for container in containers(pod) if container["name"] == "service")


SERVICES = [*services()]
EACH_SERVICE = pytest.mark.parametrize(("pod", "container"), SERVICES, ids=[pod for pod, _ in SERVICES])


def test_every_file_is_part_of_the_kustomization() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*KUSTOMIZATION["resources"], "kustomization.yaml"}


@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_kubernetes_takes_the_manifests(version: str) -> None:
    for manifest in MANIFESTS:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_names_lead_somewhere() -> None:
    labels = {PODS[pod]["metadata"]["labels"]["app"] for pod in PODS}
    here = REPLICAS["template"]["metadata"]["labels"]
    assert REPLICAS["selector"]["matchLabels"] == here
    assert all(service["spec"]["selector"] == here for service in of_kind("Service"))
    assert of_kind("PodDisruptionBudget")[0]["spec"]["selector"]["matchLabels"] == here
    guarded = {policy["spec"]["podSelector"]["matchLabels"]["app"] for policy in of_kind("NetworkPolicy")}
    assert guarded == labels  # no pod is open to all
    scaled = of_kind("HorizontalPodAutoscaler")[0]["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("StatefulSet", of_kind("StatefulSet")[0]["metadata"]["name"])
    assert REPLICAS["serviceName"] in {service["metadata"]["name"] for service in of_kind("Service")}
    secrets = {
        one["secretRef"]["name"] for pod in PODS for container in containers(pod) for one in container["envFrom"]
    }
    assert secrets == {one["name"] for one in KUSTOMIZATION["secretGenerator"]}
    images = {container["image"] for pod in PODS for container in containers(pod)}
    assert images == {one["name"] for one in KUSTOMIZATION["images"]}
    assert {one["image"] for one in containers("replicas")} == {"shoe-classifier-serve"}  # the job needs TensorFlow
    assert {one["image"] for one in containers("retrain")} == {"shoe-classifier-full"}


def test_ports_and_probes_are_those_of_the_service() -> None:
    container = containers("replicas")[0]
    paths = json.loads((ROOT / "docs/openapi.json").read_text())["paths"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": settings(container).port}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert "get" in paths[asked["path"]] and asked["port"] in ports
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    assert {port["targetPort"] for service in of_kind("Service") for port in service["spec"]["ports"]} == set(ports)


@EACH_SERVICE
def test_a_pod_has_time_to_finish_requests_and_to_drain_its_outbox(pod: str, container: dict[str, Any]) -> None:
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][1]) if "lifecycle" in container else 0
    needed = pause + 1.5 * settings(container).shutdown_seconds  # half of it for the outbox, afterwards
    assert PODS[pod]["spec"]["terminationGracePeriodSeconds"] >= needed + 10


@EACH_SERVICE
def test_the_user_of_the_image_can_write_what_the_service_writes(pod: str, container: dict[str, Any]) -> None:
    user = next(line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("USER "))
    runs = PODS[pod]["spec"]["securityContext"]
    assert user == f"USER {runs['runAsUser']}:{runs['fsGroup']}"
    assert container["securityContext"]["readOnlyRootFilesystem"]
    wanted = settings(container)
    folders = {f"/app/{path}" for path in (wanted.dataset_dir, wanted.models_dir, wanted.temp_uploads_dir)}
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {*folders, "/tmp"}


def test_predictions_that_wait_outlive_the_pod() -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in containers("replicas")[0]["volumeMounts"]}
    lasting = {claim["metadata"]["name"] for claim in REPLICAS["volumeClaimTemplates"]}
    assert {mounts["/app/dataset"], mounts["/app/models"]} <= lasting


def test_memory_and_disk_are_enough_for_the_limits_of_the_service() -> None:
    container, mebi = containers("replicas")[0], 1 << 20
    wanted = settings(container)
    request, limit = (
        int(container["resources"][kind]["memory"].removesuffix("Mi")) * mebi for kind in ("requests", "limits")
    )
    decoding = limit // 4  # as MAX_DECODING_BYTES is by default
    needed = 120 * mebi + 100 * mebi + decoding + wanted.max_body_memory_bytes  # idle, a quick retrain
    assert request >= needed
    claim = REPLICAS["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
    models = (wanted.keep_versions + wanted.keep_rejected + 2) * 18_000_000
    assert int(claim.removesuffix("Gi")) << 30 >= wanted.outbox_max_bytes + wanted.store_cache_bytes + models
    temporary = REPLICAS["template"]["spec"]["volumes"][0]["emptyDir"]["sizeLimit"]
    assert int(temporary.removesuffix("Gi")) << 30 > wanted.max_body_disk_bytes


def test_the_command_of_the_full_retrain_is_one() -> None:
    program, *arguments = containers("retrain")[1]["command"]
    assert program == "shoe-classifier"
    result = CliRunner().invoke(app, [*arguments, "--url", "http://127.0.0.1:1"])
    assert "127.0.0.1:1" in result.output and "No such option" not in result.output
    assert RETRAIN["activeDeadlineSeconds"] > settings(containers("retrain")[0]).retrain_max_seconds
