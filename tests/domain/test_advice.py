"""The advice: who should serve, and what next, from verdicts and what they stand on."""

import pytest

from monitor.domain import comparison as difference
from monitor.domain.advice import (
    DAY_MS,
    Advice,
    Approach,
    Candidate,
    Ground,
    Paired,
    Step,
    advise,
    better,
)
from monitor.domain.comparison import Comparison
from monitor.domain.counts import Counts, bucket_of, merge
from monitor.domain.slices import Groups
from monitor.domain.verdict import (
    ALERT,
    Evidence,
    Finding,
    Judgement,
    VerdictLimits,
    evidence_of,
    joined,
    judged,
)
from tests.builders import URGENT, outcomes

LIMITS = VerdictLimits(recall={"urgent": 0.8}, balance=None)
TUNED, PROMPT = Approach.FINE_TUNED, Approach.PROMPT


def known(
    urgent: tuple[int, int], others: tuple[int, int] = (980, 20), ms: float | None = 100
) -> Evidence:
    """Hits and misses of urgent ones, right and wrong ones of others; 100 latencies of ``ms``."""
    counts = outcomes(
        {
            ("lost_card", "lost_card"): urgent[0],
            ("lost_card", "balance"): urgent[1],
            ("balance", "balance"): others[0],
            ("balance", "greeting"): others[1],
        }
    )
    timed = Counts({} if ms is None else {("latency", str(bucket_of(ms))): 100})
    return evidence_of(merge([counts, timed]), Groups({"urgent": URGENT}), ["urgent"])


def candidate(
    name: str,
    evidence: Evidence,
    approach: Approach | None = None,
    *,
    cost: float | None = None,
    days: float = 1,
    versions: dict[str, Evidence] | None = None,
) -> Candidate:
    judged_versions = {v: judged(e, LIMITS) for v, e in (versions or {}).items()}
    span_ms = round(days * DAY_MS)
    verdict = judged(evidence, LIMITS)
    return Candidate(name, approach, cost, verdict, evidence, LIMITS, span_ms, judged_versions)


FIT, WEAK, BLIND = known((190, 10)), known((150, 50)), known((20, 180))
HALF = known((100, 100))
BETTER_FIT = known((1_990, 10))
SO_SO = known((95, 5), (600, 300))
"""Good recall, accuracy between bad and good."""

WORSE_SO_SO = known((95, 5), (500, 400))
FEW = known((19, 1))

FIRING = Judgement(f"{ALERT}urgent-recall", Finding.MISSED, "fires", None, 0.8, None, 20)


def steps(advice: Advice, variant: str) -> list[Step]:
    return [item.step for item in advice.steps if item.variant == variant]


# Who serves


@pytest.mark.parametrize(
    ("one", "other", "serve", "ground"),
    [
        (FIT, BLIND, "one", Ground.FIT),
        (BLIND, FIT, "other", Ground.FIT),
        (FIT, SO_SO, "one", Ground.FIT),
        (FIT, FIT, None, Ground.SAME),
        (FIT, BETTER_FIT, "other", Ground.BETTER),
        (BLIND, WEAK, "other", Ground.LESSER),
        (BLIND, SO_SO, "other", Ground.LESSER),
        (SO_SO, WORSE_SO_SO, "one", Ground.LESSER),
        (SO_SO, SO_SO, None, Ground.SAME),
        (FEW, FEW, None, Ground.SAME),
        (FIT, Evidence.empty(), "one", Ground.ALONE),
        (Evidence.empty(), Evidence.empty(), None, Ground.NOTHING),
    ],
    ids=[
        "only the first is fit",
        "only the second is fit",
        "fit goes before what may be",
        "both fit and alike",
        "both fit, one is better",
        "neither fit, one sees more",
        "neither fit, one sees, though its accuracy is so-so",
        "recall alike, accuracy decides",
        "no difference",
        "too few labels",
        "the other has not answered",
        "nobody has answered",
    ],
)
def test_who_serves_follows_from_verdicts_and_differences(
    one: Evidence, other: Evidence, serve: str | None, ground: Ground
) -> None:
    found = advise([candidate("one", one), candidate("other", other)])
    assert (found.serve, found.ground) == (serve, ground)


