import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.domain.cut import IDLE, UNREAD, Cut, Progress, watermark
from monitor.domain.events import Partition
from tests.domain.facts import REPEATABLE

P0, P1, L0 = Partition("predictions", 0), Partition("predictions", 1), Partition("labels", 0)


@pytest.mark.parametrize(
    ("cuts", "expected", "why"),
    [
        ([], None, "nobody has read anything"),
        ([{}], None, "no partition is known"),
        ([{P0: Progress(0)}], None, "one partition has not been read"),
        ([{P0: Progress(5, 900, 900), L0: Progress(0)}], None, "an unread one may hold anything"),
        ([{P0: Progress(5, 900, 900), L0: Progress(2, 400, 400)}], 400, "the least holds back"),
        ([{P0: Progress(5, 900, 900)}, {P0: Progress(4, 300, 300)}], 300, "the last shard decides"),
        ([{P0: Progress(5, 5900, 5900), L0: Progress(2, IDLE, 40)}], 900, "idle: 5 s behind"),
        ([{P0: Progress(5, IDLE, 900), L0: Progress(2, IDLE, 400)}], 901, "all read to the end"),
        ([{P0: Progress(0, IDLE), L0: Progress(0, IDLE)}], None, "read to the end, and all empty"),
        ([{P0: Progress(0, IDLE), L0: Progress(1, 5070, 5070)}], 70, "an empty one may wake too"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_watermark_is_the_least_frontier_of_active_partitions(
    cuts: list[Cut], expected: int | None, why: str
) -> None:
    assert watermark(cuts) == expected, why


def test_log_read_to_its_end_counts_its_last_record_as_complete() -> None:
    # The watermark is exclusive: a record at 900 is before 901.
    assert watermark([{P0: Progress(5, 900, 900)}]) == 900
    assert watermark([{P0: Progress(5, IDLE, 900)}]) == 901


@REPEATABLE
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from([P0, P1, L0]), st.integers(0, 500)),
        max_size=40,
    )
)
def test_watermark_never_goes_back_while_partitions_advance(
    steps: list[tuple[int, Partition, int]],
) -> None:
    cuts = [dict.fromkeys((P0, P1, L0), Progress(0, UNREAD)) for _ in range(2)]
    before = watermark(cuts)
    for shard, partition, advance_ms in steps:
        known = cuts[shard][partition]
        log_ms = max(known.last_log_ms, 0) + advance_ms
        cuts[shard][partition] = Progress(known.next_offset + 1, log_ms, log_ms)
        after = watermark(cuts)
        assert before is None or (after is not None and after >= before)
        before = after
