"""Exact numbers on real data: what a replay reports is what the oracle of each scenario says.

The oracle was computed by other code, with pandas and scikit-learn. Its JSON holds full precision,
its tables are rounded to six decimals.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby

import pytest

from monitor.adapters.files import FilesLog
from monitor.adapters.memory import MemoryLog, MemoryStore
from monitor.app.flow import Flow
from monitor.app.wiring import codec_of, spec_of, topics_of
from monitor.domain.counts import Counts, merge
from monitor.domain.events import Kind
from monitor.domain.scores import exact_recall, group_scores, headline, intent_scores
from monitor.domain.slices import ALL, SliceKey
from monitor.domain.windows import ALL_TIME, HOUR_MS, Clock, PaneKey
from monitor.ports import StateReader
from tests.replay.scenarios import FOLDER, NAMES, NO_DATA, Replay, Row, Scenario, replayed

if not FOLDER.is_dir():
    pytest.skip(NO_DATA, allow_module_level=True)

EXACT = 1e-9
TABLE = 5.000_001e-7
"""Tables are rounded to six decimals."""

REASONS = {
    "bad_json": "not_json",
    "empty_id": "empty_id",
    "future_timestamp": "future_time",
    "huge": "too_large",
    "missing_id": "missing_field",
    "nan": "not_finite",
    "negative_number": "out_of_range",
    "nested_wrong": "wrong_type",
    "tombstone": "null_value",
    "unknown_class": "unknown_intent",
    "wrong_encoding": "not_utf8",
    "wrong_type": "wrong_type",
}
"""The oracle's kinds of malformed records in our words."""

URGENT_CELLS = ("urgent_support", "urgent_tp", "urgent_fn", "urgent_fp")


@pytest.fixture(params=NAMES)
def scenario(request: pytest.FixtureRequest) -> Scenario:
    return Scenario(request.param)


@pytest.fixture
def replay(scenario: Scenario) -> Replay:
    return replayed(scenario)


def near(value: float | None, tolerance: float = EXACT) -> object:
    return None if value is None else pytest.approx(value, abs=tolerance, rel=0)


def cell(text: str) -> object:
    """A number of a table; None where it is empty."""
    return near(float(text), TABLE) if text else None


def instant_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def urgent_of(scenario: Scenario) -> frozenset[str]:
    return frozenset(scenario.about()["urgent"])


# Ledger and dead letters


def test_every_ledger_count_is_the_oracles(scenario: Scenario, replay: Replay) -> None:
    counts = scenario.oracle("summary")["counts"]
    corrected = counts["corrected_predictions"]
    predictions, labels = (dict(replay.report["ledger"][kind]) for kind in Kind)
    assert sum(predictions.pop("rejected").values()) == counts["rejected"]["prediction"]
    assert sum(labels.pop("rejected").values()) == counts["rejected"]["label"]
    assert predictions == {
        "received": counts["messages"]["prediction"],
        "accepted": counts["valid_predictions"],
        "labelled": counts["labelled_predictions"],
        "pending": counts["unlabelled_predictions"],
        "duplicate": counts["duplicates"]["prediction"],
        "expired": 0,
        "passed_over": 0,
    }
    assert labels == {
        "received": counts["messages"]["label"],
        "accepted": counts["valid_labels"],
        "applied": counts["labelled_predictions"],
        "superseded": counts["valid_labels"]
        - counts["orphan_labels"]
        - counts["labelled_predictions"],
        "orphan": counts["orphan_labels"],
        "duplicate": counts["duplicates"]["label"],
        "passed_over": 0,
        "expired": 0,
        "early": counts["labels_before_prediction"],
        "corrected": corrected,
    }


def test_rejections_are_counted_by_reason(scenario: Scenario, replay: Replay) -> None:
    about = scenario.about()
    for kind, topic in zip(Kind, about["topics"], strict=True):
        expected: Counter[str] = Counter()
        for malformed, places in about["malformed_partition_offset"][topic].items():
            expected[REASONS[malformed]] += len(places)
        assert replay.report["ledger"][kind]["rejected"] == expected


