from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.domain.events import Label, Prediction
from monitor.domain.join import HOUR_MS, Entry, expiry_ms
from monitor.domain.rules import AlertRule, Metric
from monitor.domain.votes import FirstVotes, Role, Vote, votes_of
from tests.builders import FINE_TUNED, MINUTE_MS, T0, entry_of, label, prediction, rule
from tests.domain.facts import HORIZON_MS, REPEATABLE, facts, labels, predictions

Fact = Prediction | Label


def cast(of: AlertRule, *known: Fact) -> list[Vote]:
    return [vote for _, vote in votes_of(of, ("channel",), HORIZON_MS, entry_of(*known))]


def test_outcome_votes_once_prediction_and_label_are_there() -> None:
    answer = prediction(slices=("web",), log_ms=T0 + 100)
    truth = label(log_ms=T0 + HOUR_MS)
    assert cast(rule(), answer) == cast(rule(), truth) == []
    (vote,) = cast(rule(), answer, truth)
    assert vote == Vote(T0 + HOUR_MS, "p1", "urgent-recall", FINE_TUNED, T0, hit=True)


#   event      prediction in the log      + maturity         first label
#   |----------|--------------------------|------------------|
#                                                            released at the latest of them


@pytest.mark.parametrize(
    ("maturity_ms", "label_log_ms", "release_ms"),
    [
        (0, T0 + HOUR_MS, T0 + HOUR_MS),
        (2 * HOUR_MS, T0 + HOUR_MS, T0 + 2 * HOUR_MS),
        (HOUR_MS, T0 + 90 * MINUTE_MS, T0 + 90 * MINUTE_MS),
        (0, T0 - HOUR_MS, T0 + 100),
        (HOUR_MS, T0 - HOUR_MS, T0 + HOUR_MS),
    ],
    ids=["label", "maturity", "late label", "early label", "early label, maturity"],
)
def test_vote_is_released_once_mature_labelled_and_predicted(
    maturity_ms: int, label_log_ms: int, release_ms: int
) -> None:
    (vote,) = cast(
        rule(maturity_ms=maturity_ms),
        prediction(slices=("web",), log_ms=T0 + 100),
        label(log_ms=label_log_ms),
    )
    assert (vote.release_ms, vote.event_ms) == (release_ms, T0)


def test_vote_whose_maturity_is_estimated_is_on_its_way_from_the_first_label_on() -> None:
    (vote,) = cast(rule(maturity_ms=None), prediction(slices=("",)), label(log_ms=T0 + HOUR_MS))
    assert (vote.role, vote.release_ms) == (Role.ARRIVAL, T0 + HOUR_MS)


@pytest.mark.parametrize(
    ("metric", "predicted", "actual", "hit"),
    [
        (Metric.RECALL, "lost_card", "lost_card", True),
        (Metric.RECALL, "report_fraud", "lost_card", True),
        (Metric.RECALL, "greeting", "lost_card", False),
        (Metric.RECALL, "lost_card", "greeting", None),
        (Metric.PRECISION, "lost_card", "report_fraud", True),
        (Metric.PRECISION, "lost_card", "greeting", False),
        (Metric.PRECISION, "greeting", "lost_card", None),
        (Metric.ACCURACY, "greeting", "greeting", True),
        (Metric.ACCURACY, "report_fraud", "lost_card", False),
    ],
)
def test_each_metric_asks_whom_it_concerns(
    metric: Metric, predicted: str, actual: str, hit: bool | None
) -> None:
    found = cast(
        rule(metric=metric), prediction(predicted=predicted, slices=("",)), label(actual=actual)
    )
    assert [vote.hit for vote in found] == ([] if hit is None else [hit])


@pytest.mark.parametrize(
    ("predicted", "example"),
    [("greeting", ("greeting", "lost_card")), ("lost_card", ("", ""))],
    ids=["miss", "hit"],
)
def test_only_a_miss_names_where_it_went(predicted: str, example: tuple[str, str]) -> None:
    (vote,) = cast(rule(), prediction(predicted=predicted, slices=("",)), label())
    assert (vote.predicted, vote.actual) == example


def test_vote_names_version_and_conversation() -> None:
    answer = prediction(slices=("",), version="v7", conversation="ab" * 8)
    (vote,) = cast(rule(), answer, label())
    assert (vote.version, vote.conversation) == ("v7", "ab" * 8)


def test_records_outside_where_do_not_vote() -> None:
    only_voice = rule(where=(("channel", "voice"),))
    assert cast(only_voice, prediction(slices=("web",)), label()) == []
    assert len(cast(only_voice, prediction(slices=("voice",)), label())) == 1


def test_label_past_the_horizon_does_not_vote() -> None:
    late = label(log_ms=expiry_ms(T0, HORIZON_MS))
    assert cast(rule(), prediction(slices=("",)), late) == []


def test_correction_before_the_release_decides_the_vote() -> None:
    found = cast(
        rule(maturity_ms=HOUR_MS),
        prediction(predicted="greeting", slices=("",)),
        label(actual="greeting", log_ms=T0 + 10),
        label(actual="lost_card", log_ms=T0 + 20, revision=2),
    )
    assert [(vote.role, vote.hit) for vote in found] == [(Role.LIVE, False)]


