"""``python -m benchmarks [section ...]``: run the sections, each in its own process, print and write the table.

Rows of sections that are not run stay in ``benchmarks/results.json`` as they are.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.rows import Row
from kardlib.errors import KardError
from kardlib.store import atomic_write

RESULTS = Path(__file__).parent / "results.json"
SECTIONS = ("search", "build", "memory", "rerank", "training", "generation", "plan_estimate")


def run_section(name: str) -> list[Row]:
    """Rows of one section, from a fresh interpreter; a line and no rows where it fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        done = subprocess.run([sys.executable, "-m", "benchmarks", name, "--rows", str(path)])
        if done.returncode or not path.is_file():
            print(f"{name}: not measured", file=sys.stderr)
            return []
        return [row | {"section": name} for row in json.loads(path.read_text(encoding="utf-8"))]


def merged(old: list[Row], new: list[Row]) -> list[Row]:
    """New rows in the place of old ones with the same name and opponent, others behind them; what a section that was
    run no longer measures is left out."""
    fresh = {(row["name"], row["against"]): row for row in new}
    ran = {row.get("section", "") for row in new}
    kept = [
        fresh.pop((row["name"], row["against"]), row)
        for row in old
        if (row["name"], row["against"]) in fresh or row.get("section") not in ran
    ]
    return [*kept, *fresh.values()]


def table(rows: list[Row]) -> str:
    """The rows as Markdown; the machine stands below where it is one and the same."""

    def cell(value: object) -> str:
        return "" if value is None else f"{value:,.4g}" if isinstance(value, float | int) else str(value)

    lines = ["| what | against | ratio | ours | theirs | unit |", "|---|---|---|---|---|---|"]
    fields = ("name", "against", "ratio", "ours", "theirs", "unit")
    lines += [f"| {' | '.join(cell(row[field]) for field in fields)} |" for row in rows]
    return "\n".join([*lines, "", *sorted({row["machine"] for row in rows})])


def main(arguments: list[str] | None = None) -> int:
    """Run the sections that are named, or all."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("sections", nargs="*", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"no section {unknown[0]}; there are {', '.join(SECTIONS)}")
    if options.rows:
        return _one(options.sections[0], options.rows)
    found = {name: run_section(name) for name in options.sections or SECTIONS}
    rows = [row for some in found.values() for row in some]
    failed = [name for name, some in found.items() if not some]
    old = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    with atomic_write(RESULTS) as file:
        json.dump(merged(old, rows), file, indent=1, ensure_ascii=False)
    print(table(rows))
    if failed:
        print(f"not measured now, rows are of an earlier run if any: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _one(name: str, path: Path) -> int:
    try:
        rows = importlib.import_module(f"benchmarks.{name}").rows()
    except KardError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    path.write_text(json.dumps(rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