def test_every_malformed_record_is_a_dead_letter_with_reason_and_position(
    scenario: Scenario, replay: Replay
) -> None:
    malformed = scenario.about()["malformed_partition_offset"]
    expected = {
        (topic, partition, offset): REASONS[kind]
        for topic, kinds in malformed.items()
        for kind, places in kinds.items()
        for partition, offset in places
    }
    found = {}
    for record in replay.dead_letters:
        told = {name: value.decode() for name, value in record.headers}
        place = told["topic"], int(told["partition"]), int(told["offset"])
        assert record.key == f"{place[0]}[{place[1]}]@{place[2]}".encode()
        found[place] = told["reason"]
    assert len(replay.dead_letters) == len(found)
    assert found == expected


def test_a_dead_letter_holds_the_original_bytes(scenario: Scenario, replay: Replay) -> None:
    settings = scenario.settings()
    log = FilesLog(scenario.folder, topics_of(settings))
    values = {str(record.position).encode(): record.value for record in log.poll(100_000)}
    log.close()
    for letter in replay.dead_letters:
        assert letter.value == values[letter.key or b""]


# Scores of all time


def test_headline_scores_are_the_oracles(scenario: Scenario, replay: Replay) -> None:
    summary = scenario.oracle("summary")
    predictions = dict(summary["counts"]["predictions_by_variant"])
    predictions[ALL] = summary["counts"]["valid_predictions"]
    assert replay.report["variants"].keys() == summary["variants"].keys()
    for variant, expected in summary["variants"].items():
        found = replay.report["variants"][variant]
        assert found["predictions"] == predictions[variant]
        assert found["labelled"] == expected["n_labelled"]
        assert found["coverage"] == near(expected["n_labelled"] / predictions[variant])
        assert found["accuracy"] == near(expected["accuracy"])
        assert found["macro_f1"] == near(expected["macro_f1_all_registered"])
        assert found["balanced_accuracy"] == near(expected["macro_recall_present_classes"])


def test_coverage_of_everything_is_the_oracles(scenario: Scenario, replay: Replay) -> None:
    expected = scenario.oracle("summary")["counts"]["coverage"]
    assert replay.report["variants"][ALL]["coverage"] == near(expected)


def test_group_scores_are_the_oracles(scenario: Scenario, replay: Replay) -> None:
    for variant, expected in scenario.oracle("summary")["variants"].items():
        found = replay.report["variants"][variant]["groups"]["urgent"]
        assert found["support"] == expected["urgent_support"]
        assert found["hits"] == expected["urgent_tp"]
        assert found["recall"] == near(expected["urgent_group_recall"])
        assert found["precision"] == near(expected["urgent_group_precision"])
        assert found["exact_recall"] == near(expected["urgent_exact_recall"])
        assert list(found["interval"]) == [
            near(bound) for bound in expected["urgent_group_recall_wilson95"]
        ]


def test_scores_of_every_intent_are_the_oracles(scenario: Scenario, replay: Replay) -> None:
    """scikit-learn says 0.0 where nothing is to be divided; we say that it is undefined."""
    for variant, report in scenario.oracle("report").items():
        section = replay.report["variants"][variant]
        predicted = Counter[str]()
        for row in section["confusion"].values():
            predicted.update(row)
        for intent, expected in report["per_class"].items():
            support, answers = expected["support"], predicted[intent]
            found = section["intents"].get(intent)
            assert (found is None) == (not support and not answers), intent
            if found is None:
                continue
            assert found["support"] == support
            assert found["recall"] == near(expected["recall"] if support else None)
            assert found["precision"] == near(expected["precision"] if answers else None)
            assert found["f1"] == near(expected["f1"])
        assert section["intents"].keys() <= report["per_class"].keys()


def test_every_confusion_cell_is_the_oracles(scenario: Scenario, replay: Replay) -> None:
    for variant, section in replay.report["variants"].items():
        expected = {
            (row["actual"], predicted): int(count)
            for row in scenario.rows(f"confusion_{variant}.csv.gz")
            for predicted, count in row.items()
            if predicted != "actual" and int(count)
        }
        found = {
            (actual, predicted): count
            for actual, row in section["confusion"].items()
            for predicted, count in row.items()
        }
        assert found == expected


