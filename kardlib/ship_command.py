"""``kard ship``: finished outputs into ``data/records``, and whether they are what they say. Heavy imports wait."""

from __future__ import annotations

import argparse


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add ``ship`` to the subcommands of ``kard``."""
    text = "write finished outputs of the tables' cells to data/records, to ship with the kit"
    parser = commands.add_parser("ship", help=text, description=text, allow_abbrev=False)
    parser.set_defaults(command=_ship)
    parser.add_argument("--table", action="append", help="main, a table of the paper (3, 'Fig 4a'), all (the default)")
    parser.add_argument("--check", action="store_true", help="only check that what is there is what it says")
    parser.add_argument("--again", action="store_true", help="only train one shipped cell anew and compare")


def _ship(options: argparse.Namespace, rest: list[str]) -> int:
    from .ship import faults, found, ship, ship_figures, table_work

    if options.again:
        from .retrained import check_one

        fault = check_one()
        print(fault or "one cell was trained and answered again and comes to what ships")
        return 1 if fault else 0
    tables = options.table or ["all"]
    work = table_work(tables)
    if not options.check:
        ship(work, whole="all" in tables)
        print(f"figures: {ship_figures()} of the notebooks' latest runs")
        return 0
    bad = list(faults())
    for line in bad:
        print(f"FAIL {line}")
    needed, there = found(work)
    print(f"{there} of {needed} sets of table {', '.join(tables)} are there; {len(bad)} faults")
    return 1 if bad else 0
