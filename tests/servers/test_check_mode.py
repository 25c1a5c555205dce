"""What `site.yml --check` says of a server is what the run then does, and the check itself changes nothing.

On a bare server, on one that runs, and on one that was changed by hand in five places.
"""

from __future__ import annotations

import pytest

from tests.servers.first_run import BY_HAND, CHECKS, Trial, changes_in

each_check = pytest.mark.parametrize("name", CHECKS)


@each_check
def test_a_check_changes_nothing(trial: Trial, name: str) -> None:
    assert trial.touched[name] == {}


@each_check
def test_a_check_says_what_the_run_then_does(trial: Trial, name: str) -> None:
    assert trial.codes[f"{name}-check"] == 0, trial.output(f"{name}-check")[-3000:]
    said, done = changes_in(trial.output(f"{name}-check")), changes_in(trial.output(name))
    assert {"said alone": sorted(said - done), "done alone": sorted(done - said)} == {
        "said alone": [],
        "done alone": [],
    }


def test_there_was_something_to_say(trial: Trial) -> None:
    assert len(changes_in(trial.output("fresh"))) > 20
    assert changes_in(trial.output("running")) == set()
    assert len(changes_in(trial.output("changed-by-hand"))) >= len(BY_HAND.split("\n")) - 2
