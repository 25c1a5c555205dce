"""The notification: what is sent, and how. Who has its address can write there, so no message holds it."""

from __future__ import annotations

import http
import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.drift_report.changes import Change, headline
from ansible.module_utils.drift_report.document import Report

ATTEMPTS = 3
PAUSES_SECONDS = (2.0, 5.0)
"""Between the attempts of one run; the next run tries again anyway."""

TEXT_LINES = 20
TEXT_LINE_CHARACTERS = 300
MOST_CHANGES = 200
"""More is left out and said to be: chats cut or refuse what is too long."""


class WebhookError(Exception):
    """The notification was not taken; the text says why, never where."""


def slack_escape(text: str) -> str:
    """Text that Slack shows as it is: the three characters that it wants escaped begin its links and mentions."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def payload(report: Report, changes: list[Change], report_url: str = "") -> dict[str, Any]:
    """What is sent: ``text`` for chats, the rest for programs.

    Args:
        report: of the run.
        changes: to be told.
        report_url: where people can read the page; empty for nowhere.
    """
    lines = [headline(report, changes)]
    for change in changes[:TEXT_LINES]:
        sentence = change.sentence()
        lines.append(f"• {sentence[:TEXT_LINE_CHARACTERS]}{'…' if len(sentence) > TEXT_LINE_CHARACTERS else ''}")
    if len(changes) > TEXT_LINES:
        lines.append(f"… and {len(changes) - TEXT_LINES} more")
    if report_url:
        lines.append(report_url)
    summary = {key: value for key, value in report["summary"].items() if isinstance(value, int)}
    return {
        "text": slack_escape("\n".join(lines)),
        "schema_version": 1,
        "run": report["run"],
        "at": report["at"],
        "controller": report["controller"],
        "report_url": report_url,
        "summary": summary,
        "changes": [change.as_json() for change in changes[:MOST_CHANGES]],
        "left_out": max(0, len(changes) - MOST_CHANGES),
    }


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without its content, perhaps at somebody else's."""

    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        return None


def _why(error: BaseException) -> str:
    """A failure in words that hold no part of the address."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return "its certificate is not valid for its name, or signed by nobody whom this machine trusts"
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return type(reason).__name__


def _post(url: str, body: bytes, timeout: float) -> None:
    """One attempt.

    Raises:
        WebhookError: it will not be taken the next time either.
        OSError, http.client.HTTPException: it may be.
    """
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "integr8scode-drift"}
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 (checked by `send`)
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(request, timeout=timeout) as answer:
            answer.read(1000)
    except urllib.error.HTTPError as error:
        code = error.code
        error.close()
        known = code in {status.value for status in http.HTTPStatus}
        text = f"it answered {code}{f' ({http.HTTPStatus(code).phrase})' if known else ''}"
        if code >= 500 or code in (408, 425, 429):
            raise ConnectionError(0, text) from None
        raise WebhookError(text) from None


def send(url: str, content: dict[str, Any], timeout: float = 10, sleep: Callable[[float], object] = time.sleep) -> None:
    """Send a notification, trying again for what may pass.

    Args:
        url: of the webhook; a secret.
        content: as `payload` makes it.
        timeout: seconds for each attempt.
        sleep: waits some seconds.

    Raises:
        WebhookError: not taken; why.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable() and " " not in url
        usable = usable and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise WebhookError("drift_webhook_url is not the address of a web page (https://…)")
    body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    why = ""
    for pause in (*PAUSES_SECONDS[: ATTEMPTS - 1], None):
        try:
            _post(url, body, timeout)
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = _why(error)
        else:
            return
        if pause is not None:
            sleep(pause)
    raise WebhookError(f"{why} ({ATTEMPTS} attempts)")
