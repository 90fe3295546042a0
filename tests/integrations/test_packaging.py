"""Manifests against Kubernetes' own schema, and against what our programs take."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomllib

import carbon_ops
from carbon_ops.cli.main import cli
from carbon_ops.governor.options import parse

yaml = pytest.importorskip("yaml")
kubernetes_validate = pytest.importorskip("kubernetes_validate")

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
MANIFESTS = sorted((PACKAGING / "kubernetes").rglob("*.yaml"))
RESOURCES = [
    resource for path in MANIFESTS for resource in yaml.safe_load_all(path.read_text())
]
NAMES = [f"{r['kind']}-{r['metadata']['name']}" for r in RESOURCES]
COMPOSE = yaml.safe_load((PACKAGING / "docker" / "compose.yaml").read_text())
SOCKET = "/run/carbon-ops/carbon-ops.sock"
GROUP = 65420


def pods() -> list[tuple[str, dict[str, Any]]]:
    return [
        (
            resource["metadata"]["name"],
            (
                resource["spec"]["template"]["spec"]
                if resource["kind"] == "DaemonSet"
                else resource["spec"]
            ),
        )
        for resource in RESOURCES
        if resource["kind"] in ("DaemonSet", "Pod")
    ]


def check_words(words: list[str]) -> None:
    """Let the program that the words start take them, without running it."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert words[0] in scripts
    if words[0] == "carbon-governor":
        assert parse(words[1:]).socket == SOCKET
        return
    command: Any = cli
    rest = words[1:]
    while hasattr(command, "get_command"):
        command = command.get_command(None, rest.pop(0))
    command.make_context("x", rest)


@pytest.mark.parametrize("resource", RESOURCES, ids=NAMES)
@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_a_manifest_has_the_schemas_form(
    resource: dict[str, Any], version: str
) -> None:
    kubernetes_validate.validate(resource, version, strict=True)


@pytest.mark.parametrize(("name", "pod"), pods(), ids=[name for name, _ in pods()])
def test_a_pod_has_no_more_than_it_needs(name: str, pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert not pod.get("hostNetwork")
    assert not pod.get("hostIPC")
    (container,) = pod["containers"]
    allowed = container["securityContext"]
    assert allowed["readOnlyRootFilesystem"]
    assert allowed["allowPrivilegeEscalation"] is False
    assert allowed["capabilities"] == {"drop": ["ALL"]}
    user = {**pod.get("securityContext", {}), **allowed}
    assert (user["runAsUser"] == 0) == (name == "carbon-ops-governor")
    assert GROUP in (user.get("runAsGroup"), *user.get("supplementalGroups", ()))
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    for volume in pod["volumes"]:
        mount = mounts.pop(volume["name"])
        # The socket's directory, never the socket; written by the governor alone.
        assert not volume["hostPath"]["path"].endswith(".sock")
        writer = name == "carbon-ops-governor" and volume["name"] == "socket"
        assert mount.get("readOnly", False) != writer
    assert not mounts
    assert container["image"] == f"carbon-ops:{carbon_ops.__version__}"
    assert "limits" in container["resources"]
    check_words(container["args"])


def test_selectors_find_their_pods_and_policies_the_exporter() -> None:
    labels = {}
    for resource in RESOURCES:
        if resource["kind"] == "DaemonSet":
            spec = resource["spec"]
            found = spec["template"]["metadata"]["labels"]
            assert spec["selector"]["matchLabels"].items() <= found.items()
            labels[resource["metadata"]["name"]] = found
    (scrape,) = [r for r in RESOURCES if r["metadata"]["name"] == "scrape"]
    wanted = scrape["spec"]["podSelector"]["matchLabels"].items()
    assert [name for name in labels if wanted <= labels[name].items()] == [
        "carbon-ops-exporter"
    ]


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_compose_gives_each_service_what_kubernetes_does(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert service["image"] == f"carbon-ops:{carbon_ops.__version__}"
    check_words(service["command"])
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_the_image_is_made_of_what_is_there_and_runs_as_nobody() -> None:
    text = (PACKAGING / "docker" / "Dockerfile").read_text()
    stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert all(":" in stage and not stage.endswith(":latest") for stage in stages)
    ignored = (PACKAGING / "docker" / "Dockerfile.dockerignore").read_text().split()
    for words in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        for source in words.split()[:-1]:
            assert (ROOT / source).exists()
            assert f"!{source}" in ignored
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == [f"65421:{GROUP}"]
    (words,) = re.findall(r"^CMD (.*)$", text, re.MULTILINE)
    check_words(yaml.safe_load(words))
    assert f"carbon-ops:{carbon_ops.__version__} " in text


def test_the_dockerfile_is_clean() -> None:
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("hadolint")),
            str(PACKAGING / "docker" / "Dockerfile"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
