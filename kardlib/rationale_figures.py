"""The quality report's page of plots: verdicts, leaks, lengths, repetitions and diversity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import binomtest

from .announcements import LEAKS
from .figures import Curve, Whisker, bars, grouped_bars, panels
from .rationale_quality import RationaleQuality, Texts

_BINS = 24


def quality_figures(quality: RationaleQuality) -> dict[str, Figure]:
    """The plots by name. Whiskers are Wilson intervals at 95 % that take texts as independent; those of one question
    are not quite.

    Returns:
        ``verdicts``, ``leaks``, ``lengths``, ``repeats``, ``distinct``; those alone for which there are texts.
    """
    figures = {}
    if quality.samples:
        shares = {name.replace(" ", "\n"): 100 * count / quality.samples for name, count in quality.verdicts.items()}
        figures["verdicts"] = bars(shares, "verdict on a sample", "samples (%)")
    if quality.all.count:
        figures |= _of_texts(_compared(quality))
    return figures


def _compared(quality: RationaleQuality) -> dict[str, Texts]:
    """All texts, and beside them the kept ones where a filter has judged and left some."""
    return {"all": quality.all, **({"kept": quality.kept} if quality.judged and quality.kept.count else {})}


def _of_texts(parts: dict[str, Texts]) -> dict[str, Figure]:
    names = ["a letter", '"the answer\nis ..."', '"the given\nanswer"', "any of them"]
    leaking = {
        name: _percent([*(texts.leaks[kind] for kind in LEAKS), texts.leaking], texts.count)
        for name, texts in parts.items()
    }
    places = ["same words,\nthis question", "same words,\nanother", "near,\nthis question", "near,\nanother"]
    again = {
        name: _percent([t.exact_within, t.exact_across, t.near_within, t.near_across], t.count)
        for name, t in parts.items()
    }
    different = {
        f"{name}, {where}": [_point(value) for value in values]
        for name, texts in parts.items()
        for where, values in (("together", texts.distinct), ("within a question", texts.distinct_within))
        if None not in values
    }
    figures = {
        "leaks": grouped_bars(names, leaking, "rationales (%)"),
        "lengths": _lengths(parts),
        "repeats": grouped_bars(places, again, "rationales (%)", "repeats an earlier rationale"),
    }
    return figures | (
        {"distinct": grouped_bars(["1", "2", "3"], different, "distinct n-grams / all", "n")} if different else {}
    )


def _lengths(parts: dict[str, Texts]) -> Figure:
    """Share of the texts by their number of words, in bins of one width for all parts."""
    longest = max(texts.words[-1] for texts in parts.values())
    edges = np.linspace(0, longest + 1, min(_BINS, longest + 1) + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    curves = {}
    for (name, texts), (style, colour) in zip(parts.items(), (("-", "blue"), ("--", "orange")), strict=False):
        counts, _ = np.histogram(texts.words, edges)
        curves[name] = Curve(middles, 100 * counts / texts.count, style=style, colour=colour)
    return panels({"length": curves}, ["words"], "rationales (%)")


def _percent(counts: Sequence[int], of: int) -> list[Whisker]:
    found = []
    for count in counts:
        ends = binomtest(count, of).proportion_ci(method="wilson")
        found.append((100 * count / of, 100 * float(ends.low), 100 * float(ends.high)))
    return found


def _point(value: float | None) -> Whisker:
    return (value or 0.0,) * 3
