"""What does a sample save in work, and cost in time to a page?

``work``: one stream of a made-up chatbot, from record bytes into a real Valkey, with and without
sampling; seconds of CPU per million events, of the flow and of Valkey. The broker is left out.

``pages``: courses of recall, whole and sampled. Each is drawn once; of its votes those are kept
whose ids ``domain.sampling`` keeps, and the product's own detector weighs them, with the bar that
``evidence: auto`` gives it for so many labels.

    python -m benchmarks sampled
    python -m benchmarks sampled --share 0.2 --runs 100 --parts pages
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import redis

from benchmarks import sizes
from benchmarks.courses import BASELINE, DROP_DAYS, DROPS, WARM_UP, Course, dice_of, rule_of
from monitor.adapters.memory import MemoryLog
from monitor.adapters.redis import RedisStore
from monitor.adapters.redis_client import RedisConnection
from monitor.app.embedded import embedded_servers
from monitor.app.flow import Flow, Limits
from monitor.app.wiring import codec_of, spec_of
from monitor.domain.alerts import Status
from monitor.domain.events import Record
from monitor.domain.sampling import EVERY, kept
from monitor.domain.windows import HOUR_MS

RATES = (50, 500, 5_000)
"""Urgent labels an hour, before sampling."""

WORK_RATE, WORK_INTENTS = 200, 16
"""Predictions a second and intents of the stream that is worked off."""


@dataclass
class SampledCourse(Course):
    """A course of which a share of the votes is weighed."""

    share: float = EVERY
    drawn: int = 0

    def _weigh(self, ats: npt.NDArray[np.int64], hits: npt.NDArray[np.bool_]) -> None:
        names = [f"{number:08}" for number in range(self.drawn, self.drawn + len(ats))]
        self.drawn += len(names)
        is_in = np.array(kept(names, self.share), dtype=bool)
        super()._weigh(ats[is_in], hits[is_in])


def hours_to_page(rate: int, share: float, recall: float, seed: int, run: int) -> float | None:
    """From the fall of recall to the page; None when none came in as long as a drop may go on."""
    own_rate = rate * share
    dice = dice_of(seed, "sampled", rate, str(recall), run)
    course = SampledCourse(rule_of(max(1, round(own_rate))), rate, dice, share=share)
    course.feed(WARM_UP / own_rate, BASELINE)
    fell_ms, before = course.now_ms, course.votes
    course.feed(DROP_DAYS[recall] * 24, recall, until=Status.FIRING)
    pages = [moved.transition.at_ms for moved in course.raised(before)]
    return (pages[0] - fell_ms) / HOUR_MS if pages else None


def main(options: list[str]) -> None:
    """Print the table of each part."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks sampled",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--rates", type=int, nargs="+", default=list(RATES))
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parts", nargs="+", choices=["work", "pages"])
    parser.add_argument("--rounds", type=int, default=3, help="of the work")
    parser.set_defaults(parts=["work", "pages"])
    chosen = parser.parse_args(options)
    if "work" in chosen.parts:
        _work(chosen.share, chosen.rounds)
    if "pages" in chosen.parts:
        _pages(chosen)


def _work(share: float, rounds: int) -> None:
    """Print the best of some rounds, in turn."""
    records = list(sizes.stream(WORK_RATE, WORK_INTENTS, labelled=True))
    shares = (EVERY, share)
    found: dict[float, list[tuple[float, float]]] = {each: [] for each in shares}
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded_servers(Path(folder), broker=False) as endpoints,
    ):
        for _ in range(rounds):
            for each in shares:
                found[each].append(_cpu_s(records, each, endpoints.redis_url))
    print(f"{len(records):,} events, best of {rounds}: seconds of CPU per million events")
    print("| sampling | flow | Valkey |\n|---:|---:|---:|")
    for each, runs in found.items():
        flow_s, valkey_s = (min(column) / len(records) * 1e6 for column in zip(*runs, strict=True))
        print(f"| {each:g} | {flow_s:.1f} | {valkey_s:.1f} |", flush=True)


def _cpu_s(records: list[Record], share: float, url: str) -> tuple[float, float]:
    """What the flow took, and what Valkey did."""
    settings = sizes.settings_of(WORK_INTENTS).model_copy(update={"sampling": share})
    spec, client = spec_of(settings), redis.Redis.from_url(url)
    client.flushall()
    store = RedisStore(RedisConnection(url), "work", keep_ms=spec.windows.keep_ms)
    log = MemoryLog({"predictions": 1, "labels": 1})
    for record in records:
        log.append(record)
    flow = Flow(spec, codec_of(settings), log, store, limits=Limits(4_000))
    before, began = _used_s(client), time.process_time()
    while flow.turn().records:
        pass
    ended, after = time.process_time(), _used_s(client)
    store.close()
    return ended - began, after - before


def _used_s(client: "redis.Redis") -> float:
    told = client.info("cpu")
    return float(told["used_cpu_user"] + told["used_cpu_sys"])


def _pages(chosen: argparse.Namespace) -> None:
    """Print median and 95th percentile of the hours to a page."""
    print(f"hours from a fall of recall to the page, {chosen.runs} runs: median (95 %)")
    print("| urgent labels an hour | recall falls to | sampling: 1.0 | sampling: ", end="")
    print(f"{chosen.share:g} | missed |\n|---:|---:|---:|---:|---:|", flush=True)
    for rate in chosen.rates:
        for recall in DROPS:
            cells, missed = [], []
            for share in (EVERY, chosen.share):
                runs = range(chosen.runs)
                found = [hours_to_page(rate, share, recall, chosen.seed, run) for run in runs]
                hours = [each for each in found if each is not None]
                missed.append(len(found) - len(hours))
                cells.append(f"{np.median(hours):.2f} ({np.quantile(hours, 0.95):.2f})")
            lost = " / ".join(map(str, missed))
            print(f"| {rate:,} | {recall:.2f} | {' | '.join(cells)} | {lost} |", flush=True)