def test_latency_quantiles_are_the_oracles_to_two_percent(
    scenario: Scenario, replay: Replay
) -> None:
    """The sketch is right to 1 %; the oracle interpolates between two neighbours besides."""
    for variant, expected in scenario.oracle("summary")["latency_ms"].items():
        found = replay.report["variants"][variant]["latency_ms"]
        assert found == {
            name: pytest.approx(expected[name], rel=0.02) for name in ("p50", "p95", "p99")
        }


def test_every_joined_row_counts_once(scenario: Scenario, replay: Replay) -> None:
    expected = Counter(
        (row["variant"], row["label"], row["predicted"])
        for row in scenario.rows("joined.csv.gz")
        if row["status"] == "labelled"
    )
    found = {
        (variant, actual, predicted): count
        for variant, section in replay.report["variants"].items()
        if variant != ALL
        for actual, row in section["confusion"].items()
        for predicted, count in row.items()
    }
    assert found == expected


# Slices


def assert_headline(counts: Counts, row: Row, urgent: frozenset[str]) -> None:
    """The columns that the tables of versions and of hours share."""
    group = group_scores(counts.confusion, urgent)
    support = group.recall.support
    false = group.precision.support - group.hits
    assert counts.labelled == int(row["n_labelled"])
    assert headline(counts.confusion).accuracy.value == cell(row["accuracy"])
    found = (support, group.hits, support - group.hits, false)
    assert found == tuple(int(row[name]) for name in URGENT_CELLS)
    assert group.recall.value == cell(row["urgent_group_recall"])
    assert group.precision.value == cell(row["urgent_group_precision"])
    assert exact_recall(counts.confusion, urgent).value == cell(row["urgent_exact_recall"])
    low, high = group.recall.interval or (None, None)
    assert (low, high) == (cell(row["wilson_lo"]), cell(row["wilson_hi"]))


def test_scores_of_every_model_version_are_the_oracles(scenario: Scenario, replay: Replay) -> None:
    rows = scenario.rows("by_version.csv")
    of_versions = [k for k in replay.store.slice_keys() if k.slice.startswith("model_version=")]
    assert len(of_versions) == len(rows)
    for row in rows:
        slices = [f"model_version={row['model_version']}"]
        if row["prompt_version"] != "-":
            slices.append(f"prompt_version={row['prompt_version']}")
        for name in slices:
            key = SliceKey(row["variant"], name)
            counts = replay.store.panes([PaneKey(Clock.EVENT, ALL_TIME, 0, key)])[0]
            assert_headline(counts, row, urgent_of(scenario))


def test_channels_add_up_to_everything(replay: Replay) -> None:
    def total(key: SliceKey) -> Counts:
        return replay.store.panes([PaneKey(Clock.EVENT, ALL_TIME, 0, key)])[0]

    keys = replay.store.slice_keys()
    for variant in {key.variant for key in keys}:
        channels = [k for k in keys if k.variant == variant and k.slice.startswith("channel=")]
        assert len(channels) == 3
        assert merge(map(total, channels)) == total(SliceKey(variant, ALL))


# Hours, under both clocks


def hours_of(store: StateReader, clock: Clock) -> dict[tuple[int, str], Counts]:
    """``(start, variant)`` -> counts of that hour, the sum of the variants under ALL."""
    keys = [k for k in store.pane_keys(HOUR_MS) if k.clock is clock and k.key.slice == ALL]
    hours: defaultdict[tuple[int, str], list[Counts]] = defaultdict(list)
    for key, counts in zip(keys, store.panes(keys), strict=True):
        hours[key.start_ms, key.key.variant].append(counts)
        hours[key.start_ms, ALL].append(counts)
    return {place: merge(parts) for place, parts in hours.items()}


def test_scores_of_every_hour_of_prediction_are_the_oracles(
    scenario: Scenario, replay: Replay
) -> None:
    rows = scenario.rows("headline_by_prediction_hour.csv")
    hours = hours_of(replay.store, Clock.EVENT)
    labelled = {place for place, counts in hours.items() if counts.labelled}
    assert labelled == {(instant_ms(row["hour"]), row["variant"]) for row in rows}
    assert len(labelled) == len(rows)
    for row in rows:
        counts = hours[instant_ms(row["hour"]), row["variant"]]
        assert_headline(counts, row, urgent_of(scenario))


