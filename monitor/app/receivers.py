"""From settings to those who are notified."""

from monitor.adapters.receivers import AlertmanagerReceiver, TopicReceiver, WebhookReceiver
from monitor.app.brokers import open_topic
from monitor.app.settings import ReceiverSettings, Settings, SettingsError
from monitor.app.wiring import in_ms
from monitor.domain.errors import DeliveryError
from monitor.domain.notices import Mode, Route
from monitor.domain.rules import Severity
from monitor.ports import Receiver


def receivers_of(settings: Settings) -> list[tuple[Route, Receiver]]:
    """Who is told of what; SettingsError for an address that Apprise does not know."""
    return [(_route_of(told, settings), _receiver_of(told, settings)) for told in settings.notify]


def _route_of(told: ReceiverSettings, settings: Settings) -> Route:
    alerting = settings.alerting
    modes = {"alertmanager": Mode.LEVEL, "topic": Mode.RECORD}
    return Route(
        name=told.known_as,
        severities=frozenset(map(Severity, told.severities)),
        mode=modes.get(told.targets[0], Mode.TELL),
        group_wait_ms=in_ms(alerting.group_wait),
        group_interval_ms=in_ms(alerting.group_interval),
        repeat_ms=in_ms(alerting.repeat),
        dashboard_url=alerting.dashboard_url or "",
    )


def _receiver_of(told: ReceiverSettings, settings: Settings) -> Receiver:
    timeout_s = settings.alerting.timeout.total_seconds()
    if told.webhook is not None:
        return WebhookReceiver(told.webhook.get_secret_value(), timeout_s)
    if told.alertmanager is not None:
        return AlertmanagerReceiver(told.alertmanager.get_secret_value(), timeout_s)
    if told.url is not None:
        return _apprise(told.known_as, told.url.get_secret_value(), timeout_s)
    topic = told.topic or ""
    return TopicReceiver(topic, lambda: open_topic(settings, topic))


def _apprise(name: str, url: str, timeout_s: float) -> Receiver:
    # Imported by those who use it alone: it takes half a second.
    from monitor.adapters.receivers_apprise import AppriseReceiver  # noqa: PLC0415 - see above

    try:
        return AppriseReceiver(url, timeout_s)
    except DeliveryError as error:
        raise SettingsError(f"notify, receiver {name}: {error}") from None
