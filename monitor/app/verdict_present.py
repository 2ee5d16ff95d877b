"""The document of ``recallwatch verdict``: verdicts of one moment, with what proves them."""

import json
from pathlib import Path
from typing import Any

from monitor.app.console import dump
from monitor.app.flow import uncollected
from monitor.app.history import Place
from monitor.app.replay import OnProgress, Replay
from monitor.app.replaying import Asked as AskedHistory
from monitor.app.replaying import opened
from monitor.app.report import cut_of, digest_in, iso
from monitor.app.settings import Settings, SettingsError
from monitor.app.still import Still, still_of
from monitor.app.verdict_document import binary_document, section_of
from monitor.app.verdict_review import Asked, Reviews, reviewed
from monitor.app.wiring import spec_of
from monitor.ports import StateReader

VERDICT_VERSION = 1


def present_verdicts(
    reader: StateReader, settings: Settings, asked: Asked, binary: str | None = None
) -> dict[str, Any]:
    """Verdicts on a store from one picture of it; ``digest`` is None when none could be taken.

    With ``binary``, a group or an intent, the plain matrix of it stands there as well.
    SettingsError for a name that is neither declared nor was ever seen.
    """
    spec = spec_of(settings)

    def read(still: Still) -> None:
        reviewed(still, settings, asked)
        digest_in(still, spec)

    still = still_of(reader, read)
    found = reviewed(still, settings, asked)
    watermark_ms = still.evaluation().watermark_ms
    document = {
        "version": VERDICT_VERSION,
        "as_of": iso(watermark_ms),
        "sampling": spec.sampling,
        "digest": digest_in(still, spec) if still.is_whole else None,
        "cut": cut_of(still),
        "settings": settings.digest(),
        **section_of(found, spec.groups),
    }
    if binary is not None:
        group = spec.groups.of(binary)
        if binary not in spec.groups.members and not _is_seen(found, binary):
            known = ", ".join(spec.groups.members) or "none"
            raise SettingsError(f"--binary: {binary} is no group ({known}) and no intent seen")
        document["binary"] = binary_document(found, binary, group)
    read_back: dict[str, Any] = json.loads(dump(document))
    return read_back


def _is_seen(found: Reviews, intent: str) -> bool:
    """Whether an intent occurs in the window, as actual or as predicted."""
    confusions = (one.counts.confusion for one in found.reviews.values())
    return any(intent in pair for confusion in confusions for pair in confusion)


def replayed_store(
    settings: Settings,
    files: Path | None,
    archive: str | None,
    is_offline: bool,
    on_progress: OnProgress,
) -> StateReader:
    """A store that was filled by a replay, in memory."""
    asked = AskedHistory(files, archive, is_offline)
    with uncollected(), opened(settings, asked, Place()) as log:
        replay = Replay(log, settings)
        replay.run(on_progress)
    return replay.store
