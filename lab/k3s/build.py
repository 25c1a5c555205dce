"""Builds the lab's `k3s`: one executable file that needs nothing on a server but Python 3.

The Go programs come from the module lists in `modules/` (every module pinned by hash), the Python libraries from
`requirements.txt` (likewise). The same inputs give the same bytes. Go's own caches (`go env GOCACHE GOMODCACHE`) and
LAB_HOME/cache/k3s keep what was built.
"""

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.k3s.supervisor.versions import Version
from lab.settings import LabError, Settings

HERE = Path(__file__).resolve().parent
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# Debian 12, Ubuntu 24.04, Debian 13
PYTHON_VERSIONS = ("3.11", "3.12", "3.13")
_SHEBANG = b"#!/usr/bin/python3 -I\n"
_MAIN = "import sys\n\nfrom supervisor.cli import main\n\nsys.exit(main(sys.argv))\n"
# what zip can express first; a fixed time makes the file the same each time
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_KUBERNETES = "v1.34.4"
_KUBERNETES_DATE = "2026-02-10T12:53:36Z"
_VERSION_PACKAGE = "k8s.io/component-base/version"

Progress = Callable[[str], None]


class BuildError(LabError):
    """A build step failed; the text names the step, the cause and the cure."""


@dataclass(frozen=True)
class Program:
    """A Go program: its name, the module list that pins it, and its package."""

    name: str
    modules: str
    package: str

    def link_flags(self, version: str) -> str:
        """Return the linker's flags: no symbols, no build id, and the version that it reports."""
        flags = "-s -w -buildid="
        if self.modules == "kubernetes":
            parsed = Version.parse(version)
            values = {
                "gitVersion": version,
                "gitMajor": str(parsed.major),
                "gitMinor": str(parsed.minor),
                "gitTreeState": "clean",
                "gitCommit": hashlib.sha1(f"lab {version}".encode(), usedforsecurity=False).hexdigest(),
                "buildDate": _KUBERNETES_DATE,
            }
            flags += "".join(f" -X {_VERSION_PACKAGE}.{key}={value}" for key, value in values.items())
        return flags


API_SERVER = Program("kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver")
KUBECTL = Program("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl")
CONTROLLER_MANAGER = Program("kube-controller-manager", "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager")
KINE = Program("kine", "kine", "github.com/k3s-io/kine")
PROGRAMS = (API_SERVER, CONTROLLER_MANAGER, KUBECTL, KINE)
"""What is packed."""


