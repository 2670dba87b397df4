"""What deploy/ promises fits the program: settings, ports, paths, times, names."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tongtu.serve.routes import health
from tongtu.serve.settings import ServeSettings, named_models, settings_from

DEPLOY = Path(__file__).parents[1] / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
KUSTOMIZATION = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text(encoding="utf-8"))
OBJECTS = {
    found["kind"]: found
    for name in KUSTOMIZATION["resources"]
    for found in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text(encoding="utf-8"))
}
POD = OBJECTS["Deployment"]["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
PATHS = {str(getattr(route, "path", "")) for route in health.router.routes}


def read(environment: dict[str, Any]) -> ServeSettings:
    """The settings of a container, with what the entrypoint makes of secret files."""
    given = {name: str(value) for name, value in environment.items() if name.startswith("TONGTU_SERVE_")}
    files = [name for name in given if name.endswith("_FILE")]
    return settings_from(env={**{n: v for n, v in given.items() if n not in files}, **{n.removesuffix("_FILE"): "sqlite:///secret.db" for n in files}})


def dockerfile_environment() -> dict[str, str]:
    return dict(re.findall(r"(TONGTU_SERVE_[A-Z_]+)=(\S+)", DOCKERFILE.split("ENV ", 1)[1].split("WORKDIR")[0]))


def seconds(text: str) -> float:
    assert text.endswith("s")
    return float(text[:-1])


def test_the_image_runs_as_nobody_special() -> None:
    assert re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]
    assert len(re.findall(r"^FROM ", DOCKERFILE, re.MULTILINE)) == 2 and "COPY --from=build" in DOCKERFILE
    assert DOCKERFILE.index("USER ") < DOCKERFILE.index("ENTRYPOINT")
    assert [line for line in re.findall(r"pip install[^\n]*", DOCKERFILE) if "--constraint constraints.txt" not in line] == []


def test_the_image_listens_and_is_asked_where_the_service_answers() -> None:
    settings = read(dockerfile_environment())
    assert str(settings.port) == re.search(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE)[1] and settings.host == "0.0.0.0"
    assert settings.store.startswith("sqlite:////var/lib/tongtu/") and settings.models_root == "/models"
    asked = re.search(r"\}(/[a-z/]+)\\\"", DOCKERFILE.split("HEALTHCHECK")[1])
    assert asked is not None and asked[1] in PATHS and "STOPSIGNAL SIGTERM" in DOCKERFILE


def test_every_file_the_image_copies_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")}
    copied = {part for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE) for part in line.split()[:-1] if not part.startswith("--")}
    assert copied == sent and all((DEPLOY.parent / part).exists() for part in copied)


def test_compose_gives_settings_that_exist_and_time_to_drain() -> None:
    service = COMPOSE["services"]["tongtu"]
    settings = read(dockerfile_environment() | service["environment"])
    assert seconds(service["stop_grace_period"]) > settings.drain
    assert all(str(folder).startswith("/models/") for folder in named_models(settings).values())
    assert service["ports"] == [f"127.0.0.1:{settings.port}:{settings.port}"]
    assert service["depends_on"]["db"]["condition"] == "service_healthy" and "healthcheck" in COMPOSE["services"]["db"]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]


def test_compose_holds_no_secret() -> None:
    for service in COMPOSE["services"].values():
        for name, value in service["environment"].items():
            assert not re.search("PASSWORD|STORE|KEY", name) or (name.endswith("_FILE") and value.removeprefix("/run/secrets/") in service["secrets"])
    assert all(secret["file"].startswith("./secrets/") for secret in COMPOSE["secrets"].values())
    volumes = [volume.split(":")[0] for service in COMPOSE["services"].values() for volume in service["volumes"]]
    assert {volume for volume in volumes if not volume.startswith(".")} == set(COMPOSE["volumes"])


def test_probes_ask_for_paths_that_exist_on_the_port_that_is_open() -> None:
    settings = read(OBJECTS["ConfigMap"]["data"] | {one["name"]: one["value"] for one in CONTAINER["env"]})
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {"http": settings.port} and settings.host == "0.0.0.0" and settings.auth == "on"
    for probe, path in (("startupProbe", "/health/live"), ("livenessProbe", "/health/live"), ("readinessProbe", "/health/ready")):
        assert CONTAINER[probe]["httpGet"] == {"path": path, "port": "http"} and path in PATHS
    assert OBJECTS["Service"]["spec"]["ports"][0]["targetPort"] in ports
    assert OBJECTS["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"] in ports


def test_a_pod_has_time_to_end() -> None:
    settings = read(OBJECTS["ConfigMap"]["data"])
    pause = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert pause[0] == "sleep" and POD["terminationGracePeriodSeconds"] > float(pause[1]) + settings.drain
    # While it sleeps, the pod must be taken out of the service: the probe that says so must have run.
    ready = CONTAINER["readinessProbe"]
    assert float(pause[1]) > ready["periodSeconds"] * ready["failureThreshold"]


def test_objects_name_each_other() -> None:
    labels = OBJECTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [OBJECTS["Service"]["spec"]["selector"], OBJECTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]]
    selectors += [OBJECTS[kind]["spec"]["selector"]["matchLabels"] for kind in ("Deployment", "PodDisruptionBudget")]
    assert all(selector == labels for selector in selectors)
    target = OBJECTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", OBJECTS["Deployment"]["metadata"]["name"])
    assert "cpu" in CONTAINER["resources"]["requests"]  # what the autoscaler measures against
    assert CONTAINER["envFrom"][0]["configMapRef"]["name"] == OBJECTS["ConfigMap"]["metadata"]["name"]
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == set(volumes)
    assert volumes["secrets"]["secret"]["secretName"] == OBJECTS["Secret"]["metadata"]["name"]
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == OBJECTS["PersistentVolumeClaim"]["metadata"]["name"]
    mount = next(mount["mountPath"] for mount in CONTAINER["volumeMounts"] if mount["name"] == "secrets")
    assert CONTAINER["env"][0]["value"] == f"{mount}/{next(iter(OBJECTS['Secret']['stringData']))}"


def test_a_pod_may_do_no_more_than_it_must() -> None:
    assert POD["securityContext"]["runAsNonRoot"] and POD["securityContext"]["runAsUser"] == 10001 and not POD["automountServiceAccountToken"]
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"] and CONTAINER["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not CONTAINER["securityContext"]["allowPrivilegeEscalation"]
    network = OBJECTS["NetworkPolicy"]["spec"]
    assert network["policyTypes"] == ["Ingress", "Egress"] and all(rule["ports"] for rule in network["egress"])


def test_all_name_one_image() -> None:
    assert CONTAINER["image"] == COMPOSE["services"]["tongtu"]["image"]
    assert f"--tag {CONTAINER['image']}" in DOCKERFILE


def test_no_package_index_is_named() -> None:
    for file in DEPLOY.rglob("*"):
        if file.is_file():
            assert not re.search(r"--(extra-)?index-url\s+https?:|pypi|pythonhosted", file.read_text(encoding="utf-8")), file


def entrypoint(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(DEPLOY / "entrypoint.sh"), *command], env={"PATH": os.environ["PATH"], **environment}, capture_output=True, text=True, check=False
    )


def test_the_entrypoint_reads_secret_files(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql+psycopg://u:p$w'\"`@db/x\n")
    done = entrypoint({"TONGTU_SERVE_STORE_FILE": str(tmp_path / "url"), "TONGTU_SERVE_PORT": "8000"}, "env")
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("TONGTU"))
    assert found == {"TONGTU_SERVE_STORE": "postgresql+psycopg://u:p$w'\"`@db/x", "TONGTU_SERVE_PORT": "8000"}
    done = entrypoint({"TONGTU_SERVE_STORE_FILE": str(tmp_path / "none")}, "env")
    assert done.returncode == 2 and "cannot be read" in done.stderr and not done.stdout
