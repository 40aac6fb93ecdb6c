"""The container, compose and Render files: what they must hold, and that they name what there is."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
RENDER = yaml.safe_load((ROOT / "render.yaml").read_text(encoding="utf-8"))


def instructions(text: str) -> list[tuple[str, str]]:
    """A Dockerfile's instructions with their words, continued lines joined."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in joined.splitlines() if line.strip()]


def words_of(name: str) -> list[str]:
    return [words for instruction, words in instructions(DOCKERFILE) if instruction == name]


def known_settings() -> set[str]:
    tree = ast.parse((ROOT / "src/reco3/server/settings.py").read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if re.fullmatch(r"[A-Z]+[A-Z0-9_]*", text)}


def env_of_the_image() -> dict[str, str]:
    pairs = (pair.partition("=") for pair in words_of("ENV")[0].split())
    return {name: value for name, _, value in pairs}


def test_the_image_starts_from_a_python_by_digest_in_both_stages() -> None:
    images = {words.removesuffix(" AS builder") for words in words_of("FROM")}

    assert len(words_of("FROM")) == 2
    assert len(images) == 1
    assert re.fullmatch(r"python:3\.13\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", images.pop())


def test_what_is_installed_is_locked_by_hash_and_leaves_no_cache() -> None:
    installs = re.findall(r"pip (?:--python \S+ )?install ([^&]+)", " ".join(words_of("RUN")))

    assert len(installs) == 3
    assert all("--no-cache-dir" in words for words in installs)
    assert all("--require-hashes" in words or "--no-index" in words for words in installs)


def test_the_server_runs_as_nobody_in_particular_and_in_exec_form() -> None:
    assert words_of("USER") == ["10001:10001"]
    assert json.loads(words_of("CMD")[0]) == ["reco3", "server"]
    assert json.loads(words_of("VOLUME")[0]) == ["/data"]


def test_the_health_check_is_a_program_of_the_image_that_compiles() -> None:
    program, option, code = json.loads(words_of("HEALTHCHECK")[0].partition("CMD ")[2])

    assert (program, option) == ("python", "-c")
    compile(code, "healthcheck", "exec")
    assert "/health" in code


def test_every_file_that_is_copied_is_let_in() -> None:
    let_in = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [name for words in words_of("COPY") if "--from" not in words for name in words.split()[:-1]]

    assert len(copied) >= 7
    assert [name for name in copied if f"!{name}" not in let_in or not (ROOT / name).exists()] == []
    assert "*" in let_in


def test_the_image_sets_settings_that_there_are() -> None:
    own = set(env_of_the_image()) - {"PATH", "PYTHONUNBUFFERED"}

    assert own
    assert own <= known_settings()
    assert env_of_the_image()["RECO3_DB_PATH"].startswith("/data/")


def environments() -> list[tuple[str, dict[str, str]]]:
    return [(name, service["environment"]) for name, service in COMPOSE["services"].items() if "build" in service]


@pytest.mark.parametrize(("name", "environment"), environments(), ids=lambda value: str(value)[:20])
def test_a_composed_server_gets_its_secrets_as_files(name: str, environment: dict[str, str]) -> None:
    secrets = COMPOSE["services"][name]["secrets"]

    assert set(environment) <= known_settings()
    assert sorted(environment.values()) == sorted(f"/run/secrets/{secret}" for secret in secrets)
    assert set(secrets) <= set(COMPOSE["secrets"])
    assert all(name.endswith("_FILE") for name in environment)


def test_no_composed_service_is_open_to_the_network_or_without_a_volume() -> None:
    services: dict[str, Any] = COMPOSE["services"]

    assert all(port.startswith("127.0.0.1:") for each in services.values() for port in each.get("ports", []))
    mounted = {volume.partition(":")[0] for each in services.values() for volume in each["volumes"]}
    assert mounted == set(COMPOSE["volumes"])
    assert [name for name, each in services.items() if "profiles" not in each] == ["server"]
    assert ":latest" not in str(COMPOSE)


def test_the_secrets_of_the_composition_never_reach_git() -> None:
    folders = {Path(secret["file"]).parts[0] for secret in COMPOSE["secrets"].values()}

    assert {f"{folder}/" for folder in folders} <= set((ROOT / ".gitignore").read_text(encoding="utf-8").splitlines())


def test_the_blueprint_is_one_web_service_with_a_disk_under_the_database() -> None:
    (service,) = RENDER["services"]
    variables = {each["key"]: each for each in service["envVars"]}

    assert (service["type"], service["runtime"]) == ("web", "docker")
    assert (ROOT / service["dockerfilePath"]).is_file()
    assert service["numInstances"] == 1
    assert variables["RECO3_DB_PATH"]["value"].startswith(f"{service['disk']['mountPath']}/")
    assert service["disk"]["sizeGB"] >= 1
    # The paid plans alone have disks.
    assert service["plan"] != "free"


def test_the_blueprints_health_check_is_a_route_of_the_server() -> None:
    routes = (ROOT / "tests/data/role_matrix.json").read_text(encoding="utf-8")

    assert RENDER["services"][0]["healthCheckPath"] == "/health"
    assert "GET /health" in routes


def test_every_variable_of_the_blueprint_is_a_setting_and_every_secret_is_made_there() -> None:
    variables = RENDER["services"][0]["envVars"]
    secrets = {each["key"] for each in variables if each["key"] in {"API_KEY", "SECRET_KEY"}}

    assert {each["key"] for each in variables} <= known_settings()
    assert secrets == {each["key"] for each in variables if each.get("generateValue") is True}
    assert all(isinstance(each.get("value", ""), str) for each in variables)


def test_a_name_that_is_no_setting_would_be_noticed() -> None:
    assert {"RECO3_DB_PATH", "PORT", "API_KEY_FILE"} <= known_settings()
    assert "RECO3_DATABASE" not in known_settings()
