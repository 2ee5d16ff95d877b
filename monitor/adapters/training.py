"""Files of training or few-shot texts: JSON lines, CSV or plain text, also gzipped, line by line.

Which of them a file is says its name without ``.gz``: ``.jsonl``, ``.ndjson`` and ``.json`` are
JSON lines, ``.csv`` and ``.tsv`` have a header; everything else is plain, one text a line.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO, NamedTuple

from monitor.codec.mapping import dig
from monitor.domain.errors import RecallwatchError

MAX_FIELD_CHARS = 2**20
"""Of a field of a CSV file: what is longer is a quote that was not closed."""

_KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "csv"}


class TrainingError(RecallwatchError):
    """A file of training texts is missing, damaged, or a line of it holds no text."""


class TrainingFormat(StrEnum):
    """How a file is written; ``auto``: its name says it."""

    AUTO = "auto"
    JSONL = "jsonl"
    CSV = "csv"
    TEXT = "text"


class TrainingText(NamedTuple):
    """One text and the line of its file, from 1; of several lines, the last one."""

    line: int
    text: str


def training_texts(
    path: Path, field: str = "text", form: TrainingFormat = TrainingFormat.AUTO
) -> Iterator[TrainingText]:
    """The texts of a file in their order; ``field`` is the column or the key, dots lead inwards.

    Blank lines are skipped. TrainingError names file and line when one cannot be read.
    """
    line = 0
    try:
        with _opened(path) as lines:
            for found in _READERS[_form_of(path, form)](lines, path, field):
                line = found.line
                yield found
    except (OSError, EOFError, zlib.error) as error:
        raise TrainingError(f"{path}: cannot be read ({_why(error)})") from None
    except UnicodeDecodeError as error:
        raise TrainingError(
            f"{path}: not UTF-8 after line {line} ({error.reason}); save it as UTF-8"
        ) from None


def _form_of(path: Path, form: TrainingFormat) -> TrainingFormat:
    if form is not TrainingFormat.AUTO:
        return form
    name = path.with_suffix("") if path.suffix == ".gz" else path
    return TrainingFormat(_KINDS.get(name.suffix.lower(), "text"))


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _plain(lines: IO[str], _path: Path, _field: str) -> Iterator[TrainingText]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield TrainingText(number, line.rstrip("\r\n"))


def _json_lines(lines: IO[str], path: Path, field: str) -> Iterator[TrainingText]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TrainingError(
                f"{path}:{number}: not JSON ({error}); each line must be one JSON object or text"
            ) from None
        yield TrainingText(number, _text_in(row, field, f"{path}:{number}"))


def _text_in(row: object, field: str, place: str) -> str:
    found = row
    if isinstance(row, dict):
        found = row[field] if field in row else dig(row, field)
    if isinstance(found, str):
        return found
    there = f"; there are {', '.join(sorted(row))}" if isinstance(row, dict) else ""
    raise TrainingError(f"{place}: no text in field {field!r}{there}; name it with --field")


def _columns(lines: IO[str], path: Path, field: str) -> Iterator[TrainingText]:
    delimiter = "\t" if ".tsv" in path.suffixes else ","
    csv.field_size_limit(MAX_FIELD_CHARS)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = next(rows, [])
        if field not in header:
            names = ", ".join(header) or "none"
            raise TrainingError(f"{path}:1: no column {field!r} (there are {names}); see --field")
        place = header.index(field)
        for row in filter(None, rows):
            if len(row) != len(header):
                raise TrainingError(
                    f"{path}:{rows.line_num}: {len(row)} columns, the header has {len(header)}"
                )
            yield TrainingText(rows.line_num, row[place])
    except csv.Error as error:
        raise TrainingError(f"{path}:{rows.line_num}: not CSV ({error})") from None


_READERS = {
    TrainingFormat.JSONL: _json_lines,
    TrainingFormat.CSV: _columns,
    TrainingFormat.TEXT: _plain,
}
