"""The languages that a script may be written in, and the images that run them."""

from typing import NamedTuple

from pydantic import BaseModel


class LanguageInfo(BaseModel):
    """A language's versions and its files' extension."""

    versions: list[str]
    file_ext: str


class Runtime(NamedTuple):
    """How a script of one language and version is run in its pod."""

    image: str
    file_name: str
    command: list[str]


_IMAGES = {
    "python": "python:{}-slim",
    "node": "node:{}-alpine",
    "ruby": "ruby:{}-alpine",
    "bash": "bash:{}",
    "go": "golang:{}-alpine",
}
_INTERPRETERS = {"python": ["python"], "node": ["node"], "ruby": ["ruby"], "bash": ["bash"], "go": ["go", "run"]}

SUPPORTED_RUNTIMES = {
    "python": LanguageInfo(versions=["3.7", "3.8", "3.9", "3.10", "3.11", "3.12"], file_ext="py"),
    "node": LanguageInfo(versions=["18", "20", "22"], file_ext="js"),
    "ruby": LanguageInfo(versions=["3.1", "3.2", "3.3"], file_ext="rb"),
    "bash": LanguageInfo(versions=["5.1", "5.2", "5.3"], file_ext="sh"),
    "go": LanguageInfo(versions=["1.20", "1.21", "1.22"], file_ext="go"),
}

EXAMPLE_SCRIPTS = {"python": 'print("Hello from the lab")\n', "bash": 'echo "Hello from the lab"\n'}


def runtime(language: str, version: str) -> Runtime:
    """Say how a script is run.

    Args:
        language: a key of SUPPORTED_RUNTIMES.
        version: one of its versions.

    Returns:
        The image, the script's file name under /scripts, and the command in the container.

    Raises:
        KeyError: no such language.
    """
    name = f"main.{SUPPORTED_RUNTIMES[language].file_ext}"
    return Runtime(_IMAGES[language].format(version), name, [*_INTERPRETERS[language], f"/scripts/{name}"])


def all_images() -> list[str]:
    """Return every run-time image, sorted: what the image pre-puller pulls."""
    return sorted(
        runtime(language, version).image for language, info in SUPPORTED_RUNTIMES.items() for version in info.versions
    )
