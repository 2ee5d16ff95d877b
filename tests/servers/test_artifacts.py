"""Apache Kafka is fetched once and whole, or the reason why not is told."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.artifacts import POM, UNFINISHED, ArtifactsError, java, kafka_jars, unavailable

Install = Callable[[str, str], Path]

JAVA = """echo 'openjdk version "21.0.1" 2023-10-17' >&2"""
MAVEN = """
for word; do case $word in -DoutputDirectory=*) place=${word#*=};; esac; done
echo called >>"$0.calls"
echo jar >"$place/kafka.jar"
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a shell script on an otherwise empty PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))

    def install(name: str, script: str) -> Path:
        program = programs / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return program

    return install


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def calls(maven: Path) -> int:
    return maven.with_name("mvn.calls").read_text().count("called")


def test_without_java_the_text_says_what_to_install(install: Install, cache: Path) -> None:
    with pytest.raises(ArtifactsError, match=r"no java on the PATH .*apt-get install"):
        java()
    assert "Java 17" in str(unavailable(cache))


def test_java_that_is_too_old_is_named_with_its_version(install: Install) -> None:
    install("java", """echo 'openjdk version "11.0.2" 2019-01-15' >&2""")
    with pytest.raises(ArtifactsError, match=r"17 or newer, and .*/java says: .*11\.0\.2"):
        java()


def test_without_maven_the_text_says_what_to_install(install: Install, cache: Path) -> None:
    install("java", JAVA)
    with pytest.raises(ArtifactsError, match=r"no mvn on the PATH .*apt-get install maven"):
        kafka_jars(cache)
    assert "mvn" in str(unavailable(cache))


def test_jars_are_fetched_once_and_need_no_maven_later(install: Install, cache: Path) -> None:
    install("java", JAVA)
    maven = install("mvn", MAVEN)
    assert unavailable(cache) is None
    folder = kafka_jars(cache)
    assert kafka_jars(cache) == folder
    assert calls(maven) == 1
    assert {path.name for path in folder.iterdir()} == {"kafka.jar", POM.name}
    maven.unlink()
    assert unavailable(cache) is None


def test_jars_of_another_pom_and_abandoned_ones_are_replaced(install: Install, cache: Path) -> None:
    install("java", JAVA)
    maven = install("mvn", MAVEN)
    folder = kafka_jars(cache)
    (folder / POM.name).write_text("<project/>")
    (folder / "old.jar").touch()
    (cache / f"{UNFINISHED}x").mkdir()
    kafka_jars(cache)
    assert calls(maven) == 2
    assert not (folder / "old.jar").exists()
    assert not list(cache.glob(f"{UNFINISHED}*"))


def test_a_download_that_breaks_once_is_tried_again(install: Install, cache: Path) -> None:
    install("java", JAVA)
    maven = install("mvn", f'{MAVEN}\n[ -e "$0.tried" ] || {{ : >"$0.tried"; exit 1; }}')
    assert (kafka_jars(cache) / "kafka.jar").exists()
    assert calls(maven) == 2


def test_a_broken_download_is_told_and_not_kept(install: Install, cache: Path) -> None:
    install("java", JAVA)
    install("mvn", f"{MAVEN}\necho the mirror is away; exit 1")
    with pytest.raises(ArtifactsError, match="the mirror is away"):
        kafka_jars(cache)
    assert [path.name for path in cache.iterdir()] == ["lock"]