def test_cheaper_of_two_that_are_fit_serves_even_if_the_other_is_better() -> None:
    found = advise(
        [
            candidate("tuned", BETTER_FIT, TUNED, cost=3.0),
            candidate("prompt", FIT, PROMPT, cost=1.2),
        ]
    )
    assert (found.serve, found.ground) == ("prompt", Ground.CHEAPER)
    assert "it costs the least (1.2 for 1,000 answers; tuned 3)" in found.text


@pytest.mark.parametrize("costs", [(None, 1.2), (1.2, 1.2), (None, None)])
def test_cost_decides_nothing_when_it_is_not_known_or_the_same(
    costs: tuple[float | None, float | None],
) -> None:
    found = advise(
        [candidate("tuned", FIT, cost=costs[0]), candidate("prompt", FIT, cost=costs[1])]
    )
    assert (found.serve, found.ground) == (None, Ground.SAME)


def test_cheap_variant_that_is_not_fit_does_not_serve() -> None:
    found = advise([candidate("a", FIT, cost=9.0), candidate("b", BLIND, cost=0.1)])
    assert (found.serve, found.ground) == ("a", Ground.FIT)


def test_variants_that_are_better_in_different_groups_are_no_clear_choice() -> None:
    limits = VerdictLimits(recall={"calm": 0.8, "urgent": 0.8})
    groups = Groups({"urgent": frozenset({"a"}), "calm": frozenset({"b"})})

    def sees(urgent: int, calm: int) -> Candidate:
        counts = outcomes(
            {
                ("a", "a"): urgent,
                ("a", "c"): 100 - urgent,
                ("b", "b"): calm,
                ("b", "c"): 100 - calm,
            }
        )
        evidence = evidence_of(counts, groups, groups.members)
        verdict = judged(evidence, limits)
        return Candidate(f"{urgent}-{calm}", None, None, verdict, evidence, limits, DAY_MS)

    found = advise([sees(90, 40), sees(40, 90)])
    assert (found.serve, found.ground) == (None, Ground.CONFLICT)
    assert better(sees(90, 90), sees(40, 40)).against == ()


def test_of_three_the_one_that_beats_every_other_serves() -> None:
    found = advise([candidate("a", BLIND), candidate("b", WEAK), candidate("c", SO_SO)])
    assert found.serve == "c"
    tied = advise([candidate("a", BLIND), candidate("b", SO_SO), candidate("c", SO_SO)])
    assert (tied.serve, tied.ground) == (None, Ground.SAME)


# On the same requests

MET = {
    difference.Finding.BETTER: Comparison(
        difference.Finding.BETTER, 0.22, (0.05, 0.35), 100, 100, is_paired=True, is_watched=True
    ),
    difference.Finding.WORSE: Comparison(
        difference.Finding.WORSE, -0.22, (-0.35, -0.05), 100, 100, is_paired=True, is_watched=True
    ),
    difference.Finding.NO_DIFFERENCE: Comparison(
        difference.Finding.NO_DIFFERENCE, 0.0, (-0.1, 0.1), 100, 100, is_paired=True
    ),
}


def paired(**found: difference.Finding) -> Paired:
    """Of ``one`` minus ``other`` and the other way round, by measure."""
    opposite = {
        difference.Finding.BETTER: difference.Finding.WORSE,
        difference.Finding.WORSE: difference.Finding.BETTER,
    }
    names = {"recall": "recall of urgent", "accuracy": "accuracy"}
    return {
        ("one", "other"): {names[name]: MET[told] for name, told in found.items()},
        ("other", "one"): {
            names[name]: MET[opposite.get(told, told)] for name, told in found.items()
        },
    }


