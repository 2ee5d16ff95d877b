"""Rules to try on history: a file with `rules:` alone, as in the settings.

Beside the detectors of the settings a rule may have `detector: threshold`, the naive one that most
monitors use, to compare with.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, ValidationError

from monitor.app.settings.faults import Fault, SettingsError, describe, faults_of
from monitor.app.settings.groups import Settings
from monitor.app.settings.load import read_file
from monitor.app.settings.references import reference_faults
from monitor.app.settings.values import HOUR, MINUTE, Duration, Group, Loc, Names, Share, Text


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
    naive = {index: rule for index, rule in enumerate(rules) if _is_naive(rule)}
    usual = {index: rule for index, rule in enumerate(rules) if index not in naive}
    faults: list[Fault] = []
    thresholds: list[ThresholdSettings] = []
    for index, rule in naive.items():
        try:
            thresholds.append(ThresholdSettings.model_validate(rule))
        except ValidationError as error:
            faults += [_moved(fault, ("rules", index)) for fault in faults_of(error, {})]
    tried = settings
    try:
        told = settings.model_dump(exclude_unset=True)
        tried = Settings.model_validate({**told, "rules": list(usual.values())})
    except ValidationError as error:
        faults += [_as_in_file(fault, list(usual)) for fault in faults_of(error, {})]
    faults += _misreferred(rules, settings)
    if faults:
        raise SettingsError(describe(str(path), faults))
    return Candidates(tried, tuple(thresholds))


def _is_naive(rule: object) -> bool:
    return isinstance(rule, Mapping) and rule.get("detector") == "threshold"


def _moved(fault: Fault, to: Loc) -> Fault:
    """The fault of a part, under where the part stands."""
    return Fault((*to, *fault.loc), fault.problem, fault.variable)


def _as_in_file(fault: Fault, indexes: Sequence[int]) -> Fault:
    """The fault of one of some rules, under its place among all of them."""
    match fault.loc:
        case ("rules", int(index), *parts):
            return Fault(("rules", indexes[index], *parts), fault.problem, fault.variable)
    return fault


def _misreferred(rules: Sequence[object], settings: Settings) -> list[Fault]:
    """Names given twice, and intents and slices that the settings do not know, in all rules."""
    data = {
        "intents": settings.intents.model_dump(),
        "slices": list(settings.slices),
        "rules": list(rules),
    }
    return [Fault(loc, problem, None) for loc, problem in reference_faults(data)]
