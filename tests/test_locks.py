"""What `make` and the container image install is exactly what was resolved, from whatever index."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
EVERYTHING = ROOT / "requirements.lock"
RUNTIME = ROOT / "requirements-runtime.lock"
BOTH = pytest.mark.parametrize("lock", [EVERYTHING, RUNTIME], ids=lambda lock: lock.name)


def pinned(lock: Path) -> dict[str, set[str]]:
    """The versions of each package; more than one where they depend on the Python version."""
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([a-z0-9-]+)(?:\[.+\])?==(\S+)", lock.read_text("utf-8"), re.MULTILINE
    ):
        pins.setdefault(name, set()).add(version)
    return pins


@BOTH
def test_every_package_of_a_lock_has_a_hash(lock: Path) -> None:
    entries = re.split(r"^(?=[a-z0-9])", lock.read_text("utf-8"), flags=re.MULTILINE)[1:]
    assert entries
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


@BOTH
def test_a_lock_names_no_index_and_no_folder(lock: Path) -> None:
    assert re.findall(r"://|--find-links|--index-url|file:", lock.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        (EVERYTHING, PROJECT["dependencies"] + EXTRAS["dev"] + EXTRAS["embedded"] + EXTRAS["fast"]),
        (RUNTIME, PROJECT["dependencies"]),
    ],
    ids=["everything", "runtime"],
)
def test_a_lock_holds_a_fitting_version_of_every_declared_dependency(
    lock: Path, wanted: list[str]
) -> None:
    pins = pinned(lock)
    for requirement in map(Requirement, wanted):
        assert all(requirement.specifier.contains(pin) for pin in pins[requirement.name.lower()])


def test_the_image_runs_the_versions_that_the_tests_ran() -> None:
    everything = pinned(EVERYTHING)
    assert {name: everything[name] for name in pinned(RUNTIME)} == pinned(RUNTIME)