def test_the_hours_of_the_report_are_the_oracles(scenario: Scenario, replay: Replay) -> None:
    rows = {
        (instant_ms(row["hour"]), row["variant"]): row
        for row in scenario.rows("headline_by_prediction_hour.csv")
    }
    made = [(instant_ms(hour["start"]), hour["variant"]) for hour in replay.report["hours"]]
    assert made == sorted(set(made))
    for place, hour in zip(made, replay.report["hours"], strict=True):
        row = rows.pop(place, None)
        if row is None:
            assert (hour["labelled"], hour["accuracy"]) == (0, None)
            continue
        assert hour["labelled"] == int(row["n_labelled"])
        assert hour["accuracy"] == cell(row["accuracy"])
        found = hour["groups"]["urgent"]
        assert found["support"] == int(row["urgent_support"])
        assert found["hits"] == int(row["urgent_tp"])
    assert rows == {}


@pytest.mark.parametrize(
    ("clock", "table"),
    [
        (Clock.EVENT, "per_class_by_prediction_hour.csv.gz"),
        (Clock.LABEL, "per_class_by_label_arrival_hour.csv.gz"),
    ],
    ids=["hour of prediction", "hour of label arrival"],
)
def test_scores_of_every_intent_and_hour_are_the_oracles(
    scenario: Scenario, replay: Replay, clock: Clock, table: str
) -> None:
    rows = scenario.rows(table)
    found = {
        (start_ms, variant, intent): score
        for (start_ms, variant), counts in hours_of(replay.store, clock).items()
        for intent, score in intent_scores(counts.confusion).items()
    }
    assert len(rows) == len(found)
    for row in rows:
        score = found[instant_ms(row["hour"]), row["variant"], row["intent"]]
        assert score.recall.support == int(row["support"])
        assert score.hits == int(row["tp"])
        assert score.precision.support == int(row["predicted"])
        assert score.recall.value == cell(row["recall"])
        assert score.precision.value == cell(row["precision"])


# What was known at each full hour


def as_of_each_hour(scenario: Scenario, hours: Iterable[int]) -> Iterator[tuple[int, StateReader]]:
    """The flow, stopped before each of these log times."""
    settings = scenario.settings()
    spec, topics = spec_of(settings), topics_of(settings)
    partitions: int = scenario.about()["partitions"]
    files = FilesLog(scenario.folder, topics)
    records = files.poll(100_000)
    files.close()
    log = MemoryLog(dict.fromkeys(topics.values(), partitions))
    store = MemoryStore(keep_ms=spec.windows.keep_ms)
    flow = Flow(spec, codec_of(settings), log, store)
    at = 0
    for hour_ms in hours:
        while at < len(records) and records[at].log_ms < hour_ms:
            log.append(records[at])
            at += 1
        while flow.turn().records:
            flow.evaluate()
        yield hour_ms, store


def window_of(store: StateReader, variants: Sequence[str], end_ms: int, hours: int) -> Counts:
    """The last full hours before ``end_ms``, merged from their panes."""
    return merge(
        store.panes(
            [
                PaneKey(Clock.EVENT, HOUR_MS, start_ms, SliceKey(variant, ALL))
                for variant in variants
                for start_ms in range(end_ms - hours * HOUR_MS, end_ms, HOUR_MS)
            ]
        )
    )


def assert_known(counts: Counts, row: Row, urgent: frozenset[str]) -> None:
    """The columns of the tables of what was known at an instant."""
    group = group_scores(counts.confusion, urgent)
    right = sum(n for (actual, predicted), n in counts.confusion.items() if actual == predicted)
    assert counts.predictions == int(row["n_predictions"])
    assert counts.labelled == int(row["n_labelled"])
    assert (right / counts.labelled if counts.labelled else None) == cell(row["accuracy"])
    assert group.recall.support == int(row["urgent_support"])
    assert group.hits == int(row["urgent_tp"])
    assert group.precision.support - group.hits == int(row["urgent_fp"])
    assert group.recall.value == cell(row["urgent_group_recall"])
    assert exact_recall(counts.confusion, urgent).value == cell(row["urgent_exact_recall"])
    for intent in urgent:
        alone = frozenset({intent})
        assert counts.hits_and_support(alone) == (
            int(row[f"tp:{intent}"]),
            int(row[f"support:{intent}"]),
        )


