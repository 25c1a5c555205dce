"""Run inside a new image with the rendered files: does this release fit the stack?

Arguments: the workers, by the name of their service.
"""

import sys
from pathlib import Path

problems = []
try:
    from app.settings import Settings
except ImportError as error:
    sys.exit(f"the image has no app.settings.Settings ({error}); it is no release that this project knows")

for worker in [None, *sys.argv[1:]]:
    override = f"config.{worker}.toml" if worker else None
    try:
        Settings(override_path=override)
    except (OSError, TypeError, ValueError) as error:
        # pydantic's own text shows the value, which may be a secret
        listed = getattr(error, "errors", None)
        reasons = (
            [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in listed(include_input=False, include_url=False)]
            if listed
            else [f"{type(error).__name__}: {error}"]
        )
        problems += [f"{override or 'config.toml with secrets.toml'}: {reason}" for reason in reasons]
    if worker:
        program = Path("workers") / f"run_{worker.replace('-', '_')}.py"
        if not program.is_file():
            problems.append(f"{program} is missing: this release has no {worker}, so it needs another stack")
if problems:
    sys.exit("\n".join(problems))
print("settings load, every worker is there")
