"""docker-compose.yml is checked as data, since a test machine may have no container engine."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from monitor.app.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
Service = dict[str, Any]

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, Service] = COMPOSE["services"]
ONE_SHOT = {name for name, service in SERVICES.items() if service.get("restart") == "no"}
LONG_RUNNING = sorted(SERVICES.keys() - ONE_SHOT)

OURS = sorted(name for name, s in SERVICES.items() if s["image"].startswith("recallwatch:"))


def settings_of(service: str) -> Settings:
    """What the program reads in that container: the sample file, under the environment there."""
    return load_settings(ROOT / "recallwatch.yaml", environ=SERVICES[service]["environment"])


def test_the_file_follows_the_compose_specification() -> None:
    schema = json.loads((ROOT / "tests/data/compose-spec.json").read_text("utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [fault.message for fault in validator.iter_errors(COMPOSE)] == []


def test_the_schema_refuses_a_misspelt_key() -> None:
    schema = json.loads((ROOT / "tests/data/compose-spec.json").read_text("utf-8"))
    with pytest.raises(jsonschema.ValidationError, match="'imag' was unexpected"):
        jsonschema.validate({"services": {"kafka": {"imag": "apache/kafka:4.1.0"}}}, schema)


def test_there_are_a_broker_a_store_a_worker_and_a_dashboard() -> None:
    assert LONG_RUNNING == ["dashboard", "kafka", "redis", "worker"]
    assert sorted(ONE_SHOT) == ["topics"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_image_is_pinned_to_a_full_version(name: str) -> None:
    assert re.search(r":\d+\.\d+\.\d+(-[a-z]+)?$", SERVICES[name]["image"])


def test_every_base_image_of_the_dockerfile_is_pinned_to_a_full_version() -> None:
    bases = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    assert bases
    assert [base for base in bases if not re.search(r":\d+\.\d+\.\d+(-[a-z]+)*$", base)] == []


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_every_long_running_service_has_a_health_check(name: str) -> None:
    health_check = SERVICES[name]["healthcheck"]
    assert health_check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries"} <= health_check.keys()


def test_every_named_volume_is_declared_and_every_declared_one_is_used() -> None:
    mounts = [mount.split(":")[0] for s in SERVICES.values() for mount in s.get("volumes", [])]
    named = {source for source in mounts if not source.startswith((".", "/"))}
    assert named == COMPOSE["volumes"].keys()


def test_every_file_mounted_from_the_repository_exists() -> None:
    mounts = [mount.split(":")[0] for s in SERVICES.values() for mount in s.get("volumes", [])]
    missing = [
        source for source in mounts if source.startswith(".") and not (ROOT / source).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_dependency_waits_for_a_condition_that_its_service_can_meet(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        if needed in ONE_SHOT:
            assert how["condition"] == "service_completed_successfully"
        else:
            assert how["condition"] in {"service_healthy", "service_started"}


def test_the_worker_starts_once_the_store_is_healthy_and_the_topics_are_made() -> None:
    assert SERVICES["worker"]["depends_on"] == {
        "redis": {"condition": "service_healthy"},
        "topics": {"condition": "service_completed_successfully"},
    }


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    assert [
        port for port in SERVICES[name].get("ports", []) if not port.startswith("127.0.0.1:")
    ] == []


def test_the_store_writes_to_disk_and_never_evicts() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_broker_stamps_every_topic_that_the_worker_uses() -> None:
    script = SERVICES["topics"]["command"][0]
    kafka = settings_of("worker").kafka
    used = {
        kafka.predictions.topic,
        kafka.labels.topic,
        kafka.dead_letters.topic,
        kafka.journal.topic,
    }
    assert set(re.findall(r"^topic (\S+) \d+(?: -1)?$", script, re.MULTILINE)) == used
    assert "message.timestamp.type=LogAppendTime" in script


@pytest.mark.parametrize("name", OURS)
def test_our_containers_read_settings_that_name_the_broker_and_the_store(name: str) -> None:
    settings = settings_of(name)
    assert settings.kafka.bootstrap_servers == ("kafka:9092",)
    assert settings.redis.url.get_secret_value() == "redis://redis:6379/0"


@pytest.mark.parametrize("name", OURS)
def test_the_configuration_file_is_mounted_where_the_environment_says(name: str) -> None:
    service = SERVICES[name]
    mounted = service["environment"]["RECALLWATCH_CONFIG"]
    assert service["volumes"] == [f"./recallwatch.yaml:{mounted}:ro"]


def test_health_checks_ask_where_the_settings_say_that_the_program_listens() -> None:
    worker, dashboard = settings_of("worker"), settings_of("dashboard")
    assert f":{worker.telemetry.port}/healthz" in SERVICES["worker"]["healthcheck"]["test"][-1]
    path = f":{dashboard.dashboard.port}{dashboard.dashboard.base_path}/_stcore/health"
    assert path in SERVICES["dashboard"]["healthcheck"]["test"][-1]


def test_our_services_run_the_version_of_this_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {SERVICES[name]["image"] for name in OURS} == {f"recallwatch:{project['version']}"}
