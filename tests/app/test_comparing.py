"""From records of two variants that answered the same requests to the report, and the settings."""

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from monitor.adapters.memory import MemoryStore
from monitor.app.console import dump, print_report
from monitor.app.report import present_report
from monitor.app.settings import Settings, SettingsError, load_settings
from monitor.app.wiring import codec_of, provenance_of, settings_of, spec_of
from monitor.domain.events import Prediction
from monitor.domain.windows import HOUR_MS
from tests.app.paired import PAIRED, PLAIN, Answered, answers, store_of

WORLD = Answered(both=60, only_new=25, only_old=3, neither=12)


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return report_of(store_of(WORLD, PAIRED), PAIRED)


def report_of(store: MemoryStore, settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(dump(present_report(store, settings)))
    return found


def measures(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    [pair] = report["comparisons"]["variants"]
    assert (pair["one"], pair["other"]) == ("new", "old")
    return {row["name"]: row for row in pair["measures"]}


def test_requests_that_both_answered_are_compared_as_pairs(report: dict[str, Any]) -> None:
    [watched] = report["comparisons"]["watched"]
    [pair] = watched["pairs"]
    assert (pair["one"]["variant"], pair["other"]["variant"]) == ("new", "old")
    assert (pair["both"], pair["only_one"], pair["only_other"], pair["neither"]) == (60, 25, 3, 12)
    assert (watched["unpaired"], watched["waiting"], watched["repeated"]) == (0, 0, 0)
    assert pair["p_value"] == pytest.approx(stats.binomtest(25, 28).pvalue, abs=1e-9)
    assert pair["better"] == "new"
    recall = measures(report)["urgent recall"]
    assert (recall["method"], recall["holds_at"]) == ("paired", "every look")
    assert (recall["finding"], recall["comparison"]) == ("better", "urgent-pairs")
    assert recall["difference"] == pytest.approx(0.22)
    assert recall["interval"][0] > 0
    assert recall["claimed"] == pair["claimed"]


def test_what_no_comparison_watches_is_unpaired_and_says_so(report: dict[str, Any]) -> None:
    accuracy = measures(report)["accuracy"]
    assert (accuracy["method"], accuracy["holds_at"]) == ("unpaired", "one look")
    assert accuracy["comparison"] is None
    plain = report_of(store_of(WORLD, PLAIN), PLAIN)
    recall = measures(plain)["urgent recall"]
    assert (recall["method"], recall["n"], recall["other_n"]) == ("unpaired", 100, 100)
    assert recall["difference"] == pytest.approx(0.22)
    assert plain["comparisons"]["watched"] == []


def test_variants_without_a_common_request_are_unpaired() -> None:
    alone = Answered(both=60, only_new=25, only_old=3, neither=12, is_shared=False)
    found = report_of(store_of(alone, PAIRED), PAIRED)
    assert measures(found)["urgent recall"]["method"] == "unpaired"
    [watched] = found["comparisons"]["watched"]
    assert (watched["pairs"], watched["waiting"]) == ([], 200)


def test_latency_and_relevance_have_their_own_tests(report: dict[str, Any]) -> None:
    found = measures(report)
    assert {"latency p50", "latency p95", "relevance"} < set(found)
    assert found["latency p50"]["finding"] == "better"
    assert found["latency p50"]["difference"] == pytest.approx(-100, abs=4)
    assert found["relevance"]["finding"] == "no difference shown"
    assert {found[name]["holds_at"] for name in ("latency p50", "relevance")} == {"every look"}


def test_one_variant_is_compared_with_nothing() -> None:
    found = report_of(MemoryStore(), PAIRED)
    assert found["comparisons"]["variants"] == []
    assert found["comparisons"]["watched"][0]["pairs"] == []


def test_text_says_which_is_paired(
    report: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    print_report(report, width=200)
    told = capsys.readouterr().out
    assert "+22.0 points" in told
    assert "paired, every look" in told
    assert "unpaired, one look" in told
    assert "Comparison urgent-pairs: 100 pairs" in told


# Settings


def loaded(folder: Path, comparison: str, more: str = "") -> Settings:
    file = folder / "recallwatch.yaml"
    groups = "intents: {known: [lost_card], groups: {urgent: [lost_card]}}\n"
    file.write_text(f"{groups}comparisons: [{comparison}]\n{more}", encoding="utf-8")
    return load_settings(file, {})


@pytest.mark.parametrize(
    ("comparison", "fault"),
    [
        ("{name: a}", "comparisons[0].of: is required by metric recall"),
        ("{name: a, metric: accuracy, of: urgent}", "has no meaning for metric accuracy"),
        ("{name: a, metric: precision, of: urgent}", "comparisons[0].metric"),
        ("{name: a, of: urgnt}", "is no group; did you mean urgent?"),
        ("{name: a, of: urgent, within: 30s}", "comparisons[0].within: must be at least 1m"),
        ("{name: a, of: urgent, within: 8d}", "comparisons[0].within: must be at most 7d"),
        (
            "{name: a, of: urgent}, {name: a, metric: accuracy}",
            "comparisons[1].name: is the name of an earlier rule, signal or comparison",
        ),
    ],
)
def test_comparison_that_does_not_fit_is_refused_with_its_place(
    tmp_path: Path, comparison: str, fault: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        loaded(tmp_path, comparison)
    assert fault in str(caught.value)


def test_comparison_may_not_have_the_name_of_a_rule(tmp_path: Path) -> None:
    rule = "rules: [{name: a, of: urgent, objective: 0.8}]\n"
    with pytest.raises(SettingsError, match="an earlier rule, signal or comparison"):
        loaded(tmp_path, "{name: a, of: urgent}", rule)


def test_comparisons_change_the_digest_and_their_absence_does_not(tmp_path: Path) -> None:
    asked = loaded(tmp_path, "{name: a, of: urgent, maturity: 6h}")
    plain = asked.model_copy(update={"comparisons": ()})
    assert asked.digest() != plain.digest()
    assert "comparisons" not in provenance_of(plain).document
    document = provenance_of(asked).document
    assert settings_of(document, plain).comparisons == asked.comparisons
    assert settings_of(provenance_of(plain).document, asked).comparisons == ()
    [rule] = spec_of(asked).comparisons
    assert (rule.maturity_ms, rule.within_ms) == (6 * HOUR_MS, 24 * HOUR_MS)


def test_requests_are_read_alike_quickly_and_closely_and_only_where_they_are_compared() -> None:
    records = [record for record in answers(WORLD) if record.topic == "predictions"]
    for settings, is_kept in ((PAIRED, True), (PLAIN, False)):
        codec = codec_of(settings)
        quick, close = codec.facts(records), [codec.fact(record) for record in records]
        assert quick == close
        requests = {fact.request for fact in quick if isinstance(fact, Prediction)}
        assert len(requests) == (WORLD.n if is_kept else 1)
        assert ("" in requests) != is_kept
