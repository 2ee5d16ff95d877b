"""`recallwatch leakage` from training files and captured records to an answer and an exit code."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks.planted import EDITS, messages
from monitor.adapters.archive import Folder, copy_topics
from monitor.adapters.kafka import KafkaConnection
from monitor.app.leakage_report import load_checks
from monitor.app.replay import replay_files
from monitor.app.report import iso, present_report
from monitor.app.settings import Settings, SettingsError
from monitor.domain.events import Kind, Partition, Record
from monitor.domain.leakage import Finding
from monitor.domain.windows import DAY_MS
from tests.adapters.histories import ListSource
from tests.app.captures import captured
from tests.app.test_cli import Ended, Run, run, written
from tests.app.test_cli import live as live_settings
from tests.builders import MINUTE_MS, T0, URGENT, label_message, prediction_message, record

__all__ = ["run"]

SETTINGS: dict[str, Any] = {"intents": {"groups": {"urgent": sorted(URGENT)}}}
DICE = random.Random(11)
TRAINING = messages(DICE, 200)
NEW = messages(DICE, 400, frozenset(TRAINING))[:300]
EXACT, NEAR = 20, 14
SECRET = "my name is Erika Mustermann and i want to block everything"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def edited() -> list[str]:
    """Two of each kind of change."""
    dice = random.Random(3)
    kinds = [edit for edit in EDITS.values() for _ in range(2)]
    return [edit(dice, text) for edit, text in zip(kinds, TRAINING[50:], strict=False)]


def live(*, fields: tuple[str, ...] = ("text",), variant: str = "fine_tuned") -> list[Record]:
    """Exact ones, near ones and new ones, a minute apart, each with a label that follows.

    Every leaked answer is right, every second new one is wrong.
    """
    records, texts = [], [*TRAINING[:EXACT], *edited(), *NEW]
    for number, text in enumerate(texts):
        told = {"text": text, "text_hash": digest(text)}
        is_right, at_ms = number < EXACT + NEAR or number % 2 == 0, T0 + number * MINUTE_MS
        prediction = prediction_message(
            prediction_id=f"{variant}-{number}",
            event_time=iso(at_ms),
            variant=variant,
            predicted_intent="lost_card" if is_right else "balance",
            **{name: told[name] for name in fields},
        )
        label = label_message(
            prediction_id=f"{variant}-{number}", label_time=iso(at_ms), true_intent="lost_card"
        )
        records += [
            record(prediction, offset=number, log_ms=at_ms + 10),
            record(label, topic="labels", offset=number, log_ms=at_ms + 20),
        ]
    return records


def ended_with(
    run: Run, folder: Path, records: list[Record], *more: object, training: list[str] = TRAINING
) -> Ended:
    train = folder / "train.jsonl"
    train.write_text("".join(json.dumps({"text": text}) + "\n" for text in training))
    files = captured(folder / "captured", records)
    settings = written(folder, SETTINGS)
    return run("leakage", "--config", settings, "--train", train, "--files", files, *more)


def answered(run: Run, folder: Path, records: list[Record], *more: object) -> dict[str, Any]:
    ended = ended_with(run, folder, records, "--format", "json", *more)
    document: dict[str, Any] = json.loads(ended.out)
    return document


def test_planted_duplicates_are_counted_and_the_answer_is_that_they_leaked(
    run: Run, tmp_path: Path
) -> None:
    ended = ended_with(run, tmp_path, live(), "--format", "json")
    assert ended.code == 1
    document = json.loads(ended.out)
    assert (document["version"], document["answer"]) == (1, "above")
    leaked = document["variants"]["fine_tuned"]["leaked"]
    assert (leaked["exact"], leaked["open"], leaked["n"]) == (EXACT, 0, EXACT + NEAR + len(NEW))
    assert NEAR - 1 <= leaked["near"] <= NEAR + 2
    assert document["variants"]["fine_tuned"]["groups"]["urgent"] == leaked


def test_metrics_are_those_of_a_replay_and_fall_without_the_leaked_share(
    run: Run, tmp_path: Path
) -> None:
    variants = answered(run, tmp_path, live())["variants"]
    settings = Settings.model_validate(SETTINGS)
    report = present_report(replay_files(tmp_path / "captured", settings), settings)
    replayed: Any = report["variants"]
    for variant in ("ALL", "fine_tuned"):
        metrics = variants[variant]["metrics"]
        assert metrics["all"]["accuracy"]["value"] == replayed[variant]["accuracy"]
        recall = replayed[variant]["groups"]["urgent"]["recall"]
        assert metrics["all"]["groups"]["urgent"]["recall"]["value"] == recall
        assert metrics["leaked"]["accuracy"]["value"] >= 0.9
        assert 0.45 < metrics["without_leaked"]["accuracy"]["value"] < 0.55
        assert metrics["without_leaked"]["accuracy"]["interval"] is not None


def test_hashes_alone_find_exact_ones_and_leave_near_ones_unknown(run: Run, tmp_path: Path) -> None:
    document = answered(run, tmp_path, live(fields=("text_hash",)))
    leaked = document["variants"]["fine_tuned"]["leaked"]
    assert (leaked["exact"], leaked["near"], leaked["open"]) == (EXACT, None, NEAR + len(NEW))
    text = ended_with(run, tmp_path, live(fields=("text_hash",))).out
    assert "Near duplicates: unknown, live messages carry no text" in text
    assert "near unknown" in text


def test_hashes_alone_are_not_enough_unless_only_exact_ones_are_asked_for(
    run: Run, tmp_path: Path
) -> None:
    records = live(fields=("text_hash",))
    other = [f"nobody says number {n}" for n in range(30)]
    assert ended_with(run, tmp_path, records, "--limit", 0.05, training=other).code == 2
    ended = ended_with(run, tmp_path, records, "--limit", 0.05, "--exact-only", training=other)
    assert (ended.code, "Within the limit" in ended.out) == (0, True)


def test_messages_with_neither_text_nor_hash_are_not_enough(run: Run, tmp_path: Path) -> None:
    ended = ended_with(run, tmp_path, live(fields=()))
    assert ended.code == 2
    assert "leaked share: unknown, none of 334 predictions carries a text or a hash" in ended.out


def test_nothing_leaked_is_within_the_limit(run: Run, tmp_path: Path) -> None:
    other = [f"qzx{n} vwk{n} jjy{n}" for n in range(50)]
    ended = ended_with(run, tmp_path, live(), "--limit", 0.05, training=other)
    assert (ended.code, ended.out.splitlines()[0]) == (0, "Within the limit (5.0 %).")


def test_a_variant_can_be_chosen_and_an_unknown_one_is_named(run: Run, tmp_path: Path) -> None:
    records = [*live(), *(r._replace(partition=1) for r in live(variant="prompt"))]
    records.sort(key=lambda each: each.log_ms)
    document = answered(run, tmp_path, records, "--variant", "prompt")
    assert list(document["variants"]) == ["ALL", "prompt"]
    assert document["variants"]["ALL"]["leaked"]["n"] == 334
    ended = ended_with(run, tmp_path, records, "--variant", "claude")
    assert (ended.code, "no prediction of claude" in ended.err) == (64, True)


def test_examples_are_masked_unless_texts_are_asked_for(run: Run, tmp_path: Path) -> None:
    training = [*TRAINING[:5], SECRET]
    said = prediction_message(prediction_id="p-17", text=f"{SECRET}!")
    records = [record(said)]
    masked = ended_with(run, tmp_path, records, training=training)
    assert "near 1.00  p-17  predictions[0]@0  fine_tuned  train.jsonl:6" in masked.out
    assert "Erika" not in masked.out + masked.err
    shown = ended_with(run, tmp_path, records, "--show-texts", training=training)
    assert f"live:     {SECRET}!" in shown.out
    assert f"training: {SECRET}\n" in shown.out
    assert "Erika" not in ended_with(run, tmp_path, records, "--examples", 0).out


def test_examples_are_the_earliest_ones_and_a_copy_of_a_prediction_counts_once(
    run: Run, tmp_path: Path
) -> None:
    records = live()
    again = records[0]._replace(offset=1_000, log_ms=records[-1].log_ms + 5)
    document = answered(run, tmp_path, [*records, again], "--examples", 3)
    found = [example["prediction_id"] for example in document["examples"]]
    assert found == ["fine_tuned-0", "fine_tuned-1", "fine_tuned-2"]
    assert document["variants"]["fine_tuned"]["leaked"]["exact"] == EXACT


def test_a_hash_that_is_not_that_of_the_text_is_told_and_the_text_counts(
    run: Run, tmp_path: Path
) -> None:
    records = live(fields=("text", "text_hash"))
    assert answered(run, tmp_path, records)["live"]["disagreeing_hash"] == 0
    ended = ended_with(run, tmp_path, records, "--hash", "md5")
    assert "The text_hash of 334 is not the hash of their text" in ended.out
    assert f"{EXACT} exact" in ended.out


@pytest.mark.parametrize(
    ("form", "exact"), [("raw", 0), ("trimmed", 0), ("lower", 1), ("words", 1)]
)
def test_hashes_are_compared_in_the_form_that_was_asked_for(
    run: Run, tmp_path: Path, form: str, exact: int
) -> None:
    records = [record(prediction_message(text_hash=digest("i lost my card")))]
    files = captured(tmp_path / "captured", records)
    train = tmp_path / "few-shot.csv"
    train.write_text("text,intent\n I lost my CARD,lost_card\n")
    options = ["--train", train, "--files", files, "--hashed", form, "--format", "json"]
    found = json.loads(run("leakage", *options).out)
    assert found["variants"]["ALL"]["leaked"]["exact"] == exact


def test_short_training_texts_are_left_out(run: Run, tmp_path: Path) -> None:
    records = [record(prediction_message(text="hello"))]
    ended = ended_with(run, tmp_path, records, training=["hello", "i lost my card"])
    assert "1 left out (fewer than 3 words)" in ended.out
    assert "0 exact, 0 near of 1" in ended.out
    ended = ended_with(run, tmp_path, records, "--least-words", 1, training=["hello"])
    assert "1 exact, 0 near of 1" in ended.out


def test_records_of_another_shape_are_read_by_their_mapping(run: Run, tmp_path: Path) -> None:
    message = {
        "event": "user",
        "message_id": "m1",
        "timestamp": T0 / 1000,
        "metadata": {"model_id": "rasa"},
        "parse_data": {"intent": {"name": "lost_card"}},
        "text": TRAINING[0],
    }
    settings = {**SETTINGS, "mapping": {"predictions": {"preset": "rasa"}}}
    train = tmp_path / "few-shot.txt"
    train.write_text("\n".join(TRAINING))
    files = captured(tmp_path / "captured", [record(message)])
    path = written(tmp_path, settings)
    ended = run("leakage", "--config", path, "--train", train, "--files", files, "--format", "json")
    assert json.loads(ended.out)["variants"]["rasa"]["leaked"]["exact"] == 1


def test_the_file_for_a_verdict_holds_the_checks(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "leakage.json"
    document = answered(run, tmp_path, live(), "--out", out)
    assert json.loads(out.read_text("utf-8")) == document
    checks = load_checks(out)
    assert list(checks) == ["ALL", "fine_tuned"]
    found, section = checks["fine_tuned"], document["variants"]["fine_tuned"]
    assert found.finding is Finding.ABOVE
    assert (found.share.copies, found.share.value) == (EXACT, section["leaked"]["share"])
    accuracy = section["metrics"]["without_leaked"]["accuracy"]
    assert found.without.accuracy.value == accuracy["value"]
    assert found.without.accuracy.interval == tuple(accuracy["interval"])
    assert found.all.groups["urgent"].recall.support == 334


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"version": 9}', "version 9, this release reads 1"),
        ("[]", "not written by recallwatch leakage --out"),
        ('{"version": 1}', "not written by recallwatch leakage --out"),
        ("{", "not written by recallwatch leakage --out"),
    ],
)
def test_a_file_that_holds_no_checks_is_refused(tmp_path: Path, content: str, named: str) -> None:
    path = tmp_path / "leakage.json"
    path.write_text(content)
    with pytest.raises(SettingsError, match=named):
        load_checks(path)


@pytest.mark.parametrize(
    ("training", "named"),
    [
        ('{"say": "a b c"}\n', "train.jsonl:1: no text in field 'text'; there are say"),
        ("", "--train: 0 texts were read, none has 3 words or more"),
        ('"hi"\n', "--train: 1 texts were read, none has 3 words or more"),
    ],
)
def test_training_files_that_cannot_be_used_are_a_usage_error(
    run: Run, tmp_path: Path, training: str, named: str
) -> None:
    train = tmp_path / "train.jsonl"
    train.write_text(training)
    files = captured(tmp_path / "captured", [])
    ended = run("leakage", "--train", train, "--files", files)
    assert (ended.code, ended.out) == (64, "")
    assert named in ended.err


def test_an_end_may_be_named_for_captured_records_and_a_start_may_not(
    run: Run, tmp_path: Path
) -> None:
    end = iso(T0 + 5 * MINUTE_MS)
    document = answered(run, tmp_path, live(), "--to", end)
    assert document["variants"]["ALL"]["leaked"]["n"] == 5
    ended = ended_with(run, tmp_path, live(), "--from", end)
    assert (ended.code, "--files is read whole" in ended.err) == (64, True)


def test_an_out_file_that_cannot_be_written_is_a_usage_error(run: Run, tmp_path: Path) -> None:
    ended = ended_with(run, tmp_path, live()[:2], "--out", tmp_path / "none" / "leakage.json")
    assert (ended.code, "cannot be written" in ended.err) == (64, True)


def test_no_predictions_are_not_enough(run: Run, tmp_path: Path) -> None:
    ended = ended_with(run, tmp_path, [])
    assert (ended.code, "leaked share: no predictions" in ended.out) == (2, True)


def test_what_kafka_holds_gives_the_answer_of_the_captured_records_from_a_time_on(
    run: Run, tmp_path: Path, broker: KafkaConnection
) -> None:
    settings = live_settings(broker, None, **SETTINGS)
    train, config = tmp_path / "train.txt", written(tmp_path, settings)
    train.write_text("\n".join(TRAINING))
    files = captured(tmp_path / "captured", live())
    assert run("feed", files, "--create-topics", 1, "--config", config).code == 0
    options = ["--config", config, "--train", train, "--format", "json"]
    from_kafka = json.loads(run("leakage", *options).out)
    assert (
        from_kafka["variants"]
        == json.loads(run("leakage", *options, "--files", files).out)["variants"]
    )
    later = json.loads(run("leakage", *options, "--from", iso(T0 + EXACT * MINUTE_MS)).out)
    leaked = later["variants"]["ALL"]["leaked"]
    assert (leaked["exact"], leaked["n"]) == (0, NEAR + len(NEW))


def test_an_archive_gives_the_answer_of_the_captured_records(run: Run, tmp_path: Path) -> None:
    train, config = tmp_path / "train.txt", written(tmp_path, SETTINGS)
    train.write_text("\n".join(TRAINING))
    place, files = tmp_path / "archive", captured(tmp_path / "captured", live())
    kept = {
        Partition(topic, 0): ListSource([each for each in live() if each.topic == topic])
        for topic in Kind
    }
    copy_topics(
        Folder.at(str(place)), {str(kind): str(kind) for kind in Kind}, kept, now_ms=T0 + DAY_MS
    )
    options = ["--config", config, "--train", train, "--format", "json"]
    archived = run("leakage", *options, "--archive", place, "--offline")
    assert archived.code == 1
    plain = json.loads(run("leakage", *options, "--files", files).out)
    assert json.loads(archived.out)["variants"] == plain["variants"]


@pytest.mark.parametrize("wrong", [["--no-such-option"], ["--limit", 2], ["--config", "none"]])
def test_a_persons_mistake_is_told_apart_from_not_enough_evidence(
    run: Run, tmp_path: Path, wrong: list[object]
) -> None:
    train = tmp_path / "train.txt"
    train.write_text("\n".join(TRAINING))
    ended = run("leakage", "--train", train, *wrong)
    assert (ended.code, "Traceback" in ended.err) == (64, False)


def test_captured_records_that_are_none_are_a_usage_error(run: Run, tmp_path: Path) -> None:
    files = captured(tmp_path / "captured", [])
    (files / "predictions.jsonl").write_text("{")
    train = tmp_path / "train.txt"
    train.write_text("\n".join(TRAINING))
    ended = run("leakage", "--train", train, "--files", files)
    assert (ended.code, "predictions.jsonl:1" in ended.err) == (64, True)


def test_a_broker_that_is_not_reached_ends_with_3(
    run: Run, tmp_path: Path, unreachable_broker: KafkaConnection
) -> None:
    train, config = (
        tmp_path / "train.txt",
        written(tmp_path, live_settings(unreachable_broker, None)),
    )
    train.write_text("\n".join(TRAINING))
    ended = run("leakage", "--config", config, "--train", train)
    assert (ended.code, "is unreachable" in ended.err) == (3, True)
