"""Read the settings: choose the file, lay the environment over it, check everything at once."""

import os
import re
from collections.abc import Hashable, Mapping
from pathlib import Path

import yaml
from pydantic import ValidationError

from monitor.app.settings.faults import (
    ENV_NESTING,
    ENV_PREFIX,
    Fault,
    SettingsError,
    describe,
    faults_of,
    spot_at,
    variable_for,
)
from monitor.app.settings.groups import Settings
from monitor.app.settings.references import reference_faults
from monitor.app.settings.values import Loc

ENV_CONFIG = "RECALLWATCH_CONFIG"
ENV_NOT_SETTINGS = frozenset({ENV_CONFIG, "RECALLWATCH_REQUIRE_REAL"})
DEFAULT_FILE = Path("recallwatch.yaml")


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this file and environment.

    Without `path` the file is the one that RECALLWATCH_CONFIG names, else `recallwatch.yaml` in the
    working folder if there is one, else none. Without `environ` the process's own is used.

    Raises SettingsError with all faults; also when a file that was named cannot be read.
    """
    environ = os.environ if environ is None else environ
    file = chosen_file(path, environ)
    data = {} if file is None else read_file(file)
    overlay = _Overlay(data)
    for name in sorted(set(environ) - ENV_NOT_SETTINGS):
        if name.startswith(ENV_PREFIX):
            overlay.apply(name, environ[name])
    settings, faults = _checked(data, overlay.variables)
    faults += overlay.faults
    if settings is None or faults:
        raise SettingsError(describe(str(file or "environment"), faults))
    return settings


def _checked(
    data: Mapping[str, object], variables: Mapping[Loc, str]
) -> tuple[Settings | None, list[Fault]]:
    try:
        return Settings.model_validate(data), []
    except ValidationError as error:
        faults = faults_of(error, variables)
    # Settings compares its groups only when each is right in itself; look at once all the same.
    for loc, problem in reference_faults(data):
        faults.append(Fault(loc, problem, variable_for(loc, variables)))
    return None, faults


def chosen_file(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Path | None:
    """The file that ``load_settings`` would read; None where there is none."""
    environ = os.environ if environ is None else environ
    if path is not None:
        return path
    if environ.get(ENV_CONFIG):
        return Path(environ[ENV_CONFIG])
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def read_file(file: Path) -> dict[str, object]:
    """The names and values in a YAML file; SettingsError when it cannot be read as such."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file}: is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from None
    problem = ""
    try:
        data = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        problem = _yaml_problem(error)
    if problem:
        raise SettingsError(f"{file}: is not valid YAML: {problem}")
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise SettingsError(f"{file}: must hold names and values, such as  kafka: {{…}}")
    return data


class _Loader(yaml.SafeLoader):
    """YAML in which yes, no, on, off and dates stay text (they may be intents), keys are unique."""

    def construct_mapping(
        self, node: yaml.MappingNode, deep: bool = False
    ) -> dict[Hashable, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, "a name is given twice", key.start_mark
                )
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_READ_AS_TEXT = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _READ_AS_TEXT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")
)


def _yaml_problem(error: yaml.YAMLError) -> str:
    """Place and problem, without the line and without what it quotes: a password may be there."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return "it holds a character that YAML does not allow"
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = re.sub(r"(['\"])[^'\"]{2,}\1", "…", error.problem or "cannot be understood")
    return where + problem


class _Overlay:
    """Lays environment variables over what the file says; lists and mappings merge part by part.

    Names are compared without regard to case. A part of a list is named by its place:
    RECALLWATCH_RULES__0__OBJECTIVE changes a rule of the file.
    """

    def __init__(self, data: dict[str, object]) -> None:
        self._data = data
        self.variables: dict[Loc, str] = {}
        self.faults: list[Fault] = []

    def apply(self, variable: str, text: str) -> None:
        """Set the value that this variable names, or note why that cannot be."""
        parts = tuple(variable.removeprefix(ENV_PREFIX).lower().split(ENV_NESTING))
        try:
            if not all(parts):
                raise _MisplacedError((), "is not the name of a setting")
            self._place(self._data, parts, (), (variable, text))
        except _MisplacedError as error:
            self.faults.append(Fault(error.loc, error.problem, variable))

    def _place(
        self, node: object, parts: tuple[str, ...], loc: Loc, given: tuple[str, str]
    ) -> object:
        """The node with the value laid in; mappings and lists are changed where they stand."""
        if not parts:
            return self._merge(node, _read_value(loc, given[1]), loc, given[0])
        node = {} if node is None else node
        if isinstance(node, dict):
            key: str | int = next((k for k in node if str(k).lower() == parts[0]), parts[0])
            node[key] = self._place(node.get(key), parts[1:], (*loc, key), given)
        elif isinstance(node, list):
            index = _index_in(node, parts[0], loc)
            node[index] = self._place(node[index], parts[1:], (*loc, index), given)
        else:
            raise _MisplacedError(loc, f"has no part {parts[0]}")
        return node

    def _merge(self, node: object, value: object, loc: Loc, variable: str) -> object:
        if not isinstance(value, dict):
            self.variables[loc] = variable
            return value
        merged = node if isinstance(node, dict) else {}
        for key, part in value.items():
            merged[key] = self._merge(merged.get(key), part, (*loc, key), variable)
        return merged


class _MisplacedError(Exception):
    def __init__(self, loc: Loc, problem: str) -> None:
        super().__init__(problem)
        self.loc = loc
        self.problem = problem


def _index_in(node: list[object], part: str, loc: Loc) -> int:
    if part.isdecimal() and int(part) < len(node):
        return int(part)
    raise _MisplacedError(loc, f"has no part {part}; the file gives it {len(node)}, counted from 0")


def _read_value(loc: Loc, text: str) -> object:
    """Lists and mappings may be written as in YAML or JSON; everything else stays text."""
    bracketed = re.fullmatch(r"\[.*\]|\{.*\}", text.strip(), re.DOTALL)
    if not bracketed or not spot_at(loc).is_container:
        return text
    try:
        value: object = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError:
        value = None
    if value is None:
        raise _MisplacedError(loc, "is neither a YAML nor a JSON list or mapping")
    return value
