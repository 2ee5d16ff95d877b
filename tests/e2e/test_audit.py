"""What was raised is proved from the log, from an archive, and from neither when somebody lied.

One live run is made by the command in processes of its own; everything after that asks about it, in
this process, and only reads. What is destroyed is a copy.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog
import yaml
from kafka import KafkaAdminClient, TopicPartition

from monitor.adapters.archive import open_archive
from monitor.app import cli
from monitor.app.embedded import Endpoints, embedded_servers
from monitor.app.wiring import provenance_of
from monitor.domain.events import Record
from tests.app.captures import captured
from tests.replay.streams import SCENARIO, SETTINGS, T0_MS, by_key, simulated

ROOT = Path(__file__).parents[2]
PARTITIONS = 2
CASE = "audited"
BATCHES = (60, 97, 999, 4_000)

ASKED_OF_EACH = """
import json, sys
from monitor.app import cli

for arguments in json.loads(sys.argv[1]):
    sys.argv = ["recallwatch", *arguments]
    try:
        cli.main()
    except SystemExit as ended:
        if ended.code:
            raise
    print("\\f", flush=True)
"""
"""Several commands in one process, which takes a second to start."""


@dataclass(frozen=True)
class Watched:
    """A live run that has ended, and what it was made of."""

    config: Path
    files: Path
    records: list[Record]
    report: Mapping[str, Any]
    report_file: Path
    archive: Path
    servers: Endpoints


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


Run = Callable[..., Ended]


def settings_on(servers: Endpoints, case: str = CASE) -> dict[str, Any]:
    """Those of the simulated stream, with topics and a namespace of their own."""
    told = json.loads(provenance_of(SETTINGS).document)
    deciding = {name: told[name] for name in ("intents", "slices", "rules", "signals")}
    roles = ("predictions", "labels", "dead_letters", "journal")
    return {
        **deciding,
        "kafka": {
            "bootstrap_servers": servers.bootstrap_servers,
            "group": case,
            **{role: {"topic": f"{case}.{role}"} for role in roles},
        },
        "redis": {"url": servers.redis_url, "namespace": case, "shards": 4},
        "worker": {"batch_records": 40, "evaluate_every": "100ms"},
    }


def written(folder: Path, settings: Mapping[str, Any]) -> Path:
    path = folder / "recallwatch.yaml"
    path.write_text(yaml.safe_dump(dict(settings)))
    return path


def started(asked: Sequence[Sequence[object]], **changed: str) -> subprocess.Popen[str]:
    """Commands, one after the other, in a process of its own with no settings from outside."""
    told = json.dumps([[*map(str, arguments)] for arguments in asked])
    return subprocess.Popen(
        [sys.executable, "-c", ASKED_OF_EACH, told],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("RECALLWATCH_")} | changed,
        stdout=subprocess.PIPE,
        text=True,
    )


def answers_of(process: subprocess.Popen[str]) -> list[str]:
    """What each command wrote; all of them must have ended well."""
    out, _ = process.communicate()
    assert process.returncode == 0
    return out.split("\f\n")[:-1]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A stream with an incident in it, read to its end, and an archive of it all.

    It is fed and read in two parts, so that there are two evaluations however fast it is read.
    """
    folder = tmp_path_factory.mktemp("audited")
    records = by_key(simulated(SCENARIO, end_ms=T0_MS), PARTITIONS)
    half = len(records) // 2
    files = captured(folder / "captured", records)
    first = captured(folder / "first", records[:half])
    second = captured(folder / "second", records[half:])
    with embedded_servers(folder / "servers") as servers:
        config = written(folder, settings_on(servers))
        archive, named = folder / "archive", ("--config", config)
        asked = (
            ("feed", first, "--create-topics", PARTITIONS, *named),
            ("run", "--until-caught-up", *named),
            ("feed", second, *named),
            ("run", "--until-caught-up", *named),
            ("report", "--out", folder / "report", *named),
            ("archive", "copy", "--to", archive, *named),
        )
        *_, report, _, _ = answers_of(started(asked))
        told = folder / "report" / "report.json"
        yield Watched(config, files, records, json.loads(report), told, archive, servers)


