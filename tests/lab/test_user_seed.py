"""Does the stand-in of user-seed set passwords at every run, and refuse what the real one refuses?"""

from __future__ import annotations

import pytest

from tests.lab.application import ADMIN_PASSWORD, SECRETS, USER_PASSWORD, Stack, ended, output, passwords

SEED = ["python", "-m", "scripts.seed_users"]


def test_a_second_run_sets_the_passwords_again_and_says_so(stack: Stack) -> None:
    container = stack.application("user-seed", SEED, environment=passwords())
    assert ended(container) == 0
    printed = output(container)
    assert "Connecting to MongoDB (database: integr8scode)..." in printed
    assert "User 'user' exists - updating password, role=user, is_superuser=False" in printed
    assert "User 'admin' exists - updating password, role=admin, is_superuser=True" in printed
    assert USER_PASSWORD not in printed
    assert ADMIN_PASSWORD not in printed


def test_a_wrong_mongo_password_ends_it(stack: Stack) -> None:
    wrong = {"MONGODB_URL": "mongodb://root:wrong@mongo:27017/integr8scode?authSource=admin"}
    container = stack.application("user-seed", SEED, environment=passwords(), secrets=wrong)
    assert ended(container) == 1
    assert "OperationFailure: Authentication failed" in output(container)
    assert "'code': 18" in output(container)


@pytest.mark.parametrize(
    ("password", "error", "printed_part"),
    [("p@ss", "InvalidURI", ""), ("12/rest", "InvalidURI", "rest@mongo")],
)
def test_a_password_that_is_not_encoded_ends_it(stack: Stack, password: str, error: str, printed_part: str) -> None:
    raw = {"MONGODB_URL": f"mongodb://root:{password}@mongo:27017/integr8scode?authSource=admin"}
    container = stack.application("user-seed", SEED, environment=passwords(), secrets=raw)
    assert ended(container) == 1
    printed = output(container)
    assert error in printed
    # after a slash, the password's rest is in the error: whoever reads the log reads it
    assert printed_part in printed


def test_without_a_secret_key_it_does_not_begin(stack: Stack) -> None:
    container = stack.application(
        "user-seed", SEED, environment=passwords(), secrets={**SECRETS, "SECRET_KEY": "short"}
    )
    assert ended(container) == 1
    assert "ValidationError" in output(container)
    assert "SECRET_KEY" in output(container)
    assert "MongoDB" not in output(container)
