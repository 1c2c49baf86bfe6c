"""``kard clean``: the space that artefacts take. Heavy imports wait until it runs."""

from __future__ import annotations

import argparse
import sys


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add ``clean`` to the subcommands of ``kard``."""
    text = "free the space of artefacts; alone it only shows what there is"
    parser = commands.add_parser("clean", help=text, description=text, allow_abbrev=False)
    parser.set_defaults(command=_clean)
    parser.add_argument("--kind", dest="kinds", action="append", default=[], metavar="KIND",
                        help="remove these: a step's name, checkpoints (models that no row needs) or leftovers (of "
                        "killed steps); may be repeated")  # fmt: skip
    parser.add_argument("--unused", action="store_true", help="remove only what other code has made, of any kind")
    parser.add_argument("--dry-run", action="store_true", help="show what would go, remove nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _clean(options: argparse.Namespace, rest: list[str]) -> int:
    from .clean import clean

    ask = input if sys.stdin is not None and sys.stdin.isatty() else None
    clean(options.kinds, options.unused, options.dry_run, options.yes, ask=ask)
    return 0
