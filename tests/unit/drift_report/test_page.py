"""The HTML page of a drift report: what is in it, and what a browser makes of it on a phone and on a desk."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.drift_report.page import page

from tests.unit.support import chromium
from tests.unit.support import drift_reports as reports

PHONE, DESKTOP = 390, 1280


class Tags(HTMLParser):
    """Collects the page's tags and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_nothing_runs_and_nothing_comes_from_elsewhere() -> None:
    found = Tags(page(reports.everything()))
    names = {tag for tag, _ in found.tags}
    assert not names & {"script", "iframe", "img", "object", "embed", "form", "base", "svg"}
    for tag, attributes in found.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "style")], tag
        assert attributes.get("href", "data:,") == "data:,"
    assert not re.search(r"@import|url\(", page(reports.everything()))
    policy = next(a["content"] for tag, a in found.tags if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


def test_all_that_a_person_needs_is_in_it() -> None:
    report = reports.everything()
    text = " ".join(Tags(page(report)).text.split())
    for host in report["hosts"]:
        assert host["name"] in text
        assert " ".join(host["message"].split()) in text
        for one in [*host["findings"], *host["gone"]]:
            assert one["item"] in text
        for one in host["findings"]:
            assert one["cure"] in text
            assert one["severity"] in text
    assert "until 2026-04-01: a trial" in text
    assert "2026-02-27 10:11 UTC (2 days)" in text
    assert "The rule for files /etc/* on app2 ended on 2026-02-01." in text


def test_no_server_and_no_release() -> None:
    assert "No server was looked at" in page(reports.report(previous=None, project_commit=""))


# -- in a browser

needs_chromium = pytest.mark.skipif(chromium.program() is None, reason="no Chromium is installed here")


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Page]:
    with chromium.browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {"everything": reports.everything(), "clean": reports.report(reports.host("app1"), reports.host("app2"))}
    for name, report in made.items():
        (folder / f"{name}.html").write_text(page(report), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


def contrast(foreground: str, background: str) -> float:
    """WCAG 2's ratio of two colours as a browser computes them, `rgb(1, 2, 3)`."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(foreground), luminance(background)))
    return (high + 0.05) / (low + 0.05)


@needs_chromium
@pytest.mark.parametrize("name", ["everything", "clean"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_in_a_browser(tab: chromium.Page, files: dict[str, Path], name: str, dark: bool, width: int) -> None:
    tab.open(files[name], width, dark=dark, phone=width == PHONE)
    tab.ask("document.querySelectorAll('details').forEach(each => each.open = true)")
    # nothing is wider than the window, so nobody has to shift it
    assert tab.ask("innerWidth") == width
    assert tab.ask("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth).length"
    assert tab.ask(wide) == 0
    # nothing was loaded, refused or run
    assert [sent["request"]["url"] for sent in tab.said("Network.requestWillBeSent")] == [files[name].as_uri()]
    assert tab.said("Log.entryAdded") == []
    assert tab.said("Runtime.exceptionThrown") == []
    assert "hacked" not in tab.ask("document.title")
    assert tab.ask("document.scripts.length") == 0
    # the style is in force, in the scheme that was asked for, and can be read
    page_colour = tab.ask("getComputedStyle(document.body).backgroundColor")
    assert page_colour == ("rgb(16, 19, 23)" if dark else "rgb(244, 245, 247)")
    colours = "(e => [getComputedStyle(e).color, parseFloat(getComputedStyle(e).fontSize)])"
    card = tab.ask("getComputedStyle(document.querySelector('.card')).backgroundColor")
    for colour, size in tab.ask(f"[...document.querySelectorAll('h1,h2,h3,p,.badge,dt,dd,code,li')].map({colours})"):
        assert contrast(colour, card) >= 4.5
        assert contrast(colour, page_colour) >= 4.5
        assert size >= 13


@needs_chromium
def test_a_tap_selects_the_whole_cure(tab: chromium.Page, files: dict[str, Path]) -> None:
    tab.open(files["everything"], PHONE)
    place: dict[str, Any] = tab.ask(
        "(e => { e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
        " return {x: r.x + 40, y: r.y + 20, text: e.textContent} })(document.querySelector('.cure'))"
    )
    for kind in ("mousePressed", "mouseReleased"):
        tab.call("Input.dispatchMouseEvent", type=kind, x=place["x"], y=place["y"], button="left", clickCount=1)
    assert tab.ask("getSelection().toString()") == place["text"]


@needs_chromium
def test_what_folds_is_big_enough_for_a_finger(tab: chromium.Page, files: dict[str, Path]) -> None:
    tab.open(files["everything"], PHONE, phone=True)
    heights = tab.ask("[...document.querySelectorAll('summary')].map(e => e.getBoundingClientRect().height)")
    assert heights
    assert min(heights) >= 44
