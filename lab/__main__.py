"""Command line of the lab: ``python -m lab COMMAND``."""

from __future__ import annotations

import argparse
import os
import sys

from lab import engine
from lab.down import clean, down
from lab.prepare import prepare
from lab.settings import LabError, Settings
from lab.suite import run_suite
from lab.summary import summary
from lab.variables_page import PAGE, write_page


def _prepare(settings: Settings, options: argparse.Namespace) -> None:
    prepare(settings, options.images, with_k3s=options.k3s, load=options.load)


def _engine(settings: Settings, _: argparse.Namespace) -> None:
    print(f"DOCKER_HOST={engine.ensure(settings)}")


def _down(settings: Settings, options: argparse.Namespace) -> None:
    down(settings, keep_engine=options.keep_engine)


def _clean(settings: Settings, _: argparse.Namespace) -> None:
    clean(settings)


def _summary(settings: Settings, _: argparse.Namespace) -> None:
    print(summary(settings))


def _test(settings: Settings, options: argparse.Namespace) -> None:
    if not run_suite(settings, options.parts, long=options.long):
        sys.exit(1)


def _docs(_settings: Settings, _: argparse.Namespace) -> None:
    print(f"{PAGE}: {'written anew' if write_page() else 'as it was'}")


def parser() -> argparse.ArgumentParser:
    """The command line's parser."""
    main = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = main.add_subparsers(dest="command", required=True)

    one = commands.add_parser("prepare", help="engine, keys, images, registry and file server")
    one.add_argument("images", nargs="*", metavar="IMAGE", help="only these of lab/images.yml (default: all)")
    one.add_argument("--no-k3s", dest="k3s", action="store_false", help="leave the k3s download out")
    one.add_argument("--load", action="store_true", help="have the images in the engine too, for tests/lab")
    one.set_defaults(run=_prepare)

    one = commands.add_parser("engine", help="find or start a Docker engine and print its address")
    one.set_defaults(run=_engine)

    one = commands.add_parser("summary", help="addresses and what to try next")
    one.set_defaults(run=_summary)

    one = commands.add_parser("down", help="remove the lab; built and downloaded things stay")
    one.add_argument("--keep-engine", action="store_true", help="leave the lab's own Docker engine running")
    one.set_defaults(run=_down)

    one = commands.add_parser("clean", help="remove the lab and everything that it ever built or downloaded")
    one.set_defaults(run=_clean)

    one = commands.add_parser("docs", help="docs/variables.md anew from the roles' argument specifications")
    one.set_defaults(run=_docs)

    one = commands.add_parser("test", help="the checks that CI runs, with counts")
    one.add_argument("parts", nargs="*", metavar="PART", help="lint, unit, lab, or a Molecule scenario (default: all)")
    one.add_argument("--long", action="store_true", help="also the soak and fault runs with their full windows")
    one.set_defaults(run=_test)
    return main


def main() -> int:
    """Run a command; errors that the user can act on are printed without a traceback."""
    options = parser().parse_args()
    try:
        settings = Settings.from_environment()
        # children (Ansible, builds) see the same lab, whether its place was named or not
        os.environ["LAB_HOME"] = str(settings.home)
        options.run(settings, options)
    except LabError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; `make lab-down` removes what is there", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
