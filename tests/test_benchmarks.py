"""The benchmarks measure what they say: their passages, their rows, and the table that is kept."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import benchmarks.__main__ as bench  # noqa: E402
from benchmarks.__main__ import main, merged, table  # noqa: E402
from benchmarks.growth import slope  # noqa: E402
from benchmarks.passages import Numbered, texts  # noqa: E402
from benchmarks.rows import in_process, row  # noqa: E402
from kardlib.passage_source import PassageList, digest_of  # noqa: E402


def test_repeated_text_is_a_source_with_fresh_words() -> None:
    """Every round has other words in other places, ids are sorted, and the hash is that of the whole."""
    base = [" ".join(f"w{i}x{j}" for j in range(30)) for i in range(12)]
    source = Numbered(base, 3)
    passages = list(source)
    assert len(source) == len(passages) == 36 and source[17] == passages[17]
    assert [passage.id for passage in passages] == sorted(passage.id for passage in passages)
    assert source.digest == digest_of(passages) == PassageList(passages).digest
    known = [{word for p in passages[start : start + 12] for word in p.text.split()} for start in (0, 12, 24)]
    assert len(known[1] - known[0]) == len(known[2] - known[0] - known[1]) == 36


def test_a_row_divides_what_it_says() -> None:
    """A ratio above 1 is in our favour for times, a plain quotient where so asked, and absent where not measured."""
    assert row("search", "other", 2.0, 8.0, "s")["ratio"] == 4
    assert row("memory", "bound", 300.0, 1200.0, "MB", "ours/theirs")["ratio"] == 0.25
    held = row("search", "Lucene", 2.0, None, "s")
    assert held["ratio"] == "not measured" and held["theirs"] is None
    assert set(held) == {"name", "against", "ratio", "ours", "theirs", "unit", "machine"}


def test_a_part_of_the_table_is_renewed() -> None:
    """Rows with the same name and opponent are replaced where they stand, others are kept or added."""
    old = [row("a", "x", 1.0, 2.0, "s"), row("b", "x", 1.0, 3.0, "s")]
    rows = merged(old, [row("b", "x", 1.0, 9.0, "s"), row("c", "x", 1.0, 4.0, "s")])
    assert [(one["name"], one["ratio"]) for one in rows] == [("a", 2), ("b", 9), ("c", 4)]
    assert table(rows).splitlines()[3] == "| b | x | 9 | 1 | 9 | s |"
    first, other = ([one | {"section": name} for one in old] for name in ("search", "build"))
    fewer = [one | {"section": "search"} for one in rows[1:2]]
    assert merged(first, fewer) == fewer, "a is not measured any more"
    assert merged(other, fewer) == [other[0], *fewer]


def test_a_section_that_failed_is_named_and_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = row("x", "y", 1.0, 2.0, "s")
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(bench, "run_section", lambda name: [made] if name == "search" else [])
    assert main(["search", "build"]) == 1 and "earlier run if any: build" in capsys.readouterr().err
    assert main(["search"]) == 0


def test_small_parts(capsys: pytest.CaptureFixture[str]) -> None:
    """The fitted exponent of a power is that power; a fresh interpreter answers; an unknown section is refused."""
    assert slope([10, 100, 1000], [7 * n**1.5 for n in (10, 100, 1000)]) == pytest.approx(1.5)
    assert in_process("import sys; print('no'); print(int(sys.argv[1]) + 1)", 4) == "5"
    with pytest.raises(SystemExit):
        main(["cooking"])
    assert "no section cooking" in capsys.readouterr().err


def test_real_passages_are_cut_from_articles(data_dir: Path) -> None:
    """The first windows of Simple English Wikipedia begin with their article's title."""
    found = texts(50)
    assert len(found) == 50 and found[0].startswith("April. ") and all(len(text.split()) > 1 for text in found)
