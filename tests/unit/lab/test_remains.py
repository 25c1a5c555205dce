"""What `lab-down` takes away in an engine of the lab's own besides what carries the lab's label."""

from __future__ import annotations

from typing import Any

from lab.down import remove_remains


class Thing:
    def __init__(self, name: str, gone: list[str]) -> None:
        self.name, self.gone = name, gone

    def remove(self, **_: object) -> None:
        self.gone.append(self.name)


class Engine:
    """Holds things, and hands out those that a filter asks for, as the engine does."""

    def __init__(self, containers: dict[str, str], volumes: dict[str, bool]) -> None:
        self.gone: list[str] = []
        self.containers, self.volumes = Listing(self, containers), Listing(self, volumes)


class Listing:
    def __init__(self, engine: Engine, things: dict[str, Any]) -> None:
        self.engine, self.things = engine, things

    def list(self, filters: dict[str, Any], **_: object) -> list[Thing]:
        wanted = filters.get("status", [filters.get("dangling")])
        return [Thing(name, self.engine.gone) for name, state in self.things.items() if state in wanted]


def test_dead_containers_and_nameless_volumes_go_and_the_rest_stays() -> None:
    containers = {"half-made": "created", "failed": "exited", "somebodys": "running", "asleep": "paused"}
    volumes = {"a" * 64: True, "b" * 64: False, "somebodys-data": True}
    engine = Engine(containers, volumes)
    assert remove_remains(engine) == 3  # type: ignore[arg-type]
    assert sorted(engine.gone) == ["a" * 64, "failed", "half-made"]