@pytest.mark.parametrize("name", ["acc97_recall20", "clinc150_main"])
def test_rolling_windows_are_what_the_oracle_knew_at_each_hour(name: str) -> None:
    """``[T - W, T)`` by event time, from the records before T by log time."""
    scenario = Scenario(name)
    urgent, variants = urgent_of(scenario), scenario.about()["variants"]
    tables = {hours: _by_instant(scenario.rows(f"asof_{hours}h.csv.gz")) for hours in (1, 6, 24)}
    instants = sorted(set().union(*tables.values()))
    for at_ms, store in as_of_each_hour(scenario, instants):
        for hours, table in tables.items():
            for row in table.get(at_ms, []):
                of = variants if row["variant"] == ALL else [row["variant"]]
                assert_known(window_of(store, of, at_ms, hours), row, urgent)


def _by_instant(rows: Iterable[Row]) -> dict[int, list[Row]]:
    return {
        instant_ms(text): list(same) for text, same in groupby(rows, key=lambda row: row["as_of"])
    }


# What each scenario is there to show


def test_yes_and_no_give_the_numbers_of_the_textbook() -> None:
    """Actual Yes: 80 predicted Yes, 20 No; actual No: 15 Yes, 85 No."""
    section = replayed(Scenario("yes_no_binary")).report["variants"]["prompt"]
    assert section["confusion"] == {"No": {"No": 85, "Yes": 15}, "Yes": {"No": 20, "Yes": 80}}
    assert section["accuracy"] == near(0.825)
    assert section["intents"]["Yes"]["precision"] == near(80 / 95)
    assert section["intents"]["Yes"]["recall"] == near(0.80)
    assert section["intents"]["Yes"]["f1"] == near(160 / 195)
    rounded = {name: round(section["intents"]["Yes"][name], 4) for name in ("precision", "f1")}
    assert rounded == {"precision": 0.8421, "f1": 0.8205}


def moves_of(replay: Replay) -> list[tuple[str, str, str]]:
    """Every move of an alert about the model but the first, as version, state and minute."""
    return [
        (move["version"], move["to"], move["at"][:16])
        for move in replay.report["transitions"]
        if move["event"] == "moved" and move["from"] != "no_data" and move["version"]
    ]


def test_low_recall_fires_while_accuracy_stays_at_97_percent() -> None:
    scenario = Scenario("acc97_recall20")
    replay = replayed(scenario)
    hours = hours_of(replay.store, Clock.EVENT)
    for window, recall in zip(scenario.about()["windows_utc"], (0.94, 0.20), strict=True):
        inside = range(instant_ms(window["from"]), instant_ms(window["to"]), HOUR_MS)
        counts = merge(hours[start_ms, "fine_tuned"] for start_ms in inside)
        assert headline(counts.confusion).accuracy.value == near(0.970)
        assert group_scores(counts.confusion, urgent_of(scenario)).recall.value == near(recall)
    assert moves_of(replay) == [("ft-1.2", "firing", "2026-03-02T12:14")]


def test_alerts_fire_in_both_incidents_and_not_when_requests_shift() -> None:
    """A breaks fine_tuned from 16:00 to 22:00, C both from 12:00 to 18:00 of the next day.

    Votes wait six hours for their labels. P, from 03:00 to 07:00, triples the share of urgent
    requests without making any variant worse.
    """
    scenario = Scenario("clinc150_main")
    moves = moves_of(replayed(scenario))
    assert moves == [
        ("ft-1.1", "firing", "2026-03-02T22:35"),
        ("pe-base/tmpl-2", "firing", "2026-03-03T21:29"),
        ("ft-1.0", "firing", "2026-03-03T21:49"),
        ("ft-1.1", "no_data", "2026-03-05T05:59"),
    ]
    windows = {w["id"]: w for w in scenario.about()["windows_utc"]}
    between = (windows["P"]["from"], windows["C"]["from"])
    assert [m for m in moves if m[1] == "firing" and between[0] <= m[2] < between[1]] == []
