"""What a result depends on: the text of the kit's modules as it was when they were imported."""

from __future__ import annotations

import pytest

from kardlib import sources
from kardlib.sources import SOURCES, code, imported


def test_what_a_module_imports_comes_with_it() -> None:
    found = imported(["pairs"])
    assert {"pairs", "prompts", "methods", "candidates", "bm25", "records"} <= found
    assert not found & {"tables", "report", "cli", "experiment", "presets"}


def test_every_module_that_a_step_imports_is_known() -> None:
    for name in SOURCES:
        assert imported([name]) <= set(SOURCES)


def test_the_hash_follows_the_text_and_not_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    before, other = code(["pairs"]), code(["teacher"])
    monkeypatch.setitem(sources.SOURCES, "prompts", "edited")
    assert code(["pairs"]) != before and code(["pairs", "student"]) != before
    monkeypatch.undo()
    assert code(["pairs"]) == before != other