BETTER_IN, WORSE_IN, SAME_IN = MET


@pytest.mark.parametrize(
    ("one", "other", "found", "serve", "ground", "said"),
    [
        (FIT, FIT, {"recall": BETTER_IN}, "one", Ground.BETTER, "paired, 100 requests"),
        (FIT, FIT, {"recall": WORSE_IN}, "other", Ground.BETTER, "paired, 100 requests"),
        (FIT, BETTER_FIT, {}, "other", Ground.BETTER, "(unpaired)"),
        (
            FIT,
            BETTER_FIT,
            {"recall": SAME_IN, "accuracy": SAME_IN},
            None,
            Ground.SAME,
            "urgent (paired, 100 requests)",
        ),
        (FIT, BETTER_FIT, {"recall": SAME_IN}, "other", Ground.BETTER, "accuracy 99.0%"),
        (FIT, BETTER_FIT, {"recall": BETTER_IN}, "one", Ground.BETTER, "paired, 100 requests"),
        (FIT, FIT, {"accuracy": WORSE_IN}, "other", Ground.BETTER, "accuracy differs by +22.0%"),
        (
            FIT,
            FIT,
            {"recall": BETTER_IN, "accuracy": WORSE_IN},
            "one",
            Ground.BETTER,
            "recall of urgent differs",
        ),
        (FIT, FIT, {}, None, Ground.SAME, "in recall of urgent (unpaired) or in accuracy"),
        (FEW, FEW, {}, None, Ground.SAME, "in recall of urgent (unpaired, too few labels) or in"),
        (FEW, FEW, {"recall": BETTER_IN}, "one", Ground.LESSER, "paired, 100 requests"),
        (BLIND, HALF, {"recall": BETTER_IN}, "one", Ground.LESSER, "paired, 100 requests"),
        (BLIND, WEAK, {"recall": BETTER_IN}, None, Ground.CONFLICT, "paired, 100 requests"),
        (FIT, BLIND, {"recall": WORSE_IN}, "one", Ground.FIT, "it alone is shown to be fit"),
    ],
    ids=[
        "pairs show what the intervals do not",
        "the same for the other",
        "no pairs, so intervals",
        "pairs show no difference, in place of intervals that do",
        "pairs show none in recall, so accuracy decides",
        "pairs show the opposite of an interval",
        "recall alike, pairs show accuracy",
        "recall comes before accuracy",
        "neither pairs nor intervals show one",
        "too few labels are said",
        "pairs tell where labels in the window are few",
        "neither fit, pairs decide about the lesser evil",
        "not fit does not go before what may be",
        "fit goes before not fit whatever the pairs say",
    ],
)
def test_what_the_same_requests_say_stands_in_place_of_the_interval(
    one: Evidence,
    other: Evidence,
    found: dict[str, difference.Finding],
    serve: str | None,
    ground: Ground,
    said: str,
) -> None:
    candidates = [candidate("one", one), candidate("other", other)]
    told = advise(candidates, paired(**found))
    assert (told.serve, told.ground) == (serve, ground)
    assert said in told.text
    # Whoever is named first makes no difference.
    again = advise(candidates[::-1], paired(**found))
    assert (again.serve, again.ground) == (serve, ground)


def test_text_says_of_each_measure_whether_it_was_paired() -> None:
    found = advise([candidate("one", FIT), candidate("other", FIT)], paired(recall=SAME_IN))
    assert found.text == (
        "No difference shown between one and other in recall of urgent (paired, 100 requests) or "
        "in accuracy (unpaired): nothing speaks for a change."
    )
    shown = advise([candidate("one", FIT), candidate("other", BETTER_FIT)])
    assert shown.text == (
        "Let other serve: recall of urgent 99.5% (n=2,000) against 95.0% (n=200), difference "
        "+2.2% to +8.5% (unpaired)."
    )
    met = advise([candidate("one", FIT), candidate("other", FIT)], paired(recall=BETTER_IN))
    assert met.text == (
        "Let one serve: recall of urgent differs by +22.0% (+5.0% to +35.0%) on the same requests "
        "(paired, 100 requests)."
    )


