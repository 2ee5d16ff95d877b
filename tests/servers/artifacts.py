"""The jars of Apache Kafka, fetched once with Maven and kept below the project.

Run as a program, it fetches them ahead of the tests.
"""

import fcntl
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

POM = Path(__file__).with_name("pom.xml")
CACHE = Path(__file__).parents[2] / ".cache"
LEAST_JAVA = 17
ATTEMPTS = 2
FETCH_SECONDS = 300.0

UNFINISHED = "unfinished-"
"""Prefix of a folder that is still being filled."""


class ArtifactsError(Exception):
    """Apache Kafka cannot be had here; the text says what is missing and how to get it."""


def kafka_jars(place: Path = CACHE) -> Path:
    """The folder of the jars; fetches them when it is not there or was made from another pom.

    Raises ArtifactsError when Java or Maven are missing, and when Maven fails twice.
    """
    java()
    folder = place / f"apache-kafka-{_version()}"
    place.mkdir(parents=True, exist_ok=True)
    with _locked(place / "lock"):
        if not _is_current(folder):
            _fetch(folder)
    return folder


def java() -> str:
    """The program `java`. Raises ArtifactsError when there is none of version 17 or newer."""
    program = shutil.which("java")
    if program is None:
        raise ArtifactsError(
            "Apache Kafka needs Java 17 or newer, and there is no java on the PATH"
            " (Debian: apt-get install default-jre-headless maven)"
        )
    said = _said_of_its_version(program)
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < LEAST_JAVA:
        first = said.partition("\n")[0] or "nothing about its version"
        raise ArtifactsError(f"Apache Kafka needs Java 17 or newer, and {program} says: {first}")
    return program


@cache
def _said_of_its_version(program: str) -> str:
    done = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    return done.stderr


def unavailable(place: Path = CACHE) -> str | None:
    """Why Apache Kafka cannot be had here, None if it can; fetches nothing."""
    try:
        java()
        if not _is_current(place / f"apache-kafka-{_version()}"):
            _maven()
    except ArtifactsError as error:
        return str(error)
    return None


def _maven() -> str:
    program = shutil.which("mvn")
    if program is None:
        raise ArtifactsError(
            "Apache Kafka is fetched with Maven, and there is no mvn on the PATH"
            " (Debian: apt-get install maven)"
        )
    return program


def _version() -> str:
    version = ElementTree.parse(POM).getroot().findtext("properties/kafka.version")
    assert version is not None
    return version


def _is_current(folder: Path) -> bool:
    made_from = folder / POM.name
    return made_from.is_file() and made_from.read_bytes() == POM.read_bytes()


def _fetch(folder: Path) -> None:
    """Into a folder of another name first: what has the right name is complete."""
    maven = _maven()
    for abandoned in (folder, *folder.parent.glob(f"{UNFINISHED}*")):
        shutil.rmtree(abandoned, ignore_errors=True)
    filled = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=folder.parent))
    try:
        _fill(filled, maven)
    except BaseException:
        shutil.rmtree(filled, ignore_errors=True)
        raise
    filled.rename(folder)


def _fill(folder: Path, maven: str) -> None:
    command = [maven, "--quiet", "--batch-mode", "--strict-checksums", "--file", str(POM)]
    command += ["dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=FETCH_SECONDS,
        )
        if done.returncode == 0:
            shutil.copy(POM, folder)
            return
    raise ArtifactsError(f"Maven could not fetch Apache Kafka:\n{done.stdout[-2_000:]}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One at a time on this machine; the lock ends with the process that holds it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    try:
        kafka_jars()
    except ArtifactsError as error:
        sys.exit(str(error))
