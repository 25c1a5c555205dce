"""Run inside a new image with the rendered files: does this release fit the stack?

This file's text is handed to the image's own Python (``python -c``), so it imports nothing of the project.
Arguments: the workers, by the name of their service.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def reasons_of(error: Exception) -> list[str]:
    """Why settings are refused, without a value: pydantic's own text shows it, and it may be a secret."""
    listed = getattr(error, "errors", None)
    if not listed:
        return [f"{type(error).__name__}: {error}"]
    entries: list[dict[str, Any]] = listed(include_input=False, include_url=False)
    return [f"{'.'.join(map(str, entry['loc']))}: {entry['msg']}" for entry in entries]


def problems_of(settings: Any, workers: list[str]) -> list[str]:
    """What does not fit, a line each.

    :param settings: the application's class of settings.
    :param workers: services that have to have a program.
    """
    problems = []
    complete = True
    for worker in ["", *workers]:
        override = f"config.{worker}.toml" if worker else None
        try:
            settings(override_path=override)
        except (OSError, TypeError, ValueError) as error:
            name = override or "config.toml with secrets.toml"
            problems += [f"{name}: {reason}" for reason in reasons_of(error)]
        program = Path("workers") / f"run_{worker.replace('-', '_')}.py"
        if worker and not program.is_file():
            complete = False
            problems.append(f"{program} is missing: this release has no {worker}")
    if not complete:
        problems.append("This version of the project cannot run that release: ship another, or update the project.")
    return problems


def main(workers: list[str]) -> int | str:
    """What the interpreter exits with: 0, or what does not fit."""
    try:
        from app.settings import Settings  # noqa: PLC0415 - the image's own
    except ImportError as error:
        return f"the image has no app.settings.Settings ({error}); it is no release that this project knows"
    return "\n".join(problems_of(Settings, workers)) or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
