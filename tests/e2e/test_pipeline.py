"""The same records through Kafka and Redis, and through files and memory, end in one report.

Everything runs as a user runs it: the command in a process of its own, against the embedded broker
and store.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitor.app.embedded import Endpoints, embedded_servers

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
SCENARIOS = ("yes_no_binary", "acc97_recall20", "clinc150_main")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """One broker and one store for the whole module; each case has its own topics and namespace."""
    with embedded_servers(tmp_path_factory.mktemp("servers")) as endpoints:
        yield endpoints


def recallwatch(*arguments: str, config: Path) -> subprocess.CompletedProcess[str]:
    """Run the command with no settings but those in ``config``."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RECALLWATCH_")}
    return subprocess.run(
        [sys.executable, "-m", "monitor", *arguments, "--config", str(config)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def scenario_settings(name: str) -> dict[str, Any]:
    """Settings that follow the rules of a scenario's oracle."""
    scenario = json.loads((DATA / name / "scenario.json").read_text())
    return {
        "intents": {
            "closed": True,
            "known": scenario["intents"],
            "groups": {"urgent": scenario["urgent"]},
        },
        "slices": ["variant", "channel"],
        "rules": [
            {
                "name": f"urgent-recall-{variant}",
                "of": "urgent",
                "where": {"variant": variant},
                "per": ["variant"],
                "objective": scenario["recall_threshold"][variant],
                "maturity": "6h",
            }
            for variant in scenario["variants"]
        ],
    }


def live_settings(case: str, servers: Endpoints, *, shards: int, batch: int) -> dict[str, Any]:
    """Topics and a namespace of its own for each case."""
    roles = ("predictions", "labels", "dead_letters", "journal")
    topics = {role: {"topic": f"{case}.{role}"} for role in roles}
    return {
        "kafka": {"bootstrap_servers": servers.bootstrap_servers, "group": case, **topics},
        "redis": {"url": servers.redis_url, "namespace": case.lower(), "shards": shards},
        "worker": {"batch_records": batch},
    }


def written(folder: Path, settings: Mapping[str, Any]) -> Path:
    """A settings file in ``folder``."""
    path = folder / "recallwatch.yaml"
    path.write_text(yaml.safe_dump(dict(settings)))
    return path


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize(
    ("partitions", "shards", "batch"), [(6, 1, 4000), (1, 4, 333)], ids=["6x1x4000", "1x4x333"]
)
def test_kafka_and_redis_give_the_digest_of_the_replay(
    servers: Endpoints, tmp_path: Path, name: str, partitions: int, shards: int, batch: int
) -> None:
    """Whatever the number of partitions and shards, and the batch size."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip("needs the captured streams of ../shared/data")
    case = f"{name}-{partitions}"
    settings = scenario_settings(name)
    live = settings | live_settings(case, servers, shards=shards, batch=batch)
    config = written(tmp_path, live)

    fed = recallwatch("feed", str(folder), "--create-topics", str(partitions), config=config)
    assert fed.returncode == 0, fed.stderr
    ran = recallwatch("run", "--until-caught-up", config=config)
    assert ran.returncode == 0, ran.stderr
    replayed = recallwatch("replay", "--files", str(folder), config=config)
    assert replayed.returncode == 0, replayed.stderr

    ours, reference = json.loads(ran.stdout), json.loads(replayed.stdout)
    assert ours["digest"] == reference["digest"]
    assert ours["as_of"] == reference["as_of"]
    for part in ("ledger", "variants", "hours"):
        assert ours[part] == reference[part]
    for transition in (*ours["transitions"], *reference["transitions"]):
        del transition["cut"]
    assert ours["transitions"] == reference["transitions"]
    with_other_client = live_settings(case, servers, shards=shards, batch=batch)
    with_other_client["kafka"] |= {"client": "confluent-kafka", "group": f"{case}-fast"}
    with_other_client["redis"] |= {"namespace": f"{case}-fast".lower()}
    fast = recallwatch(
        "run", "--until-caught-up", config=written(tmp_path, settings | with_other_client)
    )
    assert fast.returncode == 0, fast.stderr
    for part in ("digest", "as_of", "ledger", "variants", "hours"):
        assert json.loads(fast.stdout)[part] == reference[part], part
    config = written(tmp_path, live)
    again = recallwatch("run", "--until-caught-up", config=config)
    assert json.loads(again.stdout)["digest"] == reference["digest"], "read twice, counted twice"
