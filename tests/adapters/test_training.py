import gzip
from pathlib import Path

import pytest

from monitor.adapters.training import TrainingError, TrainingFormat, training_texts

AUTO = TrainingFormat.AUTO


def read(path: Path, field: str = "text", form: TrainingFormat = AUTO) -> list[tuple[int, str]]:
    return [(line, text) for line, text in training_texts(path, field, form)]


@pytest.mark.parametrize(
    ("name", "content", "field", "expected"),
    [
        ("few.txt", "lost card\r\n\n  fees? \n", "text", [(1, "lost card"), (3, "  fees? ")]),
        ("a.jsonl", '{"text": "lost card"}\n\n"fees"\n', "text", [(1, "lost card"), (3, "fees")]),
        ("a.jsonl", '{"in": {"user": "lost"}}', "in.user", [(1, "lost")]),
        ("a.jsonl", '{"in.user": "lost"}', "in.user", [(1, "lost")]),
        ("a.csv", 'id,text\n1,"a, b"\n2,"c\nd"\n', "text", [(2, "a, b"), (4, "c\nd")]),
        ("a.tsv", "id\tsaid\n1\ta b\n", "said", [(2, "a b")]),
        ("bom.csv", "\ufefftext\nlost\n", "text", [(2, "lost")]),
        ("empty.txt", "", "text", []),
    ],
)
@pytest.mark.parametrize("is_packed", [False, True])
def test_a_file_is_read_as_its_name_says_packed_or_not(
    tmp_path: Path,
    name: str,
    content: str,
    field: str,
    expected: list[tuple[int, str]],
    is_packed: bool,
) -> None:
    path = tmp_path / (f"{name}.gz" if is_packed else name)
    data = content.encode()
    path.write_bytes(gzip.compress(data) if is_packed else data)
    assert read(path, field) == expected


def test_the_format_can_be_named_when_the_name_does_not_say_it(tmp_path: Path) -> None:
    path = tmp_path / "export.dat"
    path.write_text('{"text": "lost card"}\n')
    assert read(path, form=TrainingFormat.JSONL) == [(1, "lost card")]
    assert read(path) == [(1, '{"text": "lost card"}')]


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": ', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", b'{"say": "a"}', r"a\.jsonl:1: no text in field 'text'; there are say"),
        ("a.jsonl", b'{"text": 5}', r"a\.jsonl:1: no text in field 'text'"),
        ("a.jsonl", b"[1]", r"a\.jsonl:1: no text in field 'text'; name it with --field"),
        ("a.csv", b"id,say\n1,a\n", r"a\.csv:1: no column 'text' \(there are id, say\)"),
        ("a.csv", b"", r"a\.csv:1: no column 'text' \(there are none\)"),
        ("a.csv", b"id,text\n1\n", r"a\.csv:2: 1 columns, the header has 2"),
        ("a.csv", b'text\n"a" b\n', r"a\.csv:2: not CSV"),
        ("a.txt", b"a\n\xff\n", r"a\.txt: not UTF-8 after line"),
        ("a.txt.gz", b"no gzip", r"a\.txt\.gz: cannot be read"),
        ("a.txt.gz", gzip.compress(b"abc" * 99)[:-9], r"a\.txt\.gz: cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named_with_file_and_line(
    tmp_path: Path, name: str, content: bytes, named: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TrainingError, match=named):
        read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"none\.txt: cannot be read \(No such file"):
        read(tmp_path / "none.txt")
