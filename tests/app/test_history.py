"""Places of a history, as they are written on the command line."""

import json
from pathlib import Path

import pytest

from monitor.adapters.history import HistoryLog
from monitor.app.history import Place, end_at, place_of
from monitor.app.settings import SettingsError
from monitor.domain.events import Partition
from tests.adapters.histories import LABELS, PREDICTIONS, records, sources

CUT = {"labels[0]": 30, "predictions[1]": 12}
OFFSETS = {Partition("labels", 0): 30, Partition("predictions", 1): 12}


def report(folder: Path, **told: object) -> str:
    path = folder / "report.json"
    path.write_text(json.dumps(told))
    return str(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", Place(instant_ms=1_000)),
        ("1970-01-01T01:00:00.250+01:00", Place(instant_ms=250)),
        ("labels[0]=30,predictions[1]=12", Place(offsets=OFFSETS)),
        ("labels[0]=30, predictions[1]=12", Place(offsets=OFFSETS)),
        ("a[b]c[7]=0", Place(offsets={Partition("a[b]c", 7): 0})),
    ],
)
def test_a_place_is_an_instant_or_offsets(text: str, expected: Place) -> None:
    assert place_of(text) == expected


def test_a_report_stands_for_its_cut_and_the_instant_up_to_which_it_was_evaluated(
    tmp_path: Path,
) -> None:
    told = report(tmp_path, cut=CUT, as_of="1970-01-01T00:00:09.000Z")
    assert place_of(told) == Place(offsets=OFFSETS, as_of_ms=9_000, is_cut=True)


def test_numbers_are_evaluated_up_to_an_instant_or_up_to_where_a_report_was() -> None:
    assert Place(instant_ms=5).evaluated_ms == 5
    assert Place(offsets=OFFSETS, as_of_ms=9).evaluated_ms == 9
    assert Place(offsets=OFFSETS).evaluated_ms is None


def test_a_report_from_before_anything_was_evaluated_stands_for_its_cut_alone(
    tmp_path: Path,
) -> None:
    assert place_of(report(tmp_path, cut=CUT, as_of=None)) == Place(offsets=OFFSETS, is_cut=True)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("2026-11-22T13:00:00", "has no time zone: write 2026-11-22T13:00:00Z"),
        ("yesterday", "yesterday is not a time: write 2026-11-22T13:00:00Z"),
        ("labels[0]=some", "invalid literal for int"),
        ("labels[x]=1", "invalid literal for int"),
        ("missing.json", "missing.json: not a report"),
    ],
)
def test_what_is_no_place_is_refused(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named.replace("[", r"\[")):
        place_of(text)


@pytest.mark.parametrize(
    "told", [{}, {"cut": 3, "as_of": None}, {"cut": CUT}, {"cut": CUT, "as_of": "noon"}]
)
def test_what_is_no_report_is_refused(tmp_path: Path, told: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"report\.json: not a report"):
        place_of(report(tmp_path, **told))


def two_partitions() -> HistoryLog:
    found = {PREDICTIONS: range(6), LABELS: range(4)}
    return HistoryLog(sources({p: records(p, after_ms) for p, after_ms in found.items()}))


def test_partitions_that_offsets_do_not_name_are_read_to_their_end() -> None:
    log = two_partitions()
    end_at(place_of("predictions[0]=2"), log)
    assert len(log.poll(100)) == 2 + 4
    assert log.places() == {PREDICTIONS: 2, LABELS: 4}


def test_partitions_that_a_reports_cut_does_not_name_stand_still(tmp_path: Path) -> None:
    log = two_partitions()
    end_at(place_of(report(tmp_path, cut={"predictions[0]": 2}, as_of=None)), log)
    assert len(log.poll(100)) == 2
    assert log.places() == {PREDICTIONS: 2, LABELS: 0}


def test_an_offset_of_a_partition_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    told = r"--to: there is no prediction\[0\]; there are labels\[0\], predictions\[0\]"
    with pytest.raises(SettingsError, match=told):
        end_at(place_of("prediction[0]=2"), two_partitions())