def test_what_differs_is_said_of_the_only_one_that_is_fit_also_where_it_is_worse() -> None:
    candidates = [candidate("one", FIT), candidate("other", BLIND)]
    for found, by in ((BETTER_IN, "+22.0%"), (WORSE_IN, "-22.0%")):
        text = advise(candidates, paired(recall=found)).text
        assert text.startswith(
            "Let one serve: it alone is shown to be fit. Against other: recall of urgent differs "
            f"by {by} ("
        )
        assert text.endswith("on the same requests (paired, 100 requests).")


def test_no_difference_is_said_of_those_alone_that_nobody_betters() -> None:
    tied = advise([candidate("a", BLIND), candidate("b", SO_SO), candidate("c", SO_SO)])
    assert tied.text.startswith("No difference shown between b and c in recall of urgent")


# What next


def test_fine_tuning_is_advised_when_every_prompt_version_is_shown_to_fall_short() -> None:
    versions = {"prompt_version=1": BLIND, "prompt_version=2": WEAK}
    alone = advise([candidate("prompt", BLIND, PROMPT, versions=versions)])
    assert steps(alone, "prompt") == [Step.IMPROVE]
    versions["prompt_version=2"] = SO_SO
    found = advise([candidate("prompt", BLIND, PROMPT, versions=versions)])
    assert steps(found, "prompt") == [Step.FINE_TUNE]
    (item,) = found.steps
    assert item.text == (
        "Every prompt version of prompt is shown to fall short: prompt_version=1 (recall of urgent)"
        ", prompt_version=2 (accuracy). Fine-tune a model."
    ).replace("), p", "); p")


def test_the_prompt_version_that_is_fit_is_named_when_the_prompt_as_a_whole_is_not() -> None:
    versions = {"prompt_version=1": BLIND, "prompt_version=2": FIT}
    one = candidate("prompt", BLIND, PROMPT, versions=versions)
    (item,) = advise([one]).steps
    assert item.step is Step.SERVE
    assert item.text == (
        "prompt is not fit (recall of urgent), but prompt_version=2 alone is: let it serve."
    )
    broken = one._replace(verdict=joined(one.verdict, [FIRING]))
    assert steps(advise([broken]), "prompt") == [Step.IMPROVE]


def test_a_prompt_version_that_may_still_reach_its_limits_is_no_case_for_fine_tuning() -> None:
    versions = {"prompt_version=1": BLIND, "prompt_version=2": FEW}
    found = advise([candidate("prompt", BLIND, PROMPT, versions=versions)])
    assert Step.FINE_TUNE not in steps(found, "prompt")


def test_fine_tuned_variant_that_is_fit_serves_in_place_of_prompts_that_fall_short() -> None:
    found = advise([candidate("tuned", FIT, TUNED), candidate("prompt", BLIND, PROMPT)])
    assert found.serve == "tuned"
    assert [(item.step, item.variant) for item in found.steps] == [
        (Step.SERVE, "tuned"),
        (Step.SERVE, "tuned"),
    ]


def test_fine_tuned_variant_that_falls_short_is_trained_again() -> None:
    found = advise([candidate("tuned", WEAK, TUNED), candidate("prompt", BLIND, PROMPT)])
    assert "Go on with fine-tuning: train tuned again." in [i.text[-42:] for i in found.steps]


def fires(name: str, evidence: Evidence) -> Candidate:
    """A candidate about which an alert fires."""
    one = candidate(name, evidence, TUNED)
    return one._replace(verdict=joined(one.verdict, [FIRING]))


