"""Does the leakage check find what was planted, and what does it cost?

What is found at each threshold of texts that were changed a little, and of texts that are new; then
100,000 training texts against a million live hashes, and against live texts, by the command itself
in a process of its own, over captured records on disk. With ``--texts-of`` the first table is also
made of real texts: half of those in a folder of captured records against the other half.

    python -m benchmarks leakage --texts-of captured/
"""

import argparse
import hashlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.memory import iso
from benchmarks.planted import EDITS, messages, planted
from monitor.adapters.files import FilesLog
from monitor.adapters.near_index import NearIndex
from monitor.codec.records import RecordCodec
from monitor.domain.events import Kind
from monitor.domain.likeness import LEAST_WORDS, words_of

START_MS = 1_772_409_600_000
THRESHOLDS = (0.6, 0.65, 0.7, 0.75, 0.8, 0.9)
INTENTS = tuple(f"intent_{number:02d}" for number in range(16))
EXACT_SHARE = 0.05
LABELLED_EVERY = 10


def main(options: list[str]) -> None:
    """Print the tables, and the cost."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks leakage", description=__doc__)
    parser.add_argument("--training", type=int, default=100_000)
    parser.add_argument("--hashes", type=int, default=1_000_000)
    parser.add_argument("--texts", type=int, default=50_000)
    parser.add_argument("--planted", type=int, default=300, help="messages of each kind")
    parser.add_argument("--texts-of", type=Path, metavar="DIR", help="captured records")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(options)
    dice = random.Random(chosen.seed)
    training = messages(dice, chosen.training)
    if chosen.texts_of:
        _found_by_threshold(*_real(dice, chosen.texts_of, chosen.planted))
    _found_by_threshold(training, planted(dice, training, chosen.planted))
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder) / "train.txt"
        train.write_text("\n".join(training), "utf-8")
        _cost(Path(folder) / "hashes", train, _hashes(dice, training, chosen.hashes))
        _cost(Path(folder) / "texts", train, _texts(dice, training, chosen.texts))


Planted = Iterable[tuple[str, str, bool]]
"""Kind, message, and whether it is a training text that was changed."""


def _real(dice: random.Random, folder: Path, count: int) -> tuple[list[str], Planted]:
    """Half of the texts of 3 words or more in captured records; some changed, and the others."""
    log, codec = FilesLog(folder, {kind: str(kind) for kind in Kind}), RecordCodec()
    found = set[str]()
    while records := log.poll(10_000):
        spoken = filter(None, map(codec.spoken, records))
        found |= {text for _, text in spoken if len(words_of(text)) >= LEAST_WORDS}
    texts = sorted(found)
    dice.shuffle(texts)
    training, others = texts[: len(texts) // 2], texts[len(texts) // 2 :]
    changed = [
        (kind, edit(dice, text), True)
        for kind, edit in EDITS.items()
        for text in dice.sample(training, count)
    ]
    return training, [*changed, *(("new message", text, False) for text in others)]


def _found_by_threshold(training: list[str], asked_of: Planted) -> None:
    """Similarities are looked up once, with all pairs from the least threshold on."""
    index = NearIndex(THRESHOLDS[0])
    for text in training:
        index.add(text)
    asked, found = Counter[str](), Counter[tuple[str, float]]()
    edited = set()
    for kind, text, is_edited in asked_of:
        asked[kind] += 1
        near = index.nearest(text)
        found.update((kind, at) for at in THRESHOLDS if near and near.similarity >= at)
        if is_edited:
            edited.add(kind)
    print(f"share found near, {len(training):,} training texts")
    print(f"{'threshold':<36}" + "".join(f"{at:>8}" for at in THRESHOLDS))
    for kind in asked:
        shares = (found[kind, at] / asked[kind] for at in THRESHOLDS)
        print(
            f"{f'{kind} ({asked[kind]:,})':<36}" + "".join(f"{share:>8.3f}" for share in shares),
            flush=True,
        )
    true = {at: sum(found[kind, at] for kind in edited) for at in THRESHOLDS}
    false = {at: sum(found[kind, at] for kind in asked if kind not in edited) for at in THRESHOLDS}
    changed = sum(asked[kind] for kind in edited)
    recalls = (true[at] / changed for at in THRESHOLDS)
    precisions = (true[at] / max(1, true[at] + false[at]) for at in THRESHOLDS)
    print(f"{'recall':<36}" + "".join(f"{share:>8.3f}" for share in recalls))
    print(f"{'precision':<36}" + "".join(f"{share:>8.3f}" for share in precisions), flush=True)


Live = Iterator[tuple[dict[str, str], str]]
"""What a message carries, and what is to be found in it."""


def _hashes(dice: random.Random, training: list[str], count: int) -> Live:
    for number in range(count):
        is_copy = dice.random() < EXACT_SHARE
        text = dice.choice(training) if is_copy else f"another message, number {number}"
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        yield {"text_hash": digest}, "exact" if is_copy else "new"


def _texts(dice: random.Random, training: list[str], count: int) -> Live:
    """Copies, changed ones and new ones, each text once: nothing is answered from memory."""
    copies = int(count * EXACT_SHARE)
    for text in dice.sample(training, min(copies, len(training))):
        yield {"text": text}, "exact"
    kinds = 9
    for _, text, is_edited in planted(dice, training, (count - copies) // kinds):
        yield {"text": text}, "changed" if is_edited else "new"


def _cost(folder: Path, train: Path, live: Live) -> None:
    planned = _capture(folder, live)
    options = ["--train", str(train), "--files", str(folder), "--format", "json"]
    command = [sys.executable, "-m", "monitor", "leakage", *options]
    if "hashes" in folder.name:
        command.append("--exact-only")
    # A fork of the shell's time would be another program: the child tells its own peak.
    wrapped = (
        "import resource, runpy, sys, atexit\n"
        "atexit.register(lambda: print('peak', resource.getrusage("
        "resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_module('monitor', run_name='__main__')\n"
    )
    started, spent = time.perf_counter(), _spent()
    command[1:3] = ["-c", wrapped, "recallwatch"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds, cpu = time.perf_counter() - started, _spent() - spent
    leaked = json.loads(done.stdout)["variants"]["ALL"]["leaked"]
    peak = next(line for line in done.stderr.splitlines() if line.startswith("peak"))
    peak_mb = int(peak.split()[1]) * 1024 / 1e6
    print(
        f"{folder.name}: {sum(planned.values()):,} live messages ({dict(planned)}): "
        f"found {leaked['exact']:,} exact, near {leaked['near']}; "
        f"{seconds:,.0f} s, of which {cpu:,.0f} s of processor, peak {peak_mb:,.0f} MB",
        flush=True,
    )


def _spent() -> float:
    """Processor seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _capture(folder: Path, live: Live) -> Counter[str]:
    """Predictions with these contents a second apart, and a label for one in ten."""
    folder.mkdir()
    planned = Counter[str]()
    with (
        (folder / "predictions.jsonl").open("w") as predictions,
        (folder / "labels.jsonl").open("w") as labels,
    ):
        for number, (carried, what) in enumerate(live):
            planned[what] += 1
            now_ms = START_MS + number * 1_000
            prediction = _prediction(number, now_ms) | carried
            predictions.write(_line("predictions", number, now_ms, prediction))
            if number % LABELLED_EVERY == 0:
                at = number // LABELLED_EVERY
                labels.write(_line("labels", at, now_ms + 500, _label(number, now_ms)))
    return planned


def _prediction(number: int, now_ms: int) -> dict[str, object]:
    return {
        "prediction_id": f"p{number:015x}",
        "event_time": iso(now_ms),
        "variant": "fine_tuned",
        "predicted_intent": INTENTS[number % 16],
        "latency_ms": 40.0,
    }


def _label(number: int, now_ms: int) -> dict[str, object]:
    return {
        "prediction_id": f"p{number:015x}",
        "true_intent": INTENTS[number % 16 if number % 20 else 0],
        "label_time": iso(now_ms + 400),
        "label_id": f"l{number:015x}",
    }


def _line(topic: str, offset: int, log_ms: int, value: Iterable[object]) -> str:
    envelope = {"topic": topic, "partition": 0, "offset": offset, "timestamp": log_ms}
    return json.dumps({**envelope, "key": None, "value": json.dumps(value)}) + "\n"
