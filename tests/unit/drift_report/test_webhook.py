"""The notification on the wire: content, retries, and an address that no message holds."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ansible.module_utils.drift_report.changes import compare, nothing_known
from ansible.module_utils.drift_report.webhook import (
    ATTEMPTS,
    MOST_CHANGES,
    PAUSES_SECONDS,
    WebhookError,
    payload,
    send,
)

from tests.unit.support import drift_reports as reports

SECRET = "T0K3N-of-the-channel"


class Receiver:
    """A web server that answers with the codes it is given, in order, the last one for ever."""

    def __init__(self) -> None:
        self.codes = [200]
        self.received: list[Any] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((self.path, self.headers["Content-Type"], json.loads(body)))
                code = receiver.codes.pop(0) if len(receiver.codes) > 1 else receiver.codes[0]
                if code == 0:
                    self.close_connection = True
                    return
                self.send_response(code, f"{SECRET} is what I got")
                if code in (301, 302, 307):
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            do_GET = do_POST  # noqa: N815 (http.server finds it by this name)

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/{SECRET}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


def content(report: dict[str, Any], url: str = "") -> dict[str, Any]:
    made = payload(report, compare(nothing_known(), report)[0], url)
    reports.check("drift-notification.schema.json", made)
    return made


def test_content_for_programs_and_people() -> None:
    made = content(reports.everything(), "https://drift.example.org/")
    assert made["summary"]["critical"] == 2
    assert {change["kind"] for change in made["changes"]} == {"new", "unreachable", "failed"}
    first, *rest = made["text"].splitlines()
    assert first == "Drift: 7 changes; not as deployed: app2, app4, app5 (3 of 5)."
    assert rest[-1] == "https://drift.example.org/"


def test_slack_shows_text_as_it_is() -> None:
    host = reports.host("app1", reports.finding("<!channel> & <https://evil.example|click>"))
    text = content(reports.report(host))["text"]
    assert "&lt;!channel&gt; &amp; &lt;https://evil.example|click&gt;" in text
    assert not {"<", ">"} & set(text)


def test_all_is_well_again() -> None:
    known = compare(nothing_known(), reports.report(reports.unreachable("app1")))[1]
    report = reports.report(reports.host("app1"))
    made = payload(report, compare(known, report)[0])
    assert made["text"] == "Drift: all is well again.\n• app1: is what was deployed again"


def test_a_flood_is_cut_and_says_so() -> None:
    host = reports.host("app1", *(reports.finding(f"/etc/{number}", found="x" * 999) for number in range(500)))
    made = content(reports.report(host))
    assert len(made["changes"]) == MOST_CHANGES
    assert made["left_out"] == 300
    assert made["text"].splitlines()[-1] == "… and 480 more"
    assert len(made["text"]) < 8000


def test_sent_once_where_it_is_taken(receiver: Receiver) -> None:
    made = content(reports.everything())
    send(receiver.url, made)
    assert receiver.received == [(f"/services/{SECRET}", "application/json; charset=utf-8", made)]


@pytest.mark.parametrize("passing", [500, 503, 429, 0])
def test_tried_again_for_what_may_pass(receiver: Receiver, passing: int) -> None:
    receiver.codes = [passing, 200]
    pauses: list[float] = []
    send(receiver.url, {"text": "x"}, sleep=pauses.append)
    assert len(receiver.received) == 2
    assert pauses == [PAUSES_SECONDS[0]]


def test_attempts_are_bounded(receiver: Receiver) -> None:
    receiver.codes = [503]
    with pytest.raises(WebhookError, match=r"it answered 503 \(Service Unavailable\) \(3 attempts\)"):
        send(receiver.url, {"text": "x"}, sleep=lambda _: None)
    assert len(receiver.received) == ATTEMPTS


@pytest.mark.parametrize("refusal", [400, 403, 404, 410, 301, 302, 307])
def test_a_refusal_or_redirection_is_final(receiver: Receiver, refusal: int) -> None:
    receiver.codes = [refusal]
    with pytest.raises(WebhookError, match=f"it answered {refusal}"):
        send(receiver.url, {"text": "x"}, sleep=lambda _: None)
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "url",
    [
        f"ftp://127.0.0.1/{SECRET}",
        f"file:///etc/{SECRET}",
        f"https:///{SECRET}",
        f"http://127.0.0.1:99999/{SECRET}",
        f"http://127.0.0.1:0/{SECRET}",
        f"http://[::1/{SECRET}",
        f"http://127.0.0.1/{SECRET} x",
        f"http://127.0.0.1/{SECRET}\nHost: x",
        f"http://127.0.0.1:1/{SECRET}",
        f"https://127.0.0.1:1/{SECRET}é",
        f"http://user:{SECRET}@127.0.0.1:1/",
        f"http://name.invalid/{SECRET}",
    ],
)
def test_the_address_is_in_no_message(url: str) -> None:
    with pytest.raises(WebhookError) as raised:
        send(url, {"text": "x"}, sleep=lambda _: None)
    assert SECRET not in str(raised.value)


def test_what_the_other_side_says_is_in_no_message_either(receiver: Receiver) -> None:
    receiver.codes = [404]
    with pytest.raises(WebhookError) as raised:
        send(receiver.url, {"text": "x"})
    assert SECRET not in str(raised.value)


def test_a_silent_receiver_is_given_up(receiver: Receiver) -> None:
    hold = threading.Event()
    receiver.server.RequestHandlerClass.do_POST = lambda _self: hold.wait(20)  # type: ignore[attr-defined]
    try:
        with pytest.raises(WebhookError, match="no answer in time"):
            send(receiver.url, {"text": "x"}, timeout=0.2, sleep=lambda _: None)
    finally:
        hold.set()