@pytest.mark.parametrize(("evidence", "is_new"), [(FIT, True), (BLIND, False)])
def test_what_an_alert_alone_speaks_against_is_taken_back_before_it_is_trained_again(
    evidence: Evidence, is_new: bool
) -> None:
    (item, *_) = advise([fires("tuned", evidence)]).steps
    assert item.step is Step.IMPROVE
    assert ("go back to what served before it fired" in item.text) is is_new
    assert "train it again" in item.text


def test_the_lesser_evil_is_called_what_it_is() -> None:
    unfit = advise([candidate("one", HALF), candidate("other", BLIND)])
    assert unfit.text.startswith("Let one serve, though it is not fit itself: ")
    unknown = advise([candidate("one", FEW), candidate("other", BLIND)])
    assert unknown.text.startswith("Let one serve, though it is not shown to be fit: ")


def test_what_is_known_not_to_be_fit_does_not_serve_before_what_may_be() -> None:
    slow = candidate("slow", known((190, 10), ms=5_000))
    told = advise([slow, candidate("open", WEAK)])
    assert (told.serve, told.ground) == (None, Ground.CONFLICT)
    assert told.text.endswith("but it is not fit, and open may be.")


def test_what_answers_urgent_to_everything_does_not_serve_for_its_recall() -> None:
    all_urgent = known((200, 0), (0, 1_800))
    told = advise([candidate("all", all_urgent), candidate("other", HALF)])
    assert (told.serve, told.ground) == (None, Ground.CONFLICT)
    assert told.text.endswith("but it is not fit, and its accuracy is bad.")


def test_a_prompt_that_falls_short_gives_way_to_the_fit_one_that_is_preferred() -> None:
    stuck = candidate("pa", BLIND, PROMPT)
    for approach, said in ((PROMPT, "pb reaches"), (TUNED, "pb, which is fine-tuned, reaches")):
        told = advise([stuck, candidate("pb", FIT, approach)])
        (item,) = [item for item in told.steps if "pa (" in item.text]
        assert (item.step, item.variant, told.serve) == (Step.SERVE, "pb", "pb")
        assert said in item.text
    dear, cheap = candidate("fa", FIT, TUNED, cost=3), candidate("fb", FIT, TUNED, cost=1)
    told = advise([stuck, dear, cheap])
    (item,) = [item for item in told.steps if "pa (" in item.text]
    assert (item.variant, told.serve) == ("fb", "fb")


def test_slow_prompt_is_improved_and_no_case_for_fine_tuning() -> None:
    found = advise([candidate("prompt", known((190, 10), ms=2_000), PROMPT)])
    assert steps(found, "prompt") == [Step.IMPROVE]
    assert "is not fit (latency p95)" in found.steps[0].text


def test_scarce_labels_are_counted_and_timed_at_the_present_rate() -> None:
    found = advise([candidate("prompt", known((86, 14), (9_000, 10)), PROMPT, days=2)])
    (item,) = found.steps
    assert item.step is Step.LABEL
    assert item.text == (
        "prompt: recall of urgent needs about 71 more labels of true urgent messages, if the share "
        "stays: about 35 hours at the present rate of 50.0 a day."
    )


def test_labels_that_never_come_take_nobody_knows_how_long() -> None:
    found = advise([candidate("prompt", known((0, 0)), PROMPT)])
    assert steps(found, "prompt") == [Step.LABEL]
    assert "30 more labels of true urgent messages; none came" in found.steps[0].text


def test_latency_that_is_not_reported_is_asked_for() -> None:
    found = advise([candidate("tuned", known((190, 10), ms=None), TUNED)])
    assert steps(found, "tuned") == [Step.REPORT]


def test_accuracy_between_bad_and_good_is_for_people_to_decide() -> None:
    found = advise([candidate("tuned", SO_SO, TUNED)])
    assert steps(found, "tuned") == [Step.DECIDE]


def test_variant_that_is_fit_is_kept_under_watch() -> None:
    assert steps(advise([candidate("tuned", FIT, TUNED)]), "tuned") == [Step.SERVE]
