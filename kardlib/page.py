"""``kard report --format html``: one self-contained page with tables, claims, plots and the runs behind them."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from .claims import read_claims
from .claims_table import linked_claims_html, tally, verdicts_html
from .counterparts import counterparts, counterparts_html
from .report import main_table_html, merge_notes, merge_rows, row_key, table_place
from .runs import ResultRow, RunRecord, read_record
from .verdicts import Load, Raw, decide, read_raw

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>KARD kit: results</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }}
table {{ border-collapse: collapse; margin: 1.5rem 0; width: 100%; }}
caption {{ text-align: left; font-weight: 600; padding-bottom: .4rem; }}
th, td {{ padding: .25rem .6rem; border-bottom: 1px solid #ccc; text-align: right; }}
th:first-child {{ text-align: left; }}
tbody th {{ font-weight: 400; }}
td {{ white-space: nowrap; }}
td:nth-child(2) {{ color: #555; border-right: 2px solid #888; }}
td a {{ color: inherit; }}
.wide {{ overflow-x: auto; }}
table.claims {{ font-size: .8rem; }}
table.claims th, table.claims td {{ text-align: left; vertical-align: top; }}
table.claims td {{ white-space: normal; }}
table.claims tbody th {{ min-width: 16em; }}
table.claims td:last-child {{ font-weight: 600; }}
table.without td:last-child {{ white-space: normal; }}
table.verdicts td {{ border-right: 0; color: inherit; }}
figure {{ margin: 1.5rem 0; }}
img {{ max-width: 100%; }}
pre {{ white-space: pre-wrap; font-size: .8rem; }}
@media print {{ body {{ max-width: none; font-size: 10pt; }} details {{ display: none; }} }}
</style>
</head>
<body>
<h1>Results</h1>
<nav>{contents}</nav>
{parts}
</body>
</html>
"""


def page(paths: Sequence[Path]) -> str:
    """The page of some runs.

    Args:
        paths: of their records, for example :func:`kardlib.report.find_runs`.
    """
    records = [read_record(path) for path in paths]
    rows, notes = sorted(merge_rows(records), key=table_place), merge_notes(records)
    run_of = _first_runs(records)

    def link(row: ResultRow) -> str:
        return f"#run-{run_of[row_key(row)]}"

    def load(row: ResultRow) -> Raw | None:
        return read_raw(row, paths[run_of[row_key(row)]].parent)

    parts = {
        "Claims": _claims(rows, link, load),
        "Tables": main_table_html(rows, notes, link) + counterparts_html(counterparts(rows)),
        "Figures": "\n".join(_figures(path, record) for path, record in zip(paths, records, strict=True)),
        "Runs": "\n".join(_run(n, path, record) for n, (path, record) in enumerate(zip(paths, records, strict=True))),
    }
    parts = {name: text for name, text in parts.items() if text.strip()}
    contents = " · ".join(f'<a href="#{name.lower()}">{name}</a>' for name in parts)
    sections = "\n".join(f'<h2 id="{name.lower()}">{name}</h2>\n{text}' for name, text in parts.items())
    return _PAGE.format(contents=contents, parts=sections)


def _first_runs(records: Sequence[RunRecord]) -> dict[str, int]:
    """For each row, by its key, the place of the first run that has it."""
    places: dict[str, int] = {}
    for number, record in enumerate(records):
        for row in record.results:
            places.setdefault(row_key(row), number)
    return places


def _claims(rows: Sequence[ResultRow], link: Callable[[ResultRow], str], load: Load) -> str:
    """The claims, first with answers as they count, then, where these were scored, as they were written."""
    scored = any(row.settings.get("answers") == "scored" for row in rows)
    titles = {"scored": "The likeliest option counts", "free": "The text as written counts"}
    parts = []
    for reading in ("scored", "free") if scored else ("free",):
        decisions = decide(read_claims(), rows, reading, load)
        summed = ", ".join(f"{count} {verdict}" for verdict, count in tally(decisions).items())
        parts.append(f"<h3>{titles[reading]}: {html.escape(summed)}</h3>{verdicts_html(decisions)}")
        inside = f'<div class="wide">{linked_claims_html(decisions, link)}</div>'
        parts.append(f"<details><summary>Every comparison</summary>{inside}</details>")
    return "\n".join(parts)


def _figures(path: Path, record: RunRecord) -> str:
    parts = []
    for file in sorted((path.parent / "figures").glob("*.png")):
        name = html.escape(f"{record.notebook}: {file.stem} ({record.dataset})")
        data = base64.b64encode(file.read_bytes()).decode()
        picture = f'<img src="data:image/png;base64,{data}" alt="{name}">'
        parts.append(f"<figure>{picture}<figcaption>{name}</figcaption></figure>")
    return "\n".join(parts)


def _run(number: int, path: Path, record: RunRecord) -> str:
    """A run: what it cost, which code made it, where its record and its raw predictions lie, and its parameters."""
    files = sorted({row.predictions for row in record.results if row.predictions})
    told = {"record": str(path), "predictions": files, "parameters": record.parameters, "provenance": record.provenance}
    inside = html.escape(json.dumps(told, indent=1, ensure_ascii=False))
    return (
        f'<section id="run-{number}"><h3>{html.escape(_run_line(record))}</h3>'
        f"<details><summary>{html.escape(path.parent.name)}</summary><pre>{inside}</pre></details></section>"
    )


def _run_line(record: RunRecord) -> str:
    git = record.provenance.get("git") or {}
    commit = f"commit {git['commit'][:10]}{' with changes' if git.get('dirty') else ''}" if git.get("commit") else ""
    size = record.parameters.get("size", "")
    about = (record.preset, record.dataset, size, f"{record.seconds:.0f} s", f"{record.peak_memory_mb:.0f} MiB", commit)
    return f"{record.notebook}: {', '.join(part for part in about if part)}"