def _digest(parts: Iterable[str | bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()


def _run(command: list[str], what: str, progress: Progress, *, cwd: Path, environment: dict[str, str]) -> None:
    """Run a step, saying every 20 seconds that it still runs.

    Raises:
        BuildError: it failed; with the end of its output.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        try:
            process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=subprocess.STDOUT)
        except OSError as error:
            raise BuildError(f"{what}: cannot run {command[0]}: {error.strerror}") from error
        try:
            while True:
                try:
                    code = process.wait(timeout=20)
                    break
                except subprocess.TimeoutExpired:
                    progress(f"{what}: {time.monotonic() - started:.0f} s so far")
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if code != 0:
            output.seek(0)
            tail = "\n".join(output.read().splitlines()[-15:])
            raise BuildError(f"{what} failed with exit code {code}:\n{tail}")


def _go_version() -> str:
    """Return `go1.26.8` or the like.

    Raises:
        BuildError: there is no Go, or it is older than the module lists need.
    """
    needed = max(_go_line(HERE / "modules" / name / "go.mod") for name in ("kubernetes", "kine"))
    text = ".".join(str(number) for number in needed)
    go = shutil.which("go")
    if go is None:
        raise BuildError(f"the lab's Kubernetes is built with Go, which is not installed: install Go {text} or newer")
    # an older Go (1.21 and newer) fetches the one that go.mod asks for, through the module proxy
    environment = {**os.environ, "GOTOOLCHAIN": "auto"}
    asked = subprocess.run(
        [go, "env", "GOVERSION"],
        capture_output=True,
        text=True,
        env=environment,
        cwd=HERE / "modules" / "kine",
        check=False,
    )
    version = asked.stdout.strip()
    numbers = tuple(int(part) for part in version.removeprefix("go").split("-")[0].split(".") if part.isdigit())
    if asked.returncode != 0 or numbers < needed:
        raise BuildError(f"{go} is {version or 'broken'}, the lab's Kubernetes needs Go {text} or newer")
    return version


def _go_line(path: Path) -> tuple[int, ...]:
    for line in path.read_text().splitlines():
        if line.startswith("go "):
            return tuple(int(part) for part in line.split()[1].split("."))
    raise BuildError(f"{path} has no go line")


@dataclass(frozen=True)
class _Target:
    """What every build step needs to know."""

    version: str
    go: str
    arch: str
    cache: Path
    progress: Progress


def _build_program(program: Program, wanted: _Target) -> Path:
    folder = HERE / "modules" / program.modules
    flags = program.link_flags(wanted.version)
    pins = [(folder / name).read_bytes() for name in ("go.mod", "go.sum")]
    key = _digest([*pins, program.package, flags, wanted.go, wanted.arch])
    target = wanted.cache / "bin" / f"{program.name}-{key[:16]}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    wanted.progress(f"building {program.name} (minutes the first time)")
    environment = {
        **os.environ, "CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": wanted.arch, "GOAMD64": "v1", "GOEXPERIMENT": "",
        "GOTOOLCHAIN": "auto", "GOWORK": "off", "GOFLAGS": "-mod=readonly -buildvcs=false",
    }  # fmt: skip
    temporary = target.with_suffix(".new")
    command = ["go", "build", "-trimpath", "-ldflags", flags, "-o", str(temporary), program.package]
    if shutil.which("nice"):
        command = ["nice", *command]
    _run(command, f"building {program.name}", wanted.progress, cwd=folder, environment=environment)
    temporary.replace(target)
    return target


def _installer() -> list[str]:
    has_pip = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False)
    if has_pip.returncode == 0:
        return [sys.executable, "-m", "pip", "install", "--no-compile", "--disable-pip-version-check"]
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--python", sys.executable]
    pip = shutil.which("pip3") or shutil.which("pip")
    if pip:
        return [pip, "install", "--no-compile", "--disable-pip-version-check"]
    raise BuildError("neither pip nor uv is there to get the libraries of the lab's k3s: install python3-pip")


def _libraries(python: str, wanted: _Target) -> Path:
    """Return a folder with the supervisor's libraries for one Python, without anything that changes by installation."""
    requirements = HERE / "requirements.txt"
    target = wanted.cache / "lib" / _digest([requirements.read_bytes(), python, wanted.arch])[:16]
    if target.is_dir():
        return target
    wanted.progress(f"getting the supervisor's libraries for Python {python}")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[wanted.arch]
    temporary = target.with_suffix(".new")
    shutil.rmtree(temporary, ignore_errors=True)
    command = [*_installer(), "--target", str(temporary), "--python-version", python, "--require-hashes"]
    command += ["--only-binary", ":all:", "-r", str(requirements)]
    if "uv" in Path(command[0]).name:
        command += ["--python-platform", f"{machine}-manylinux_2_28"]
    else:
        command += ["--implementation", "cp"]
        for level in ("manylinux_2_28", "manylinux_2_17", "manylinux2014"):
            command += ["--platform", f"{level}_{machine}"]
    what = f"getting the supervisor's libraries for Python {python}"
    _run(command, what, wanted.progress, cwd=HERE, environment=dict(os.environ))
    for path in sorted(temporary.rglob("*"), reverse=True):
        if path.name == "__pycache__" or path.name.endswith(".dist-info") or path == temporary / "bin":
            shutil.rmtree(path)
    (temporary / ".lock").unlink(missing_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    return target


def _files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _add(packed: zipfile.ZipFile, name: str, data: bytes, *, executable: bool = False) -> None:
    item = zipfile.ZipInfo(name, _ZIP_TIME)
    item.compress_type = zipfile.ZIP_DEFLATED
    item.create_system = 3
    item.external_attr = (0o100755 if executable else 0o100644) << 16
    packed.writestr(item, data, compresslevel=6)


def _pack(target: Path, manifest: dict[str, object], programs: dict[str, Path], libraries: dict[str, Path]) -> None:
    with target.open("wb") as sink:
        sink.write(_SHEBANG)
        with zipfile.ZipFile(sink, "w") as packed:
            _add(packed, "__main__.py", _MAIN.encode())
            _add(packed, "manifest.json", json.dumps(manifest, indent=1, sort_keys=True).encode())
            for path in _files_below(HERE / "supervisor"):
                _add(packed, f"supervisor/{path.relative_to(HERE / 'supervisor')}", path.read_bytes())
            # configuration is read before anything is unpacked: the pure part of PyYAML is importable from here
            yaml = libraries[max(libraries)] / "yaml"
            for path in _files_below(yaml):
                if path.suffix == ".py":
                    _add(packed, f"yaml/{path.relative_to(yaml)}", path.read_bytes())
            for name, path in sorted(programs.items()):
                _add(packed, f"payload/bin/{name}", path.read_bytes(), executable=True)
            for tag, folder in sorted(libraries.items()):
                for path in _files_below(folder):
                    relative = path.relative_to(folder)
                    if relative.parts[0] not in {"yaml", "_yaml"}:
                        _add(packed, f"payload/lib/{tag}/{relative}", path.read_bytes())
    target.chmod(0o755)


def build(
    version: str,
    out_dir: Path,
    progress: Progress = print,
    *,
    cache: Path | None = None,
) -> Path:
    """Build `k3s` and its checksum file, with the vendor's names, unless they are there already.

    Args:
        version: what the file claims to be, e.g. v1.34.4+k3s1; it decides the behaviour after an address change.
        out_dir: gets `k3s` and `sha256sum-amd64.txt` (on arm64 `k3s-arm64` and `sha256sum-arm64.txt`).
        progress: told what happens, one line at a time.
        cache: keeps what was built; LAB_HOME/cache/k3s by default.

    Returns:
        The path of the file.

    Raises:
        BuildError: a step failed.
        ValueError: `version` is not a k3s version.
    """
    if Version.parse(version)[:2] != Version.parse(f"{_KUBERNETES}+k3s1")[:2]:
        raise BuildError(
            f"the lab's k3s holds Kubernetes {_KUBERNETES} and can claim its minor version only, not {version}"
        )
    machine = platform.machine()
    arch = ARCHITECTURES.get(machine)
    if arch is None:
        raise BuildError(f"the lab's k3s can be built on {' and '.join(ARCHITECTURES)}, this machine is {machine}")
    cache = cache or Settings.from_environment().home / "cache" / "k3s"
    go = _go_version()
    wanted = _Target(version, go, arch, cache, progress)
    binaries = {program.name: _build_program(program, wanted) for program in PROGRAMS}
    libraries = {f"cp{python.replace('.', '')}": _libraries(python, wanted) for python in PYTHON_VERSIONS}
    payload = _digest([*(path.name for path in binaries.values()), *(path.name for path in libraries.values())])
    sources = [path.read_bytes() for path in _files_below(HERE / "supervisor")]
    whole = _digest([payload, version, _MAIN, *sources, Path(__file__).read_bytes()])
    name = "k3s" if arch == "amd64" else f"k3s-{arch}"
    target = out_dir / name
    stamp = cache / "packed" / f"{whole}.sha256"
    sums = out_dir / f"sha256sum-{arch}.txt"
    if target.exists() and sums.exists() and stamp.exists() and sums.read_text() == f"{stamp.read_text()}  {name}\n":
        return target
    progress(f"packing {name} {version}")
    manifest: dict[str, object] = {
        "version": version,
        "commit": whole[:8],
        "go_version": go,
        "data_hash": payload,
        "kubernetes": _KUBERNETES,
    }
    out_dir.mkdir(parents=True, exist_ok=True)
    temporary = out_dir / f".{name}.new"
    _pack(temporary, manifest, binaries, libraries)
    with temporary.open("rb") as packed:
        checksum = hashlib.file_digest(packed, "sha256").hexdigest()
    temporary.replace(target)
    sums.write_text(f"{checksum}  {name}\n")
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(checksum)
    return target


def main() -> int:
    """Build from the command line: `python -m lab.k3s.build v1.34.4+k3s1 DIRECTORY`."""
    parser = argparse.ArgumentParser(description="Build the lab's k3s.")
    parser.add_argument("version")
    parser.add_argument("out_dir", type=Path)
    arguments = parser.parse_args()
    try:
        print(build(arguments.version, arguments.out_dir))
    except (LabError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
