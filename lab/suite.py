"""``make test``: lint, unit tests, tests of the lab's parts and the Molecule scenarios, two at a time, with counts."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lab.prepare import prepare
from lab.settings import ROOT, LabError, Settings
from lab.shell import install, tail

PART_MINUTES = 60
LONG_PART_MINUTES = 120
"""A part that takes longer hangs: it is ended and counts as failed. The second with the full windows of `--long`."""

LANE_MEMORY_MB = 7000
"""Memory that must be free before two Molecule scenarios run side by side; one with the whole stack takes 4 GB."""

FAILURE_LINES = 60
"""How much of the output of what failed is shown; all of it is in the log."""

MESSAGE_LINES = 6
MESSAGE_WIDTH = 500
"""How much of a failed test's message is told at the end."""

TASK_LINES = 12
TASKS_TOLD = 2
"""How much of a failed task's result is told at the end, and of how many tasks: the last ones end the run."""

SLOWEST = ("recover-k3s", "lab", "backup", "site")
"""Parts to begin with: the longest, and beside it those that ask least of the processors."""

ONLY_LONG = frozenset({"air-gap", "deploy", "drift", "drift-schedule", "first-run", "site-variant", "two-servers"})
"""Scenarios that `make test` leaves to `make test-long`: with them it would take much longer than an hour on two
processors. Each runs by its name, too: ``make molecule SCENARIO=deploy``."""


@dataclass
class Counts:
    """Results of tests."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        text = f"{self.passed} passed, {self.failed} failed"
        return f"{text}, {self.skipped} skipped" if self.skipped else text


def read_junit(paths: Iterable[Path]) -> Counts:
    """Sum of the test suites in JUnit files as pytest writes them.

    Raises:
        LabError: a file is not one (pytest died while it wrote).
    """
    total = Counts()
    for path in paths:
        try:
            suites = list(ET.parse(path).getroot().iter("testsuite"))  # noqa: S314 (our own pytest wrote it)
        except ET.ParseError as error:
            raise LabError(f"{path} is not a test report: {error}") from None
        for suite in suites:
            tests, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
            failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            total += Counts(tests - failed - skipped, failed, skipped)
    return total


def read_failures(paths: Iterable[Path]) -> list[str]:
    """What failed in JUnit files and why: a line for each test, its message cut to `MESSAGE_LINES` below it."""
    told = []
    for path in paths:
        try:
            cases = list(ET.parse(path).getroot().iter("testcase"))  # noqa: S314 (our own pytest wrote it)
        except ET.ParseError:
            # read_junit has said so, and counted it
            continue
        for case in cases:
            for result in case:
                if result.tag in ("failure", "error"):
                    message = (result.get("message") or "").splitlines()[:MESSAGE_LINES]
                    name = f"{case.get('classname', '')}::{case.get('name', '')}"
                    told.append("\n    ".join([f"{result.tag} {name}", *(line[:MESSAGE_WIDTH] for line in message)]))
    return told


def read_failed_tasks(output: str) -> list[str]:
    """What ended a playbook by Ansible's output: task and result of the last failed ones, cut to `TASK_LINES`."""
    told = []
    task = ""
    lines = output.splitlines()
    for number, line in enumerate(lines):
        if line.startswith(("TASK [", "RUNNING HANDLER [")):
            task = line.rstrip(" *")
        elif line.startswith(("fatal: [", "failed: [")):
            result = list(itertools.takewhile(str.strip, lines[number : number + TASK_LINES]))
            told.append("\n    ".join([task, *(part[:MESSAGE_WIDTH] for part in result)]))
    return told[-TASKS_TOLD:]


@dataclass
class Part:
    """One piece of the suite.

    Attributes:
        name: as the user asks for it.
        commands: run one after the other; a failure skips the rest.
        cleanup: run at the end in any case, and first, for a run that was ended may have left its servers.
        own: how many tests the commands themselves count for, besides their JUnit reports.
        needs_lab: whether the lab must be prepared.
        environment: on top of the suite's.
    """

    name: str
    commands: list[list[str]]
    cleanup: list[list[str]] = field(default_factory=list)
    own: int = 0
    needs_lab: bool = False
    environment: dict[str, str] = field(default_factory=dict)


