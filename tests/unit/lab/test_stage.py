"""What makes one release's image different from the others of its folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lab import images, stage
from lab.images import Build
from lab.settings import LabError

PATCH = """--- a/app/main.py
+++ b/app/main.py
@@ -1,2 +1,2 @@
 one
-two
+three
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    made = tmp_path / "checkout/context"
    (made / "app").mkdir(parents=True)
    (made / "app/main.py").write_text("one\ntwo\n")
    # a home folder that is a checkout itself
    subprocess.run(["git", "init", "-q", made.parent], check=True)
    return made


@pytest.fixture
def changes(tmp_path: Path) -> Path:
    made = tmp_path / "changes"
    (made / "app").mkdir(parents=True)
    (made / "main.patch").write_text(PATCH)
    (made / "app/release.py").write_text("NAME = 1\n")
    return made


def test_patches_change_files_and_files_are_added_to_the_release(context: Path, changes: Path) -> None:
    stage.change(context, Build(("1", "latest"), {"VERSION": "1"}, (changes,)))
    assert (context / "app/main.py").read_text() == "one\nthree\n"
    assert (context / "releases/1/app/release.py").read_text() == "NAME = 1\n"
    assert not (context / "releases/1/main.patch").exists()


def test_a_patch_that_does_not_fit_any_more_is_named(context: Path, changes: Path) -> None:
    (context / "app/main.py").write_text("one\nfour\n")
    with pytest.raises(LabError, match=r"applying .*main\.patch failed"):
        stage.change(context, Build(("1",), {"VERSION": "1"}, (changes,)))


@pytest.mark.parametrize("build", images.load()["backend"].builds, ids=lambda build: str(build.tags[0]))
def test_every_release_of_the_catalogue_can_be_staged(tmp_path: Path, build: Build) -> None:
    folder = images.load()["backend"].folder
    assert folder is not None
    for path in images.files(folder):
        stage._copy(path, tmp_path / path.relative_to(folder))
    stage.change(tmp_path, build)
    tag = build.tags[0]
    sources = [path for path in [*tmp_path.rglob("app/*.py"), *tmp_path.rglob("workers/*.py")] if path.is_file()]
    for path in sources:
        compile(path.read_bytes(), str(path), "exec")
    release = (tmp_path / "releases" / tag / "app/release.py").read_text()
    assert release.startswith(f'"""What is different in release {tag}')
    if build.made_up and tag != "2026.2.35":
        assert f'NAME = "{tag}"' in release
        assert "load.router" in (tmp_path / "app/main.py").read_text()
    assert (tmp_path / "workers/run_coordinator.py").exists() == (tag != "2026.2.21")
