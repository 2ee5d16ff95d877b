"""Captured files: what is peculiar to them beside the contract of a record log."""

import json
from pathlib import Path

import pytest

from monitor.adapters.files import CaptureError, FilesLog
from monitor.domain.events import Kind

TOPICS = {Kind.PREDICTIONS: "p", Kind.LABELS: "l"}


def line(offset: int, log_ms: int, partition: int = 0) -> str:
    fields = {"topic": "x", "partition": partition, "offset": offset, "timestamp": log_ms}
    return json.dumps({**fields, "key": None, "value": f"{log_ms}"}) + "\n"


def captured(folder: Path, predictions: list[str], labels: list[str]) -> FilesLog:
    (folder / "predictions.jsonl").write_text("".join(predictions))
    (folder / "labels.jsonl").write_text("".join(labels))
    return FilesLog(folder, TOPICS)


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_clock_that_goes_back_moves_no_record_and_loses_none(tmp_path: Path, batch: int) -> None:
    #  predictions  100 ---- 300 - 200(back) - 400      labels  250
    predictions = [line(0, 100), line(1, 300), line(2, 200), line(3, 400)]
    log = captured(tmp_path, predictions, [line(0, 250)])
    polled: list[tuple[str, int]] = []
    while records := log.poll(batch):
        polled += [(record.topic, record.log_ms) for record in records]
    log.close()
    assert polled == [("p", 100), ("l", 250), ("p", 300), ("p", 200), ("p", 400)]


def test_partition_whose_offsets_go_back_is_refused_with_its_place(tmp_path: Path) -> None:
    log = captured(tmp_path, [line(5, 100), line(4, 200)], [])
    with pytest.raises(CaptureError, match=r"predictions\.jsonl:2: offset 4 .* after offset 5"):
        log.poll(10)
    log.close()


def test_offsets_of_different_partitions_have_nothing_to_do_with_each_other(tmp_path: Path) -> None:
    log = captured(tmp_path, [line(5, 100), line(4, 200, partition=1)], [])
    assert len(log.poll(10)) == 2
    log.close()
