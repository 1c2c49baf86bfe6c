"""Settings of a row that are not its preset's own: rows that are compared must share them, and a heading must tell."""

from __future__ import annotations

from typing import Any

from .presets import MINI_SETS, PRESETS, Settings
from .runs import ResultRow

_ELSEWHERE = {"answers", "shots", "student"}
"""Settings that a row has for another reason: what is read, how it is asked, and what has a column of its own."""
NAMED = {"l", "k", "kappa_star"}
"""Settings that a row names wherever they mean something."""


def unusual(row: ResultRow) -> dict[str, Any]:
    """By name. What l, k and kappa* usually are is known of mini sets only; elsewhere they are left out."""
    usual = PRESETS["mini"] if row.dataset in MINI_SETS else {}
    return {
        name: value
        for name, value in row.settings.items()
        if name in Settings.model_fields
        and name not in _ELSEWHERE
        and value not in (None, usual.get(name))
        and not (name in NAMED and name not in usual)
    }
