"""Whom notices go to: a JSON webhook, Alertmanager, a Kafka topic.

Addresses hold secrets, and so may what a server answers: errors name scheme and host at most, and
of an answer its status alone. One thread uses a receiver.
"""

import base64
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.message import Message
from http.client import HTTPException
from typing import IO
from urllib.parse import unquote, urlsplit

from monitor.codec.notices import notice_document, transition_document
from monitor.codec.snapshots import canonical
from monitor.domain.alerts import Event, fingerprint
from monitor.domain.errors import BrokerError, DeliveryError
from monitor.domain.notice_text import link_of
from monitor.domain.notices import Item, Notice
from monitor.ports import OutRecord, RecordSink

LEVEL_ENDS_MS = 5 * 60_000
"""An alert that Alertmanager hears nothing more of ends after this: we are gone, it says then."""

_HTTP_OK = range(200, 300)


class WebhookReceiver:
    """Posts each notice as JSON, with its id as ``Idempotency-Key``; follows no redirect.

    A login in the address (``https://user:password@host/``) is sent as basic authentication.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._post = _Post(url, timeout_s)

    def send(self, notice: Notice) -> None:
        """Return once the server has answered 2xx, DeliveryError otherwise."""
        self._post(notice_document(notice), {"Idempotency-Key": notice.id})

    def close(self) -> None:
        """Nothing to leave: each notice has a connection of its own."""


class AlertmanagerReceiver:
    """Posts what is raised to ``/api/v2/alerts`` below ``url``; groups, mutes and tells itself."""

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urlsplit(url)
        path = f"{parts.path.rstrip('/')}/api/v2/alerts"
        self._post = _Post(parts._replace(path=path, query="", fragment="").geturl(), timeout_s)

    def send(self, notice: Notice) -> None:
        """Return once Alertmanager has taken all alerts in, DeliveryError otherwise."""
        alerts = [_alert(item, notice) for item in notice.items]
        self._post(canonical(alerts), {})

    def close(self) -> None:
        """Nothing to leave: each notice has a connection of its own."""


class TopicReceiver:
    """Writes each transition to a Kafka topic, with the alert's fingerprint as key."""

    def __init__(self, topic: str, open_sink: Callable[[], RecordSink]) -> None:
        self._topic, self._open = topic, open_sink
        self._sink: RecordSink | None = None

    def send(self, notice: Notice) -> None:
        """Return once the log has acknowledged all transitions, DeliveryError otherwise."""
        records = [
            OutRecord(
                self._topic, fingerprint(item.transition.alert).encode(), transition_document(item)
            )
            for item in notice.items
        ]
        try:
            self._sink = self._sink or self._open()
            self._sink.publish(records)
        except BrokerError as error:
            self.close()
            raise DeliveryError(f"topic {self._topic}: {error}") from None

    def close(self) -> None:
        """Leave the broker; the next notice opens anew."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()


class _Unfollowed(urllib.request.HTTPRedirectHandler):
    """A redirect could carry alerts, and a login, to another host: it counts as an error."""

    def redirect_request(
        self,
        req: urllib.request.Request,  # noqa: ARG002 - the signature is the library's
        fp: IO[bytes],  # noqa: ARG002 - as urllib calls it
        code: int,  # noqa: ARG002 - as urllib calls it
        msg: str,  # noqa: ARG002 - as urllib calls it
        headers: Message,  # noqa: ARG002 - as urllib calls it
        newurl: str,  # noqa: ARG002 - as urllib calls it
    ) -> None:
        return None


class _Post:
    """Posts JSON to one address."""

    def __init__(self, url: str, timeout_s: float) -> None:
        parts = urlsplit(url)
        login, at, host = parts.netloc.rpartition("@")
        self._headers = {"Content-Type": "application/json", "User-Agent": "recallwatch"}
        if at:
            token = base64.b64encode(unquote(login).encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
        self._url = parts._replace(netloc=host).geturl()
        self._place = f"{parts.scheme}://{host}"
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(_Unfollowed())

    def __call__(self, body: bytes, headers: Mapping[str, str]) -> None:
        problem = self._problem(body, {**self._headers, **headers})
        if problem:
            raise DeliveryError(f"{self._place}: {problem}")

    def _problem(self, body: bytes, headers: Mapping[str, str]) -> str:
        """What went wrong, "" for nothing; the answer's body is not read."""
        try:
            request = urllib.request.Request(self._url, body, dict(headers), method="POST")
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                return "" if answer.status in _HTTP_OK else f"answered {answer.status}"
        except urllib.error.HTTPError as error:
            error.close()
            return f"answered {error.code}"
        except urllib.error.URLError as error:
            return _reason(error.reason, self._timeout_s)
        except (OSError, HTTPException, ValueError) as error:
            return _reason(error, self._timeout_s)


def _reason(error: object, timeout_s: float) -> str:
    """What kind of failure; the text of the error is left out, for it may quote the address."""
    if isinstance(error, TimeoutError):
        return f"did not answer within {timeout_s:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "refuses connections"
    if isinstance(error, socket.gaierror):
        return "its host name is unknown"
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection ({error.reason or 'unknown reason'})"
    return f"cannot be reached ({type(error).__name__})"


def _alert(item: Item, notice: Notice) -> Mapping[str, object]:
    """One alert of Alertmanager's API, version 2."""
    transition = item.transition
    ends_ms = notice.at_ms if item.is_end else notice.at_ms + LEVEL_ENDS_MS
    annotations = {"description": item.text, "runbook_url": item.runbook}
    annotations["summary"] = item.text.partition("\n")[0]
    alert: dict[str, object] = {
        "labels": _labels(item),
        "annotations": {name: text for name, text in annotations.items() if text},
        "startsAt": _instant(min(transition.at_ms, notice.at_ms)),
        "endsAt": _instant(ends_ms),
    }
    if notice.dashboard_url:
        alert["generatorURL"] = link_of(notice.dashboard_url, [transition.alert])
    return alert


def _labels(item: Item) -> Mapping[str, str]:
    transition = item.transition
    is_stalled = transition.event is Event.STALLED
    state = "stalled" if is_stalled else transition.moved_to.value
    labels = {
        "alertname": f"Recallwatch{state.title()}",
        "rule": transition.rule,
        "severity": item.severity.value,
        "variant": transition.key.variant,
        "slice": transition.key.slice,
        "version": transition.version,
        "fingerprint": fingerprint(transition.alert),
    }
    return {name: value for name, value in labels.items() if value}


def _instant(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
