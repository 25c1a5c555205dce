"""What the registry says of a release that a run names, asked while the rest of the server is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ansible.module_utils.atomic_files import MASK
from ansible.module_utils.container_images import ImageError, Images
from ansible.module_utils.integr8scode_docker import EngineUnavailableError, connect

ENGINE_SECONDS = 15
REGISTRY_SECONDS = 60


def described(
    asked: Mapping[str, Any] | None, credentials: Iterable[Mapping[str, str]], running: Mapping[str, str]
) -> dict[str, Any]:
    """`images`: what they are now, `services`, `digests`, `missing` as container_images.Found has them.

    Or `problem` alone, a sentence. Nothing where nothing is asked, or no engine could ask.

    :param asked: `services`, image reference of each; `renewed`, the registry, with its path, whose tags are resolved
        again though they run.
    :param credentials: `registry`, `username`, `password`.
    :param running: digest by image reference of what runs.
    """
    if not asked:
        return {}
    logins = [dict(entry) for entry in credentials]
    renewed = str(asked["renewed"]).rstrip("/") + "/"
    locked = {image: digest for image, digest in running.items() if digest and not image.startswith(renewed)}
    try:
        client = connect(timeout=ENGINE_SECONDS)
        # the engine waits for the registry
        client.api.timeout = REGISTRY_SECONDS
        images = Images(client, logins)
        found = images.look(asked["services"], locked)
        images.find_all(found, locked)
    except EngineUnavailableError:
        return {}
    except ImageError as error:
        problem = str(error)
        for entry in logins:
            problem = problem.replace(entry["password"], MASK) if entry["password"] else problem
        return {"images": {"problem": problem}}
    return {"images": asdict(found)}
