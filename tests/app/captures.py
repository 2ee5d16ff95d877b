"""Folders of captured records, as `feed` and `replay` read them."""

import base64
import json
from collections.abc import Iterable
from pathlib import Path

from monitor.domain.events import Kind, Record
from tests.app.story import history


def line_of(record: Record) -> str:
    """One record in the envelope of a captured file."""
    envelope: dict[str, object] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.log_ms,
        "key": None if record.key is None else record.key.decode(),
    }
    try:
        envelope["value"] = None if record.value is None else record.value.decode()
    except UnicodeDecodeError:
        envelope["value_b64"] = base64.b64encode(record.value or b"").decode()
    return json.dumps(envelope)


def captured(folder: Path, records: Iterable[Record]) -> Path:
    """A folder that holds these records; the files are there even if they stay empty."""
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[str]] = {kind: [] for kind in Kind}
    for record in records:
        lines[record.topic].append(line_of(record) + "\n")
    for kind, written in lines.items():
        (folder / f"{kind}.jsonl").write_text("".join(written))
    return folder


def captured_story(folder: Path) -> Path:
    """The story, with the offsets that a log would have given."""
    ends: dict[tuple[str, int], int] = {}
    records = []
    for each in history():
        place = each.topic, each.partition
        records.append(each._replace(offset=ends.get(place, 0)))
        ends[place] = ends.get(place, 0) + 1
    return captured(folder, records)