@pytest.fixture
def run(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """The command in this process, with the settings of the live run unless others are named."""
    for name in list(os.environ):
        if name.startswith("RECALLWATCH_"):
            monkeypatch.delenv(name)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def run_here(*arguments: object, config: Path = watched.config) -> Ended:
        told = [*map(str, arguments), "--config", str(config)]
        monkeypatch.setattr(sys, "argv", ["recallwatch", *told])
        code: object = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        out, err = capsys.readouterr()
        assert isinstance(code, int)
        assert "Traceback" not in err
        return Ended(code, out, err)

    yield run_here
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    structlog.reset_defaults()


def alarm_of(watched: Watched, rule: str = "urgent-recall") -> dict[str, Any]:
    """The first page of a rule."""
    rows = watched.report["transitions"]
    return next(row for row in rows if (row["rule"], row["to"]) == (rule, "firing"))


# The log


def test_every_alert_and_every_digest_is_reproduced_from_the_log(
    run: Run, watched: Watched
) -> None:
    ended = run("audit", "verify", "--all", "--format", "json")
    assert ended.code == 0, ended.out
    result = json.loads(ended.out)
    assert result["holds"] is True
    assert result["records"] == len(watched.records)
    assert result["transitions"] == len(watched.report["transitions"])
    assert result["digests"] > result["journal_entries"] > 1


def test_one_alert_is_reproduced_from_as_much_of_the_log_as_it_stands_on(
    run: Run, watched: Watched
) -> None:
    ended = run("audit", "verify", alarm_of(watched)["id"])
    assert ended.code == 0, ended.out
    assert ended.out.endswith("everything was reproduced bit for bit\n")


def test_an_alert_is_shown_with_the_records_that_count_and_where_they_stand(
    run: Run, watched: Watched
) -> None:
    alarm = alarm_of(watched)
    alert = alarm["id"].rsplit("-", 1)[0]
    ended = run("audit", "show", alert, "--format", "json")
    assert ended.code == 0, ended.err
    shown = json.loads(ended.out)
    evidence = shown["evidence"]
    assert (shown["id"], shown["to"]) == (alarm["id"], "firing")
    assert (evidence["hits"], evidence["n"]) == (alarm["hits"], alarm["n"])
    assert len(shown["records"]) == evidence["n"]
    assert sum(record["hit"] for record in shown["records"]) == evidence["hits"]
    standing = positions_of(watched.records)
    for record in shown["records"]:
        for kind in ("predictions", "labels"):
            assert record[kind]
            assert set(record[kind]) <= standing[kind][record["prediction_id"]]
    told = run("audit", "show", alert).out
    assert f"{evidence['n']} records that count" in told
    assert shown["records"][0]["prediction_id"] in told


def positions_of(records: list[Record]) -> dict[str, dict[str, set[str]]]:
    """Kind -> prediction id -> where the topics hold it; what cannot be read has none."""
    found: dict[str, dict[str, set[str]]] = {"predictions": {}, "labels": {}}
    for record in records:
        place = f"{CASE}.{record.topic}[{record.partition}]@{record.offset}"
        try:
            name = json.loads(record.value or b"")["prediction_id"]
        except (ValueError, KeyError, TypeError):
            continue
        found[record.topic].setdefault(name, set()).add(place)
    return found


def test_an_alert_that_there_is_not_is_answered_with_those_that_there_are(
    run: Run, watched: Watched
) -> None:
    for command in ("verify", "show"):
        ended = run("audit", command, "beef")
        assert ended.code == 1
        assert alarm_of(watched)["id"].rsplit("-", 1)[0] in ended.err


def test_a_rule_that_was_changed_since_is_named_with_what_it_was_and_is(
    run: Run, watched: Watched, tmp_path: Path
) -> None:
    settings = yaml.safe_load(watched.config.read_text())
    settings["rules"][0]["objective"] = 0.7
    ended = run("audit", "verify", "--all", config=written(tmp_path, settings))
    assert ended.code == 1
    first = "FIRST DIFFERENCE  setting rules.urgent-recall.objective: expected 0.8, found 0.7\n"
    assert first in ended.out


def test_a_transition_that_was_altered_in_the_store_is_named(run: Run, watched: Watched) -> None:
    alarm, url = alarm_of(watched), watched.servers.redis_url
    with closing(redis.Redis.from_url(url, decode_responses=True)) as client:
        (key,) = client.scan_iter(f"*{CASE}*:transitions")
        rows = [str(row) for row in client.lrange(key, 0, -1)]
        place = next(n for n, row in enumerate(rows) if alarm["id"] in row)
        client.lset(key, place, rows[place].replace(" mature ", " recent "))
        ended = run("audit", "verify", "--all")
        client.lset(key, place, rows[place])
    assert ended.code == 1
    first = f"FIRST DIFFERENCE  stored transition {alarm['id']}, reason: expected {alarm['reason']}"
    assert first in ended.out


# The archive


def test_the_archive_is_whole_and_gives_the_same_without_kafka_and_redis(
    run: Run, watched: Watched
) -> None:
    looked = run("archive", "verify", watched.archive, "--against-log")
    assert looked.code == 0, looked.out
    audited = run("audit", "verify", "--all", "--archive", watched.archive, "--offline")
    assert audited.code == 0, audited.out
    alert = alarm_of(watched)["id"]
    shown = run("audit", "show", alert, "--archive", watched.archive, "--offline")
    assert shown.code == 0, shown.err
    assert shown.out == run("audit", "show", alert).out


def test_a_flipped_byte_in_the_archive_is_named_and_no_audit_passes(
    run: Run, watched: Watched, tmp_path: Path
) -> None:
    archive = tmp_path / "archive"
    shutil.copytree(watched.archive, archive)
    name = next(e.path for e in open_archive(str(archive)).manifest.files if "labels" in e.path)
    damaged = bytearray((archive / name).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (archive / name).write_bytes(damaged)
    looked = run("archive", "verify", archive)
    assert looked.code == 1
    assert name in looked.out
    audited = run("audit", "verify", "--all", "--archive", archive, "--offline")
    assert audited.code != 0
    assert "bit for bit" not in audited.out
    assert name in audited.out + audited.err


# The report


def test_a_report_is_reproduced_from_the_log_and_from_the_archive(
    run: Run, watched: Watched
) -> None:
    for where in ([], ["--archive", watched.archive, "--offline"]):
        ended = run("audit", "report", watched.report_file, *where)
        assert ended.code == 0, ended.out


@pytest.mark.parametrize("is_digest_changed", [False, True])
def test_numbers_that_were_changed_in_a_report_are_named_whatever_its_digest_says(
    run: Run, watched: Watched, tmp_path: Path, is_digest_changed: bool
) -> None:
    told = json.loads(watched.report_file.read_text("utf-8"))
    told["variants"]["ALL"]["labelled"] += 1
    told["transitions"][0]["reason"] = "all is well"
    if is_digest_changed:
        told["digest"] = "sha256:" + "0" * 64
    changed = tmp_path / "report.json"
    changed.write_text(json.dumps(told))
    ended = run("audit", "report", changed)
    assert ended.code == 1
    right = watched.report["variants"]["ALL"]["labelled"]
    assert f"number variants.ALL.labelled: expected {right + 1}, found {right}\n" in ended.out
    assert "number transitions[0].reason: expected all is well, found " in ended.out
    assert ("number digest: " in ended.out) == is_digest_changed


def test_what_is_no_report_is_said_to_be_none(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text('{"digest": "sha256:1"}')
    ended = run("audit", "report", path)
    assert ended.code == 1
    assert f"{path}: not a report" in ended.err


# Replay


def test_log_archive_and_files_give_the_live_digest_under_any_hash_seed_and_batch_size(
    watched: Watched,
) -> None:
    archive, files = ("--archive", watched.archive, "--offline"), ("--files", watched.files)
    asked = [["replay", *where, "--config", watched.config] for where in ((), archive, files)]
    processes = [
        started(asked, PYTHONHASHSEED=str(seed), RECALLWATCH_WORKER__BATCH_RECORDS=str(batch))
        for seed, batch in enumerate(BATCHES)
    ]
    answers = [answer for process in processes for answer in answers_of(process)]
    digests = [json.loads(answer)["digest"] for answer in answers]
    assert digests == [watched.report["digest"]] * len(asked) * len(BATCHES)


def test_a_replay_up_to_a_report_gives_the_numbers_of_the_report(
    run: Run, watched: Watched
) -> None:
    ended = run("replay", "--to", watched.report_file)
    assert ended.code == 0, ended.err
    replayed = json.loads(ended.out)
    for part in ("digest", "as_of", "ledger", "variants", "hours", "cut"):
        assert replayed[part] == watched.report[part], part


def test_what_was_known_then_stands_beside_what_is_known_now(run: Run, watched: Watched) -> None:
    alarm = alarm_of(watched)
    ended = run("replay", "--as-of", alarm["at"])
    assert ended.code == 0, ended.err
    now = json.loads(ended.out)
    then = now["known_then"]
    assert now["digest"] == watched.report["digest"]
    assert then["as_of"] == alarm["at"]
    before = [row["id"] for row in watched.report["transitions"] if row["at"] < alarm["at"]]
    assert [row["id"] for row in then["transitions"]] == before
    labelled = [known["variants"]["ALL"]["labelled"] for known in (then, now)]
    assert labelled == sorted(set(labelled))


def test_other_rules_are_tried_on_the_history(run: Run, watched: Watched, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        yaml.safe_dump(
            {
                "rules": [
                    {
                        "name": "naive",
                        "detector": "threshold",
                        "of": "urgent",
                        "per": ["variant"],
                        "objective": 0.8,
                        "window": "1h",
                    }
                ]
            }
        )
    )
    ended = run("replay", "--rules", rules)
    assert ended.code == 0, ended.err
    assert "naive" in ended.out


# What Kafka has dropped; last, since it is gone then


def test_an_audit_outlives_the_retention_of_the_log_with_an_archive(
    run: Run, watched: Watched
) -> None:
    before = {TopicPartition(f"{CASE}.labels", number): 30 for number in range(PARTITIONS)}
    with closing(KafkaAdminClient(bootstrap_servers=watched.servers.bootstrap_servers)) as admin:
        admin.delete_records(before)
    alone = run("audit", "verify", "--all")
    assert alone.code == 1
    assert "(--archive)" in alone.err
    both = run("audit", "verify", "--all", "--archive", watched.archive)
    assert both.code == 0, both.out
