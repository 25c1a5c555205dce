"""What drift_present does: whole files with the right access, one notification per change, nothing in a check."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from ansible.module_utils.drift_report.present import PresentError, Wanted, present

from tests.unit.drift_report.test_webhook import SECRET, Receiver, receiver
from tests.unit.support import drift_reports as reports

__all__ = ["receiver"]


@pytest.fixture(autouse=True)
def no_pauses() -> Any:
    with patch("ansible.module_utils.drift_report.webhook.PAUSES_SECONDS", (0.0, 0.0)):
        yield


class Folder:
    """A folder of reports, told from there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def present(self, report: dict[str, Any], *, check: bool = False, **arguments: Any) -> dict[str, Any]:
        (self.path / "drift.json").write_text(json.dumps(report))
        known = {
            "report": str(self.path / "drift.json"),
            "html_file": str(self.path / "drift.html"),
            "metrics_file": str(self.path / "drift.prom"),
            "known_file": str(self.path / "told.json"),
        }
        return present(Wanted(**{**known, **arguments}, check=check))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_and_table(folder: Folder) -> None:
    result = folder.present(reports.everything())
    assert result["table"].startswith("5 servers:")
    assert result["problems"] == []
    assert mode(folder.path / "drift.html") == 0o600
    # node_exporter is another user
    assert mode(folder.path / "drift.prom") == 0o644
    assert "notification_success" not in (folder.path / "drift.prom").read_text()
    # nobody was told, so nobody knows
    assert sorted(path.name for path in folder.path.iterdir()) == ["drift.html", "drift.json", "drift.prom"]


def test_files_are_replaced_at_once(folder: Folder) -> None:
    """node_exporter reads every *.prom: never half of one, never two."""
    folder.present(reports.everything())
    seen: list[list[str]] = []
    rename = Path.rename

    def watch(path: Path, target: Path) -> Path:
        seen.append(sorted(each.name for each in folder.path.glob("*.prom")))
        return rename(path, target)

    before = (folder.path / "drift.prom").stat().st_ino
    with patch.object(Path, "rename", watch):
        folder.present(reports.everything())
    assert seen == [["drift.prom"]] * 2
    assert (folder.path / "drift.prom").stat().st_ino != before


def test_the_page_gets_its_folders_group_where_that_is_handed_on(folder: Folder) -> None:
    group = next((each for each in os.getgroups() if each != os.getegid()), 12345 if os.geteuid() == 0 else None)
    if group is None:
        pytest.skip("this user is in one group only")
    pages = folder.path / "pages"
    pages.mkdir()
    os.chown(pages, -1, group)
    pages.chmod(0o2750)
    folder.present(reports.everything(), html_file=str(pages / "index.html"), html_mode="0640")
    assert (pages / "index.html").stat().st_gid == group
    assert mode(pages / "index.html") == 0o640


def test_a_change_is_told_once(folder: Folder, receiver: Receiver) -> None:
    drift, clean = reports.report(reports.host("app1", reports.finding())), reports.report(reports.host("app1"))
    results = [folder.present(each, webhook_url=receiver.url) for each in (clean, drift, drift, clean, clean)]
    assert [result["notified"] for result in results] == [False, True, False, True, False]
    kinds = [[change["kind"] for change in body["changes"]] for _, _, body in receiver.received]
    assert kinds == [["new"], ["gone", "clean"]]
    assert mode(folder.path / "told.json") == 0o600
    assert "integr8scode_drift_notification_success 1\n" in (folder.path / "drift.prom").read_text()


def test_a_notification_that_fails_is_told_and_tried_again(folder: Folder, receiver: Receiver) -> None:
    drift = reports.report(reports.host("app1", reports.finding()))
    receiver.codes = [404, 200]
    failed = folder.present(drift, webhook_url=receiver.url)
    assert "it answered 404 (Not Found). The next run tries again." in failed["notification_problem"]
    assert "The notification was not taken" in failed["table"]
    assert "integr8scode_drift_notification_success 0\n" in (folder.path / "drift.prom").read_text()
    again = folder.present(drift, webhook_url=receiver.url)
    assert again["notified"]
    assert again["notification_problem"] == ""
    assert receiver.received[0] == receiver.received[1]


def test_the_address_is_in_nothing(folder: Folder, receiver: Receiver) -> None:
    receiver.codes = [404]
    result = folder.present(reports.everything(), webhook_url=receiver.url)
    texts = [json.dumps(result), *(path.read_text() for path in folder.path.iterdir())]
    assert not any(SECRET in text for text in texts)


def test_a_link_to_the_page(folder: Folder, receiver: Receiver) -> None:
    folder.present(reports.everything(), webhook_url=receiver.url, report_url="https://drift.example.org/")
    assert receiver.received[0][2]["text"].endswith("\nhttps://drift.example.org/")


@pytest.mark.parametrize(
    "spoiled",
    [
        "{half",
        '{"schema_version": 1, "hosts": {"app1": null}}',
        '{"schema_version": 1, "hosts": {"app1": {"findings": {"a:b#c": {"item": "b"}}}}}',
    ],
)
def test_what_was_told_is_unreadable(folder: Folder, receiver: Receiver, spoiled: str) -> None:
    drift = reports.report(reports.host("app1", reports.finding()))
    folder.present(drift, webhook_url=receiver.url)
    (folder.path / "told.json").write_text(spoiled)
    result = folder.present(drift, webhook_url=receiver.url)
    assert "told.json could not be read" in result["notification_problem"]
    assert result["notified"]
    assert folder.present(drift, webhook_url=receiver.url)["changes"] == []


def test_a_check_writes_and_sends_nothing(folder: Folder, receiver: Receiver) -> None:
    result = folder.present(reports.everything(), webhook_url=receiver.url, check=True)
    assert result["table"].startswith("5 servers:")
    assert len(result["changes"]) == 7
    assert receiver.received == []
    assert [path.name for path in folder.path.iterdir()] == ["drift.json"]


def test_a_folder_that_is_missing_is_named_with_its_cure(folder: Folder) -> None:
    result = folder.present(reports.everything(), metrics_file="/nonexistent/drift.prom")
    (problem,) = result["problems"]
    assert problem.startswith(
        "/nonexistent/drift.prom could not be written: No such file or directory. Make its folder"
    )
    assert "/nonexistent/drift.prom" in result["table"]
    assert (folder.path / "drift.html").exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"schema_version": 2}'])
def test_what_is_no_report_is_refused(folder: Folder, content: str) -> None:
    (folder.path / "drift.json").write_text(content)
    with pytest.raises(PresentError, match="is no drift report"):
        present(Wanted(report=str(folder.path / "drift.json"), known_file=str(folder.path / "told.json")))


def test_a_mode_that_is_none(folder: Folder) -> None:
    with pytest.raises(PresentError, match=r"^drift_html_mode: 'rw' is not an octal mode"):
        folder.present(reports.everything(), html_mode="rw")
