"""Rules to try on history: a file with `rules:` alone, as in the settings.

Beside the detectors of the settings a rule may have `detector: threshold`, the naive one that most
monitors use, to compare with.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, ValidationError

from monitor.app.settings.faults import Fault, SettingsError, describe, faults_of
from monitor.app.settings.groups import Settings
from monitor.app.settings.load import read_file
from monitor.app.settings.values import HOUR, MINUTE, Duration, Group, Names, Share, Text


class ThresholdSettings(Group):
    """Recall over `window` by event time, below `objective` with `support` labels at least."""

    name: Text = Field(examples=["naive"])
    detector: Literal["threshold"] = Field(examples=["threshold"])
    metric: Literal["recall"] = Field(default="recall", examples=["recall"])
    of: Text = Field(examples=["urgent"])
    where: Mapping[Text, Text] = Field(default={}, examples=["{variant: fine_tuned}"])
    per: Names = Field(default=(), examples=["[variant]"])
    objective: Share = Field(examples=["0.80"])
    window: Duration = Field(default=HOUR, examples=["6h"])
    support: Annotated[int, Field(ge=1)] = Field(default=20, examples=["20"])
    every: Duration = Field(default=5 * MINUTE, examples=["5m"])


class Candidates(NamedTuple):
    """The settings with the rules to try in the place of their own, and the naive rules beside."""

    settings: Settings
    thresholds: tuple[ThresholdSettings, ...]


def load_candidates(path: Path, settings: Settings) -> Candidates:
    """The rules in a file, checked against the intents and slices of ``settings``.

    SettingsError with all faults.
    """
    data = read_file(path)
    rules = data.get("rules")
    if not isinstance(rules, list) or not rules:
        raise SettingsError(f"{path}: must hold rules, such as  rules: [{{name: …, objective: …}}]")
    if others := sorted(set(data) - {"rules"}):
        raise SettingsError(f"{path}: holds {', '.join(others)}: only rules can be tried")
    naive: list[object] = []
    usual: list[object] = []
    for rule in rules:
        is_naive = isinstance(rule, Mapping) and rule.get("detector") == "threshold"
        (naive if is_naive else usual).append(rule)
    faults: list[Fault] = []
    thresholds: list[ThresholdSettings] = []
    for rule in naive:
        try:
            thresholds.append(ThresholdSettings.model_validate(rule))
        except ValidationError as error:
            faults += faults_of(error, {})
    tried = settings
    try:
        tried = Settings.model_validate({**settings.model_dump(), "rules": usual})
    except ValidationError as error:
        faults += faults_of(error, {})
    faults += _unknown(thresholds, settings)
    if faults:
        raise SettingsError(describe(str(path), faults))
    return Candidates(tried, tuple(thresholds))


def _unknown(rules: list[ThresholdSettings], settings: Settings) -> list[Fault]:
    known = {"variant", *settings.slices}
    return [
        Fault(("rules", rule.name), f"{name} is not among the slices", None)
        for rule in rules
        for name in (*rule.where, *rule.per)
        if name not in known
    ]
