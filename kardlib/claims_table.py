"""The claims table: for every comparison of every claim what the paper's numbers say, and what was measured here."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

from .claims import CLAIMS, InPaper, read_claims
from .comparison import LEVEL, MCNEMAR, POWER, Comparison
from .report import Block
from .runs import ResultRow
from .verdicts import Decision, Load, Reading, Verdict, decide, read_raw

CLAIMS_HEADER = (
    "comparison", "paper", "paper's gap", "in the paper", "measured on", "here", "gap here", "95 % CI", "p (Holm)",
    "n x seeds", "detectable", "n needed", "verdict here",
)  # fmt: skip
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
CLAIMS_CAUTION = (
    "Gaps and intervals in points. "
    "paper: the paper's own numbers; its gap stands with the half width of a 95 % interval made from the size of its "
    "test set and the spread of its runs, unpaired, as its predictions are not published; in the paper: whether the "
    "gap is where the claim has it and beyond that half width. "
    "Four numbers a / b / c / d are a difference of differences, a + b - c - d. "
    "here: what was measured on the kit's data set and students; it stands beside the paper's numbers, never in their "
    "column. Intervals: paired bootstrap over questions, seeds averaged. p: the same bootstrap, or exact McNemar (*) "
    "where one seed meets one seed; Holm's correction over all comparisons of one of the paper's tables, its data sets "
    "together (generated and real ones apart). "
    f"A verdict other than undecided needs the 95 % interval and a corrected p of {LEVEL:g} or less; "
    "a claim about one share is decided by its interval alone, uncorrected. "
    f"detectable: the smallest gap that n questions find with {100 * POWER:.0f} % power before the correction, as "
    "often as the methods differed here. n needed: the questions that it would take to find the paper's own gap."
)


def claims_table(
    rows: Sequence[ResultRow], reading: Reading = "scored", path: Path = CLAIMS, load: Load = read_raw
) -> list[Block]:
    """One block a claim, its lines in the order of ``CLAIMS_HEADER``; claims without any row are told as not run.

    Args:
        rows: of any notebooks, for example ``merge_rows(find_records())``.
        reading, load: see :func:`kardlib.verdicts.decide`.
        path: the claims, ``data/claims.jsonl`` by default.
    """
    return claim_blocks(decide(read_claims(path), rows, reading, load))


def claim_blocks(decisions: Sequence[Decision]) -> list[Block]:
    """Decisions as text cells, one block a claim."""
    return [Block(_title(group), [_line(decision) for decision in group]) for group in _by_claim(decisions)]


def _by_claim(decisions: Sequence[Decision]) -> list[list[Decision]]:
    groups: dict[str, list[Decision]] = {}
    for decision in decisions:
        groups.setdefault(decision.claim.id, []).append(decision)
    return list(groups.values())


def verdicts_html(decisions: Sequence[Decision]) -> str:
    """One line a claim, with how many of its comparisons have each verdict; class ``verdicts``."""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("claim", "made in", *VERDICTS))
    lines = []
    for group in _by_claim(decisions):
        claim, counts = group[0].claim, tally(group)
        cells = (claim.made_in, *(str(counts.get(name, "")) for name in VERDICTS))
        inside = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        lines.append(f'<tr><th scope="row">{html.escape(claim.claim)}</th>{inside}</tr>')
    return f'<table class="verdicts"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def tally(decisions: Sequence[Decision]) -> dict[str, int]:
    """How many comparisons have each verdict."""
    counts = Counter(decision.verdict for decision in decisions)
    return {name: counts[name] for name in VERDICTS if counts[name]}


def _title(group: Sequence[Decision]) -> str:
    claim = group[0].claim
    summed = ", ".join(f"{count} {name}" for name, count in tally(group).items())
    return f"{claim.id} ({claim.made_in}): {claim.claim}{' ' + claim.note if claim.note else ''} | {summed}"


def _line(decision: Decision) -> tuple[str, ...]:
    cell, one = decision.cell, decision.comparison
    name = f"{cell.dataset}, {cell}"
    measured = str(decision.setup) if decision.setup else "-"
    if one is None:
        return name, *_paper(decision.paper), measured, *["-"] * 7, f"not run ({decision.note})"
    here = " / ".join(f"{row.value:.1f}" for row in decision.rows if row)
    needed = "-" if decision.needed is None else str(decision.needed)
    return name, *_paper(decision.paper), measured, here, *_measured(one), needed, decision.verdict


def _paper(paper: InPaper) -> tuple[str, str, str]:
    told = " / ".join(str(number) for number in paper.numbers)
    gap = f"{paper.gap:+.1f}" if len(paper.numbers) > 1 else f"{paper.gap:.1f}"
    return told, f"{gap} ± {paper.half_width:.1f}", paper.says


def _measured(one: Comparison) -> tuple[str, ...]:
    star = "*" if one.test == MCNEMAR else ""
    found = "-" if one.detectable is None else f"{one.detectable:.1f}"
    sign = "" if one.p is None else "+"  # a share is no gap
    ends = f"{one.ci95[0]:{sign}.1f} to {one.ci95[1]:{sign}.1f}"
    return f"{one.gap:{sign}.1f}", ends, one.p_text + star, f"{one.n} x {one.seeds}", found


def claims_text(blocks: Sequence[Block]) -> str:
    """The claims table as plain text."""
    parts: list[str] = []
    for block in blocks:
        widths = [max(len(line[i]) for line in (CLAIMS_HEADER, *block.lines)) for i in range(len(CLAIMS_HEADER))]
        lines = (CLAIMS_HEADER, tuple("-" * width for width in widths), *block.lines)
        parts += [block.title]
        parts += [" | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        parts += [""]
    return "\n".join([*parts, CLAIMS_CAUTION])


def claims_html(blocks: Sequence[Block]) -> str:
    """The claims table as HTML tables, for a notebook's ``display(HTML(...))`` or for a page; class ``claims``."""
    return _tables([(block.title, [[html.escape(cell) for cell in line] for line in block.lines]) for block in blocks])


def linked_claims_html(decisions: Sequence[Decision], link: Callable[[ResultRow], str]) -> str:
    """The same of decisions, every number that was measured here a link.

    Args:
        link: where the number of a row leads to.
    """
    groups = _by_claim(decisions)
    return _tables([(_title(group), [_linked(decision, link) for decision in group]) for group in groups])


def _linked(decision: Decision, link: Callable[[ResultRow], str]) -> list[str]:
    cells = [html.escape(cell) for cell in _line(decision)]
    if decision.comparison is not None:
        rows = [row for row in decision.rows if row]
        numbers = [f'<a href="{html.escape(link(row))}">{row.value:.1f}</a>' for row in rows]
        cells[CLAIMS_HEADER.index("here")] = " / ".join(numbers)
    return cells


def _tables(claims: Sequence[tuple[str, Sequence[Sequence[str]]]]) -> str:
    """Tables of titles and lines, whose cells are HTML."""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in CLAIMS_HEADER)
    parts: list[str] = []
    for title, lines in claims:
        parts.append(f'<table class="claims"><caption>{html.escape(title)}</caption>')
        parts.append(f"<thead><tr>{head}</tr></thead><tbody>")
        for line in lines:
            cells = "".join(f"<td>{cell}</td>" for cell in line[1:])
            parts.append(f'<tr><th scope="row">{line[0]}</th>{cells}</tr>')
        parts.append("</tbody></table>")
    return "\n".join([*parts, f"<p>{html.escape(CLAIMS_CAUTION)}</p>"])
