"""The simulated bank, judged from its bytes by a small reader and alert rule of their own."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice, takewhile
from statistics import median
from typing import Any, NamedTuple

import pytest

from monitor.app.simulate import INTENTS, URGENT, Scenario, SimulatedRecord, simulate
from monitor.domain.detectors import Mixture, down_factors

HOUR_MS = 3_600_000
T0_MS = 1_795_341_600_000
CLEAN = Scenario(
    history=timedelta(hours=3),
    incident_ago=timedelta(minutes=90),
    mean_rate=2,
    review_median=timedelta(minutes=20),
    malformed_share=0,
)

Fields = dict[str, Any]


class Answer(NamedTuple):
    """A prediction with its final label; `actual` is None without one. Times are ms from t0."""

    variant: str
    version: str
    predicted: str
    actual: str | None
    event_ms: int
    delay_ms: int
    source: str


def until(scenario: Scenario, end_ms: int, *, t0_ms: int = T0_MS) -> Iterator[SimulatedRecord]:
    stream = simulate(scenario, t0_ms)
    return takewhile(lambda record: record.log_ms < t0_ms + end_ms, stream)


def fields_of(record: SimulatedRecord) -> Fields | None:
    """The decoded value, or None if it is not a record of the wire format."""
    try:
        fields = json.loads(record.value or b"")
    except ValueError:
        return None
    check = is_prediction if record.topic == "predictions" else is_label
    return fields if isinstance(fields, dict) and check(fields) else None


def is_prediction(fields: Fields) -> bool:
    texts = ("prediction_id", "request_id", "conversation_id", "model_version", "text", "text_hash")
    return (
        all(isinstance(fields.get(name), str) and fields[name] for name in texts)
        and fields["variant"] in {"fine_tuned", "prompt"}
        and fields["channel"] in {"web", "mobile", "voice"}
        and fields["predicted_intent"] in INTENTS
        and 0 <= fields["confidence"] <= 1
        and 0 <= fields["latency_ms"] < math.inf
        and 0 <= fields.get("relevance", 0) <= 1
        and fields["schema_version"] == 1
        and is_time(fields["event_time"])
        and "prompt_version" in fields
        and math.isclose(sum(fields.get("scores", {"": 1}).values()), 1, abs_tol=0.01)
    )


def is_label(fields: Fields) -> bool:
    texts = ("prediction_id", "label_id", "annotator", "source")
    return (
        all(isinstance(fields.get(name), str) and fields[name] for name in texts)
        and isinstance(fields["true_intent"], str)
        and fields["true_intent"] in INTENTS
        and fields["revision"] >= 1
        and is_time(fields["label_time"])
        and ("supersedes" in fields) == (fields["revision"] > 1)
    )


def is_time(text: str) -> bool:
    return text.endswith("Z")


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def joined(records: list[tuple[SimulatedRecord, Fields]]) -> list[Answer]:
    predictions: dict[str, Fields] = {}
    first: dict[str, tuple[int, Fields]] = {}
    final: dict[str, Fields] = {}
    for record, fields in records:
        name = fields["prediction_id"]
        if record.topic == "predictions":
            predictions[name] = fields
            continue
        first.setdefault(name, (record.log_ms, fields))
        if fields["revision"] >= final.get(name, fields)["revision"]:
            final[name] = fields
    answers = []
    for name, fields in predictions.items():
        event_ms = ms(fields["event_time"])
        log_ms, label = first.get(name, (event_ms, {"source": ""}))
        actual = final.get(name, {"true_intent": None})["true_intent"]
        who = (fields["variant"], fields["model_version"], fields["predicted_intent"])
        answers.append(Answer(*who, actual, event_ms - T0_MS, log_ms - event_ms, label["source"]))
    return answers


def first_alerts(records: Iterator[SimulatedRecord]) -> dict[str, int]:
    """The log time, per variant, at which the evidence against 80 % first reaches 36 000.

    One vote per conversation and version whose first label is urgent, in the order in which the
    later of the two reached the log.
    """
    predicted: dict[str, tuple[str, str, str, str]] = {}
    actual: dict[str, str] = {}
    mixtures: defaultdict[tuple[str, str], Mixture] = defaultdict(Mixture)
    spoken: set[tuple[str, str, str]] = set()
    fired: dict[str, int] = {}
    for record in records:
        fields = fields_of(record)
        if fields is None or fields.get("revision", 1) > 1:
            continue
        name = fields["prediction_id"]
        if record.topic == "predictions":
            seen = name in predicted
            told = ("variant", "model_version", "conversation_id", "predicted_intent")
            variant, version, talk, intent = (str(fields[field]) for field in told)
            predicted[name] = variant, version, talk, intent
        else:
            seen = name in actual
            actual[name] = fields["true_intent"]
        if seen or name not in predicted or actual.get(name) not in URGENT:
            continue
        variant, version, talk, intent = predicted[name]
        if (variant, version, talk) in spoken:
            continue
        spoken.add((variant, version, talk))
        mixture = mixtures[variant, version]
        if mixture.observe(down_factors(0.80), 0, hit=intent in URGENT) >= 36_000:
            fired.setdefault(variant, record.log_ms)
    return fired


def accuracy(answers: list[Answer]) -> float:
    return sum(a.predicted == a.actual for a in answers) / len(answers)


def urgent_recall(answers: list[Answer]) -> float:
    urgent = [a for a in answers if a.actual in URGENT]
    return sum(a.predicted in URGENT for a in urgent) / len(urgent)


def of(variant: str, answers: list[Answer]) -> list[Answer]:
    return [a for a in answers if a.variant == variant]


@pytest.fixture(scope="module")
def clean() -> list[tuple[SimulatedRecord, Fields]]:
    pairs = [(record, fields_of(record)) for record in until(CLEAN, 2 * HOUR_MS)]
    assert [record for record, fields in pairs if fields is None] == []
    return [(record, fields) for record, fields in pairs if fields is not None]


@pytest.fixture(scope="module")
def answers(clean: list[tuple[SimulatedRecord, Fields]]) -> list[Answer]:
    """Answers up to t0, nearly all of whose labels have come two hours later."""
    return [a for a in joined(clean) if a.actual is not None and a.event_ms < 0]


@pytest.fixture(scope="module")
def healthy(answers: list[Answer]) -> list[Answer]:
    return [a for a in answers if a.event_ms < -1.5 * HOUR_MS]


@pytest.fixture(scope="module")
def broken(answers: list[Answer]) -> list[Answer]:
    return [a for a in answers if a.event_ms >= -1.5 * HOUR_MS]


@pytest.fixture(scope="module")
def day() -> list[SimulatedRecord]:
    return list(until(Scenario(), 0))


def test_bytes_are_the_same_when_seed_and_start_are() -> None:
    first, again, other = (
        list(islice(simulate(Scenario(seed=seed), T0_MS), 3000)) for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_schedule_is_the_same_but_ids_differ_when_the_start_moves() -> None:
    later_ms = T0_MS + 7 * HOUR_MS + 123
    here = list(islice(simulate(Scenario(), T0_MS), 3000))
    there = list(islice(simulate(Scenario(), later_ms), 3000))
    assert [r.log_ms - T0_MS for r in here] == [r.log_ms - later_ms for r in there]
    assert not {r.key for r in here} & {r.key for r in there}


def test_customers_and_times_are_the_same_when_there_is_no_incident() -> None:
    def requests(scenario: Scenario) -> list[tuple[str, str]]:
        decoded = (fields_of(record) for record in until(scenario, -2 * HOUR_MS))
        return [(f["event_time"], f["text"]) for f in decoded if f and "text" in f]

    calm = replace(CLEAN, incident_ago=None)
    broken = replace(calm, incident_ago=calm.history)
    assert requests(calm) == requests(broken)


def test_log_time_never_decreases_and_starts_with_the_history(day: list[SimulatedRecord]) -> None:
    times = [record.log_ms for record in day]
    assert times == sorted(times)
    assert 0 <= times[0] - (T0_MS - 24 * HOUR_MS) < HOUR_MS / 10


def test_a_day_of_history_stays_below_eighty_thousand_predictions(
    day: list[SimulatedRecord],
) -> None:
    assert 70_000 < sum(record.topic == "predictions" for record in day) < 80_000


def test_night_has_less_than_half_of_the_traffic_of_the_day(day: list[SimulatedRecord]) -> None:
    per_hour = Counter(
        (record.log_ms - T0_MS) // HOUR_MS for record in day if record.topic == "predictions"
    )
    night = sum(per_hour[hour] for hour in range(-13, -9))
    morning = sum(per_hour[hour] for hour in range(-4, 0))
    assert night < morning / 2
    assert 1.3 < per_hour[-1] / 3600 < 1.7


def test_every_record_is_well_formed_and_keyed_when_no_damage_is_asked_for(
    clean: list[tuple[SimulatedRecord, Fields]],
) -> None:
    assert all(record.key == fields["prediction_id"].encode() for record, fields in clean)


def test_prediction_reaches_the_log_within_moments_when_it_is_not_held_up(
    clean: list[tuple[SimulatedRecord, Fields]],
) -> None:
    first: dict[str, int] = {}
    for record, fields in clean:
        if record.topic == "predictions":
            first.setdefault(fields["prediction_id"], record.log_ms - ms(fields["event_time"]))
    assert min(first.values()) >= 20
    assert 0.99 < sum(delay <= 400 for delay in first.values()) / len(first) < 1


def test_damaged_records_are_rare_and_of_several_kinds(day: list[SimulatedRecord]) -> None:
    damaged = [record for record in day if fields_of(record) is None]
    assert 0 < len(damaged) / len(day) < 0.001
    assert any(record.value is None for record in damaged)
    assert any(b"NaN" in (record.value or b"") for record in damaged)
    assert {record.topic for record in damaged} == {"predictions", "labels"}


def test_copies_are_identical_when_a_record_is_delivered_twice(
    clean: list[tuple[SimulatedRecord, Fields]],
) -> None:
    values: dict[str, bytes | None] = {}
    copies = 0
    for record, fields in clean:
        name = str(fields.get("label_id", fields["prediction_id"]))
        copies += name in values
        assert values.get(name, record.value) == record.value
        values[name] = record.value
    assert 0.003 < copies / len(clean) < 0.007


def test_some_labels_overtake_their_prediction(
    clean: list[tuple[SimulatedRecord, Fields]],
) -> None:
    predicted: set[str] = set()
    early: set[str] = set()
    for record, fields in clean:
        name = fields["prediction_id"]
        if record.topic == "predictions":
            predicted.add(name)
        elif name not in predicted:
            early.add(name)
    assert 0 < len(early) < 0.002 * len(predicted)


def test_correction_names_the_label_before_it_and_sometimes_changes_it(
    clean: list[tuple[SimulatedRecord, Fields]],
) -> None:
    first: dict[str, Fields] = {}
    changed = []
    for record, fields in clean:
        if record.topic == "labels" and fields["revision"] == 1:
            first[fields["label_id"]] = fields
        elif record.topic == "labels":
            before = first[fields["supersedes"]]
            assert before["prediction_id"] == fields["prediction_id"]
            changed.append(before["true_intent"] != fields["true_intent"])
    assert 0.001 < len(changed) / len(first) < 0.007
    assert 0 < sum(changed) < len(changed)


def test_shares_of_variants_urgent_requests_and_labels_are_as_declared(
    clean: list[tuple[SimulatedRecord, Fields]], answers: list[Answer]
) -> None:
    asked = [a for a in joined(clean) if a.event_ms < 0]
    assert 0.57 < len(of("fine_tuned", asked)) / len(asked) < 0.63
    assert 0.03 < sum(a.actual in URGENT for a in answers) / len(answers) < 0.04
    assert 0.95 < len(answers) / len(asked) < 0.98
    assert {a.actual for a in answers} == set(INTENTS)


def test_both_variants_notice_urgent_requests_when_healthy(healthy: list[Answer]) -> None:
    for variant in ("fine_tuned", "prompt"):
        assert urgent_recall(of(variant, healthy)) > 0.9
        assert accuracy(of(variant, healthy)) > 0.975


def test_accuracy_hardly_moves_when_the_release_breaks_urgent_recall(
    broken: list[Answer],
) -> None:
    assert urgent_recall(of("fine_tuned", broken)) < 0.25
    assert accuracy(of("fine_tuned", broken)) > 0.95
    assert accuracy(broken) > 0.95
    assert urgent_recall(of("prompt", broken)) > 0.9


def test_release_changes_the_version_of_fine_tuned_alone(
    healthy: list[Answer], broken: list[Answer]
) -> None:
    assert {(a.variant, a.version) for a in healthy} == {
        ("fine_tuned", "ft-2.3"),
        ("prompt", "base-1"),
    }
    assert {(a.variant, a.version) for a in broken} == {
        ("fine_tuned", "ft-2.4"),
        ("prompt", "base-1"),
    }


def test_routine_intents_are_unaffected_by_the_release(
    healthy: list[Answer], broken: list[Answer]
) -> None:
    for answers in (healthy, broken):
        routine = [a for a in of("fine_tuned", answers) if a.actual not in URGENT]
        assert 0.985 < accuracy(routine) < 0.996


def test_label_delays_have_the_medians_of_the_scenario(answers: list[Answer]) -> None:
    urgent = [a for a in answers if a.actual in URGENT and a.source == "agent_escalation"]
    found = median(a.delay_ms for a in urgent if a.predicted in URGENT) / 60_000
    missed = median(a.delay_ms for a in urgent if a.predicted not in URGENT) / 60_000
    review = median(a.delay_ms for a in answers if a.source == "review_queue") / 60_000
    assert 10 < found < 14
    assert 21 < missed < 29
    assert 18 < review < 22


def test_fine_tuned_stays_healthy_when_there_is_no_incident() -> None:
    calm = replace(CLEAN, incident_ago=None, rhythm=0, duplicate_share=0, mean_rate=1.5)
    records = [(r, f) for r in until(calm, 0) if (f := fields_of(r)) is not None]
    labelled = [a for a in joined(records) if a.actual is not None]
    assert urgent_recall(of("fine_tuned", labelled)) > 0.9
    assert {a.version for a in labelled} == {"ft-2.3", "base-1"}


@pytest.mark.parametrize("t0_ms", [T0_MS, 1_767_225_600_000, 1_709_164_799_999])
def test_alert_is_due_in_the_second_or_third_minute_whatever_the_start(t0_ms: int) -> None:
    fired = first_alerts(until(Scenario(), HOUR_MS // 2, t0_ms=t0_ms))
    assert set(fired) == {"fine_tuned"}
    assert 60_000 <= fired["fine_tuned"] - t0_ms <= 150_000


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("urgent_share", 1.5),
        ("malformed_share", math.nan),
        ("rhythm", -0.1),
        ("incident_recall", 2),
        ("mean_rate", 0.0),
        ("history", timedelta(seconds=-1)),
        ("review_median", timedelta(seconds=-1)),
    ],
)
def test_scenario_names_the_knob_when_it_is_out_of_bounds(knob: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{knob}="):
        replace(Scenario(), **{knob: value})  # type: ignore[arg-type] # a knob by name