def test_correction_after_the_release_is_one_and_leaves_the_vote() -> None:
    live, correction = cast(
        rule(),
        prediction(predicted="greeting", slices=("",)),
        label(actual="lost_card", log_ms=T0 + HOUR_MS),
        label(actual="greeting", log_ms=T0 + 90 * MINUTE_MS, revision=2),
    )
    assert (live.role, live.hit, live.release_ms) == (Role.LIVE, False, T0 + HOUR_MS)
    assert (correction.role, correction.release_ms) == (Role.CORRECTION, T0 + 90 * MINUTE_MS)
    assert correction.event_ms == T0


def test_label_that_says_the_same_again_is_no_correction() -> None:
    found = cast(
        rule(),
        prediction(slices=("",)),
        label(actual="lost_card", log_ms=T0 + HOUR_MS),
        label(actual="report_fraud", log_ms=T0 + 90 * MINUTE_MS, revision=2),
    )
    assert [vote.role for vote in found] == [Role.LIVE]


def test_withdrawal_after_the_release_is_a_correction() -> None:
    found = cast(
        rule(),
        prediction(slices=("",)),
        label(log_ms=T0 + HOUR_MS),
        label(log_ms=T0 + 90 * MINUTE_MS, revision=2, withdrawn=True),
    )
    assert [vote.role for vote in found] == [Role.LIVE, Role.CORRECTION]


def test_hindsight_votes_by_what_was_true_when_labels_were_complete() -> None:
    found = cast(
        rule(hindsight_ms=2 * HOUR_MS),
        prediction(predicted="greeting", slices=("",)),
        label(actual="lost_card", log_ms=T0 + HOUR_MS),
        label(actual="greeting", log_ms=T0 + 90 * MINUTE_MS, revision=2),
    )
    assert [vote.role for vote in found] == [Role.LIVE, Role.CORRECTION]
    found = cast(
        rule(hindsight_ms=2 * HOUR_MS),
        prediction(slices=("",)),
        label(actual="lost_card", log_ms=T0 + HOUR_MS),
    )
    assert [(v.role, v.release_ms, v.hit) for v in found] == [
        (Role.LIVE, T0 + HOUR_MS, True),
        (Role.HINDSIGHT, T0 + 2 * HOUR_MS, True),
    ]


RULES: Sequence[AlertRule] = (
    rule(maturity_ms=HOUR_MS, hindsight_ms=2 * HOUR_MS),
    rule(maturity_ms=None, metric=Metric.PRECISION),
    rule(metric=Metric.ACCURACY),
)


MORE_RULES = (
    *RULES,
    rule(maturity_ms=None, hindsight_ms=0, per=("variant", "channel")),
    rule(maturity_ms=None, hindsight_ms=HOUR_MS, per=("channel",)),
    rule(hindsight_ms=0, where=(("channel", "web"),)),
)


@st.composite
def facts_of_one_label(draw: st.DrawFn) -> tuple[Prediction, Label]:
    """A prediction and its only label, in time, not withdrawn; events may lie ahead of the log."""
    answer = draw(predictions(["p1"]))
    answer = answer._replace(
        event_ms=answer.log_ms + draw(st.sampled_from([-HOUR_MS, -100, 0, 7, HOUR_MS])),
        conversation=draw(st.sampled_from(["", "0123456789abcdef"])),
        traits=answer.traits._replace(version=draw(st.sampled_from(["", "v2"]))),
    )
    last_ms = expiry_ms(answer.event_ms, HORIZON_MS) - 1
    truth = draw(labels(["p1"]))
    log_ms = draw(st.sampled_from([answer.log_ms, answer.log_ms + 5, last_ms]))
    return answer, truth._replace(log_ms=log_ms, withdrawn=False)


@REPEATABLE
@given(st.lists(facts(), max_size=8), st.sampled_from(RULES))
def test_each_place_holds_one_vote_and_none_comes_before_its_prediction(
    known: list[Fact], of: AlertRule
) -> None:
    entry = entry_of(*known)
    found = list(votes_of(of, ("channel",), HORIZON_MS, entry))
    assert len({place for place, _ in found}) == len(found)
    for _, vote in found:
        assert entry.prediction is not None
        assert vote.release_ms >= entry.prediction.log_ms
        assert vote.rule == of.name


@REPEATABLE
@given(st.lists(facts(), max_size=8), st.sampled_from(RULES), st.data())
def test_order_of_reading_does_not_show_in_the_votes(
    known: list[Fact], of: AlertRule, data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(known))
    assert cast(of, *shuffled) == cast(of, *known)


@REPEATABLE
@given(facts_of_one_label(), st.permutations(MORE_RULES))
def test_votes_of_a_first_label_are_what_they_are_by_definition(
    known: tuple[Prediction, Label], rules: list[AlertRule]
) -> None:
    defined = [
        vote
        for of in rules
        for _, vote in sorted(votes_of(of, ("channel",), HORIZON_MS, Entry(known[0], known[1:])))
    ]
    first = FirstVotes(rules, ("channel",))
    assert first.of(*known) == first.of(*known) == defined
