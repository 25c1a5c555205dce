"""The command line of `k3s`, and of `kubectl` when called by that name."""

import os
import sys
from pathlib import Path

from . import bundle, logs, processes, settings
from .bundle import Manifest
from .logs import FatalError

USAGE = """NAME:
   k3s - Kubernetes, but small and simple (the lab's stand-in: real API server, kine and kubectl, scripted node)

USAGE:
   k3s [global options] command [command options]

COMMANDS:
   server         Run management server
   kubectl        Run kubectl
   etcd-snapshot  Save and list etcd snapshots (refused where the datastore is SQLite)
   certificate    Check and rotate certificates

   What k3s has besides is refused with exit code 1.

GLOBAL OPTIONS:
   --help, -h     show help
   --version, -v  print the version
"""
_UNSUPPORTED = (
    "agent", "check-config", "completion", "crictl", "ctr", "secrets-encrypt", "token",
)  # fmt: skip


def _kubectl(path: Path, manifest: Manifest, arguments: list[str]) -> int:
    folder = bundle.unpack(path, settings.configured_data_dir(os.environ), manifest)
    if "KUBECONFIG" not in os.environ and settings.DEFAULT_KUBECONFIG.exists():
        if not os.access(settings.DEFAULT_KUBECONFIG, os.R_OK):
            logs.warning(
                f"Unable to read {settings.DEFAULT_KUBECONFIG}, please start server with --write-kubeconfig-mode or "
                "--write-kubeconfig-group to modify kube config permissions"
            )
        os.environ["KUBECONFIG"] = str(settings.DEFAULT_KUBECONFIG)
    program = folder / "bin" / "kubectl"
    os.execv(program, ["kubectl", *arguments])  # noqa: S606  kubectl takes this process' place


def _server(path: Path, manifest: Manifest, arguments: list[str]) -> int:
    loaded = settings.load(arguments, os.environ)
    if loaded.switch("debug"):
        logs.enable_debug()
    folder = bundle.unpack(path, loaded.data_dir, manifest)
    bundle.import_libraries(folder)
    from . import server  # noqa: PLC0415  needs the libraries that were just unpacked

    processes.set_process_name("k3s-server")
    server.run(loaded, manifest, folder)
    return 0


def _certificate(path: Path, manifest: Manifest, arguments: list[str]) -> int:
    bundle.import_libraries(bundle.unpack(path, settings.configured_data_dir(os.environ), manifest))
    from . import certificate_command  # noqa: PLC0415  needs the libraries that were just unpacked

    certificate_command.run(arguments)
    return 0


def _etcd_snapshot(path: Path, manifest: Manifest, arguments: list[str]) -> int:
    loaded = settings.load([], os.environ)
    bundle.import_libraries(bundle.unpack(path, loaded.data_dir, manifest))
    from . import snapshot_command  # noqa: PLC0415  needs the libraries that were just unpacked

    snapshot_command.run(arguments, loaded)
    return 0


_COMMANDS = {"kubectl": _kubectl, "server": _server, "certificate": _certificate, "etcd-snapshot": _etcd_snapshot}


def _dispatch(path: Path, manifest: Manifest, called_as: str, arguments: list[str]) -> int:
    if called_as == "kubectl":
        return _kubectl(path, manifest, arguments)
    command = called_as if called_as in _UNSUPPORTED else (arguments[0] if arguments else "help")
    rest = arguments[1:]
    if command in {"--version", "-v"}:
        print(f"k3s version {manifest.version} ({manifest.commit})\ngo version {manifest.go_version}")
        return 0
    if command in {"help", "--help", "-h"}:
        print(USAGE, end="")
        return 0
    if command in _COMMANDS:
        return _COMMANDS[command](path, manifest, rest)
    if command in _UNSUPPORTED:
        raise FatalError(f"Error: the lab's k3s has no `{command}`; use a real k3s to try that")
    print(f"No help topic for '{command}'", file=sys.stderr)
    return 3


def main(argv: list[str]) -> int:
    """Run one command; return its exit code."""
    path = bundle.archive()
    try:
        return _dispatch(path, bundle.read_manifest(path), Path(argv[0]).name, argv[1:])
    except FatalError as error:
        logs.log("fatal", str(error))
    except OSError as error:
        # a full disk, a file system that is read-only, a folder where a file should be: as Go words it
        words = (error.strerror or str(error)).lower()
        logs.log("fatal", f"Error: preparing server: open {error.filename}: {words}" if error.filename else words)
    return 1