def shell_scripts(root: Path = ROOT) -> list[str]:
    """The checkout's files that a Bourne shell runs."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    found = []
    for name in filter(None, listed.split("\0")):
        path = root / name
        if not path.is_file() or path.is_symlink():
            continue
        with path.open("rb") as stream:
            first = stream.readline(100).split()
        if first[:1] and first[0].startswith(b"#!") and Path(first[-1].decode(errors="replace")).name in ("sh", "bash"):
            found.append(name)
    return sorted(found)


def scenarios(root: Path = ROOT) -> list[str]:
    """The Molecule scenarios of the checkout, the slowest first."""
    found = sorted(path.parent.name for path in (root / "molecule").glob("*/molecule.yml"))
    return [name for name in SLOWEST if name in found] + [name for name in found if name not in SLOWEST]


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def lint_commands() -> list[list[str]]:
    """One command for each linter."""
    return [
        [_program("ruff"), "check", "."],
        [_program("ruff"), "format", "--check", "."],
        [_program("mypy")],
        [_program("yamllint"), "--strict", "."],
        [sys.executable, "-m", "lab.ansible_lint"],
        ["shellcheck", *shell_scripts()],
    ]


def make_parts(reports: Path, long: bool) -> dict[str, Part]:
    """All parts of the suite by name.

    Args:
        reports: where JUnit files go; each part's in a folder of its name.
        long: whether the soak and fault runs take their full windows.
    """

    def pytest(name: str, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pytest", "-q", f"--junit-xml={reports / name / 'junit.xml'}", *arguments]

    lint = lint_commands()
    parts = {
        "lint": Part("lint", lint, own=len(lint)),
        "unit": Part("unit", [pytest("unit", "--numprocesses=auto", "tests/unit")]),
        "lab": Part("lab", [pytest("lab", "tests/lab")], needs_lab=True),
    }
    for name in scenarios():
        molecule = [_program("molecule"), "test", "--scenario-name", name, "--destroy", "never"]
        # the servers go only after the reports are read: Molecule empties its folder when it destroys
        parts[name] = Part(
            name,
            [molecule],
            [[_program("molecule"), "destroy", "--scenario-name", name]],
            own=1,
            needs_lab=True,
            environment={"MOLECULE_EPHEMERAL_DIRECTORY": str(reports / name)},
        )
    if long:
        for part in parts.values():
            part.environment["INTEGR8SCODE_TEST_LONG"] = "1"
    return parts


def _run(command: Sequence[str], environment: dict[str, str], log: Path) -> bool:
    """Run one command of a part with its output appended to the log. Returns whether it succeeded in time."""
    minutes = LONG_PART_MINUTES if environment.get("INTEGR8SCODE_TEST_LONG") else PART_MINUTES
    with log.open("a", encoding="utf-8") as sink:
        sink.write(f"$ {' '.join(command)}\n")
        sink.flush()
        try:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            sink.write(f"{command[0]} cannot be run: {error}\n")
            return False
        try:
            return process.wait(minutes * 60) == 0
        except subprocess.TimeoutExpired:
            sink.write(f"ended after {minutes} minutes\n")
            return False
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()


class Suite:
    """Runs parts and keeps their results."""

    def __init__(self, settings: Settings, parts: dict[str, Part], reports: Path) -> None:
        self.parts = parts
        self.reports = reports
        self.logs = settings.state / "log"
        self.results: dict[str, Counts] = {}
        self.failures: list[str] = []
        self._say = threading.Lock()
        self._environment = {
            # without it each run of Ansible compiles all of itself anew, a second of processor time
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "LAB_HOME": str(settings.home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_FORCE_COLOR": "0",
            "NO_COLOR": "1",
        }

    def say(self, text: str) -> None:
        """Print a line that no other lane's output gets into."""
        with self._say:
            print(text, flush=True)

    def run(self, name: str) -> None:
        """Run one part to its end and note its counts."""
        part = self.parts[name]
        log = self.logs / f"{name}.log"
        cleanup_log = self.logs / f"{name}-cleanup.log"
        folder = self.reports / name
        self.logs.mkdir(parents=True, exist_ok=True)
        for file in (log, cleanup_log):
            file.write_text("", encoding="utf-8")
        environment = {**self._environment, **part.environment}
        self.say(f"{name}: started")
        began = time.monotonic()
        cleaned = [_run(command, environment, cleanup_log) for command in part.cleanup]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # linters do not depend on each other: each of them is heard
        outcomes = []
        failures = []
        for command in part.commands:
            before = log.stat().st_size
            outcomes.append(_run(command, environment, log))
            if not outcomes[-1]:
                output = log.read_bytes()[before:].decode("utf-8", "replace")
                failures.append(tail(output, FAILURE_LINES // len(part.commands) + 10))
        counts = Counts(*([outcomes.count(True), outcomes.count(False)] if part.own else [0, 0]))
        try:
            counts += read_junit(folder.rglob("junit*.xml"))
        except LabError as error:
            counts += Counts(failed=1)
            self.say(f"{name}: {error}")
        # read now: cleaning up empties the folder
        told = read_failures(folder.rglob("junit*.xml"))
        for report in folder.rglob("junit*.xml"):
            shutil.copy(report, self.logs / f"{name}.{report.name}")
        if not all(outcomes) and not counts.failed:
            counts += Counts(failed=1)
        cleaned += [_run(command, environment, cleanup_log) for command in part.cleanup]
        if not all(cleaned):
            counts += Counts(failed=1)
            self.say(f"{name}: cleaning up failed, see {cleanup_log}")
        self.results[name] = counts
        took = time.monotonic() - began
        self.say(f"{name}: {counts} ({took:.0f} s)")
        if counts.failed:
            # tests say what they found; where none failed, it was a playbook
            output = log.read_text("utf-8", "replace")
            self.failures += told or [f"{name}: {failure}" for failure in read_failed_tasks(output)]
            shown = failures or [tail(output, FAILURE_LINES)]
            self.say("\n    …\n".join([*shown, f"  all of it: {log}"]))

    def run_side_by_side(self, wanted: Iterable[str]) -> None:
        """Run parts, two at a time where the machine can carry two; whoever is free takes the next."""
        waiting = iter(sorted(wanted, key=lambda name: SLOWEST.index(name) if name in SLOWEST else len(SLOWEST)))
        guard = threading.Lock()

        def lane() -> None:
            while True:
                with guard:
                    name = next(waiting, None)
                if name is None:
                    return
                self.run(name)

        lanes = lane_count()
        with ThreadPoolExecutor(lanes) as pool:
            for future in [pool.submit(lane) for _ in range(lanes)]:
                future.result()


def lane_count() -> int:
    """How many parts run at a time: two processors carry two, if there is memory for two stacks."""
    return 1 if (os.cpu_count() or 1) < 2 or _free_memory_mb() < LANE_MEMORY_MB else 2


def _free_memory_mb() -> int:
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return LANE_MEMORY_MB
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable:")), LANE_MEMORY_MB)


def run_suite(settings: Settings, names: Iterable[str] = (), long: bool = False) -> bool:
    """Run the named parts, or all, and print the counts. Returns whether all is well.

    Args:
        settings: which lab.
        names: ``lint``, ``unit``, ``lab`` or a Molecule scenario; default all, `ONLY_LONG` in a long run alone.
        long: with the full windows of soak and fault runs.

    Raises:
        LabError: a part that does not exist, or the lab cannot be prepared.
    """
    began = time.monotonic()
    reports = settings.state / "reports"
    parts = make_parts(reports, long)
    wanted = list(names) or [name for name in parts if long or name not in ONLY_LONG]
    unknown = [name for name in wanted if name not in parts]
    if unknown:
        raise LabError(f"there is no part {', '.join(unknown)}; there are {', '.join(parts)}")
    if "lint" in wanted:
        install({"shellcheck": "shellcheck"}, "checking shell scripts")
    if "unit" in wanted:
        install({"age": "age", "age-keygen": "age"}, "tests of encrypted backups")
        try:
            install({"chromium": "chromium"}, "tests of the drift report in a browser")
        except LabError as error:
            # Ubuntu has no such package: those tests are skipped, and counted so
            print(f"note: no browser, its tests are skipped: {error}", flush=True)
    suite = Suite(settings, parts, reports)
    without_lab = [name for name in wanted if not parts[name].needs_lab]
    with_lab = [name for name in wanted if parts[name].needs_lab]
    for name in without_lab:
        suite.run(name)
    broken = ""
    if with_lab:
        try:
            prepare(settings, load="lab" in with_lab)
        except LabError as error:
            broken = f"the lab cannot be prepared, so {', '.join(with_lab)} did not run:\n{error}"
        else:
            suite.run_side_by_side(with_lab)
    print()
    for failure in suite.failures:
        print(f"  {failure}")
    for name, counts in suite.results.items():
        print(f"  {name:<12} {counts}")
    total = sum(suite.results.values(), Counts(failed=1 if broken else 0))
    if broken:
        print(f"\nerror: {broken}", file=sys.stderr)
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"\n{total}   ({minutes} min {seconds:02d} s)", flush=True)
    return total.failed == 0 and total.passed > 0
