"""The public data sets beside the project, each with an oracle that was computed by other code."""

import csv
import gzip
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from monitor.app.replay import replay_files
from monitor.app.report import report_of
from monitor.app.settings import Settings
from monitor.app.wiring import spec_of, verdict_limits_of
from monitor.domain.engine import Spec
from monitor.ports import OutRecord, StateReader
from tests.replay.sinks import ListSink

FOLDER = Path(__file__).parents[3] / "shared" / "data"
NAMES = ("acc97_recall20", "clinc150_main", "yes_no_binary")

NO_DATA = "needs the public data sets in ../shared/data"

Document = dict[str, Any]
Row = dict[str, str]


@dataclass(frozen=True)
class Scenario:
    """One data set: captured records, what it is about, and the oracle's answers."""

    name: str

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    def about(self) -> Document:
        return _document(self.folder / "scenario.json")

    def oracle(self, name: str) -> Document:
        return _document(self.folder / "oracle" / f"{name}.json")

    def rows(self, name: str) -> list[Row]:
        """The rows of one of the oracle's tables."""
        path = self.folder / "oracle" / name
        text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return list(csv.DictReader(text.decode().splitlines()))

    def settings(self) -> Settings:
        about = self.about()
        predictions, labels = about["topics"]
        return Settings.model_validate(
            {
                "kafka": {"predictions": {"topic": predictions}, "labels": {"topic": labels}},
                "intents": {
                    "closed": True,
                    "known": about["intents"],
                    "groups": {"urgent": about["urgent"]},
                },
                "slices": ["variant", "channel", "model_version", "prompt_version"],
                "rules": [
                    {
                        "name": f"urgent-recall-{variant}",
                        "of": "urgent",
                        "where": {"variant": variant},
                        "per": ["variant"],
                        "objective": about["recall_threshold"][variant],
                        "maturity": "6h",
                    }
                    for variant in about["variants"]
                ],
                "verdict": {"recall": {"urgent": 0.8}},
            }
        )


@dataclass(frozen=True)
class Replay:
    """What the flow made of a scenario."""

    spec: Spec
    store: StateReader
    report: Document
    dead_letters: list[OutRecord]


@cache
def replayed(scenario: Scenario) -> Replay:
    """Replayed once for all tests, as the command does it."""
    settings, sink = scenario.settings(), ListSink()
    spec = spec_of(settings)
    store = replay_files(scenario.folder, settings, dead_letters=sink)
    report = report_of(store, spec, verdict_limits_of(settings))
    return Replay(spec, store, report, sink.records)


def _document(path: Path) -> Document:
    document: Document = json.loads(path.read_text("utf-8"))
    return document
