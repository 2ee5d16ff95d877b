"""Notices for people, through Apprise: mail, chats, pagers. The only module that imports it.

Kept apart because the import takes half a second, which only its users should pay.
"""

import logging

from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType, PersistentStoreMode

from monitor.domain.errors import DeliveryError
from monitor.domain.notices import Notice
from monitor.domain.rules import Severity

# They log whom they write to, secrets and all: our own words say what is needed.
for _name in ("apprise", "urllib3"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)


class AppriseReceiver:
    """One Apprise address; nothing is kept on disk, and no redirect is followed."""

    def __init__(self, url: str, timeout_s: float) -> None:
        """DeliveryError for an address that Apprise does not know."""
        self._place = f"{url.partition('://')[0]}://…"
        self._timeout_s = timeout_s
        asset = AppriseAsset(
            app_id="Recallwatch",
            app_desc="Recallwatch",
            app_url="",
            http_redirects=False,
            storage_mode=PersistentStoreMode.MEMORY,
            service_timeout=timeout_s,
            allow_templates=False,
        )
        self._apprise = Apprise(asset=asset)
        if not self._apprise.add(url):
            raise DeliveryError(f"{self._place} is no address that Apprise can use")

    def send(self, notice: Notice) -> None:
        """Return once the service has taken the notice, DeliveryError otherwise."""
        is_over = all(item.is_end for item in notice.items)
        is_page = notice.severity is Severity.PAGE
        kind = NotifyType.FAILURE if is_page else NotifyType.WARNING
        try:
            result = self._apprise.notify(
                body=notice.text,
                title=notice.title,
                notify_type=NotifyType.SUCCESS if is_over else kind,
                body_format=NotifyFormat.TEXT,
                timeout=self._timeout_s,
            )
        except Exception as error:  # noqa: BLE001 - its 170 services raise what they like
            problem = f"{self._place}: {type(error).__name__}"
            raise DeliveryError(problem) from None
        if not result:
            raise DeliveryError(f"{self._place}: Apprise says {result.status}")

    def close(self) -> None:
        """Nothing to leave."""
