"""The lab's Redis: user, arguments and way to stop of redis:7-alpine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.containers import Running, running, until

COMMAND = ["redis-server", "--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru", "--save", ""]


@pytest.fixture(scope="module")
def redis() -> Iterator[Running]:
    with running("redis", COMMAND) as container:
        container.wait_log("Ready to accept connections")
        yield container


def test_answers_the_health_check(redis: Running) -> None:
    assert redis.ask(["redis-cli", "ping"]) == "PONG"


def test_takes_the_stacks_arguments(redis: Running) -> None:
    assert redis.ask(["redis-cli", "config", "get", "maxmemory"]).split() == ["maxmemory", str(256 * 1024 * 1024)]
    assert redis.ask(["redis-cli", "config", "get", "maxmemory-policy"]).split()[1] == "allkeys-lru"
    assert redis.ask(["redis-cli", "config", "get", "save"]).split() == ["save"]


def test_runs_as_redis_with_its_data_closed_to_others(redis: Running) -> None:
    assert redis.ask("grep -E '^(Uid|Gid):' /proc/1/status | awk '{print $2}'").split() == ["999", "1000"]
    redis.must(["redis-cli", "save"])
    assert redis.ask("stat -c '%U %a' /data/dump.rdb") == "redis 600"


def test_answers_other_machines_without_a_password(redis: Running) -> None:
    assert redis.ask(["redis-cli", "-h", redis.address, "ping"]) == "PONG"


def test_has_no_more_tools_than_alpine(redis: Running) -> None:
    assert redis.say("command -v curl || command -v bash")[0] != 0


def test_data_of_another_owner_become_its_own_and_sigterm_stops_it_cleanly() -> None:
    with running("redis", ["--save", "60 1"], files={"/data/left.rdb": ("", 0o600, 0)}) as container:
        container.wait_log("Ready to accept connections")
        assert container.ask("stat -c %U /data/left.rdb") == "redis"
        container.must(["redis-cli", "set", "kept", "yes"])
        assert container.stop() == 0
        assert "User requested shutdown" in container.logs
        assert "Redis is now ready to exit, bye bye..." in container.logs
        container.container.start()
        until("the data after a restart", 10, lambda: container.say(["redis-cli", "get", "kept"])[1] == "yes\n")


def test_refuses_an_unknown_option() -> None:
    with running("redis", ["redis-server", "--no-such-option", "1"]) as container:
        assert container.wait_end() == 1
        assert "no-such-option" in container.logs
