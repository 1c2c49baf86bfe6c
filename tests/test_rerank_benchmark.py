"""The reranking benchmark on a tiny encoder: what it compares is the same work, and it notices where it is not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import rerank  # noqa: E402
from kardlib.candidates import Candidates  # noqa: E402
from kardlib.errors import KardError  # noqa: E402
from kardlib.mini import MiniSet  # noqa: E402
from kardlib.reranker import load_late_interaction  # noqa: E402


@pytest.fixture
def small(mini: MiniSet, tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts of six words and more, 40 queries that find six of them each, one too short among these."""
    words = [passage.text.split() for passage in mini.passages[:200]]
    texts = [f"T. {' '.join(one[:12])}" for one in words]
    texts[0] = "T. short"
    found = [[0, *range(1 + 4 * q, 6 + 4 * q)] for q in range(40)]
    parity = {"queries": [f"What of {texts[5 * q]}" for q in range(40)], "top100": found}
    monkeypatch.setattr(rerank, "texts", lambda: texts)
    monkeypatch.setattr(rerank, "parity", lambda: parity)
    for name, value in {"ENCODER": tiny_bert, "WIDTH": 9, "WORDS": 6, "PADDED": 64, "POOL": 3, "STEPS": 1}.items():
        monkeypatch.setattr(rerank, name, value)
    return texts


def test_every_question_has_its_own_passages_and_filler(small: list[str]) -> None:
    queries, groups, passages = rerank.candidates()
    assert len(queries) == len(groups) == rerank.QUESTIONS
    assert all(len(set(group.passages)) == 9 and "0" not in group.passages for group in groups)
    assert all(
        group.passages[:5] == tuple(str(i) for i in range(1 + 4 * q, 6 + 4 * q)) for q, group in enumerate(groups)
    )
    filler = [i for group in groups for i in group.passages[5:]]
    assert len(set(filler)) == len(filler), "no two questions share what was filled in"
    assert all(passages[i] == small[int(i)] for i in filler)


def test_rows_of_the_table(small: list[str]) -> None:
    rows = rerank.rows()
    assert len({row["name"] for row in rows}) == 3
    cold, cached, trained, quick = rows
    assert all("64" in row["against"] for row in rows[:3]) and "dropout" in quick["against"]
    assert cold["ratio"] == pytest.approx(cold["theirs"] / cold["ours"], rel=1e-2)
    assert cached["theirs"] == cold["theirs"] and cached["ours"] < cold["ours"]
    for one in (trained, quick):
        assert one["ratio"] == pytest.approx(one["ours"] / one["theirs"], rel=1e-2)
    assert trained["ours"] == quick["ours"]


def test_texts_are_padded_to_the_width_and_only_inside(tiny_bert: str) -> None:
    model = load_late_interaction(tiny_bert)
    usual = model.preprocess(["One text."], task="document")["input_ids"]
    with rerank.padding_to(model, 64):
        features = model.preprocess(["One text."], task="document")
    assert features["input_ids"].shape == features["attention_mask"].shape == (1, 64)
    assert features["attention_mask"].sum() == usual.shape[1] < 64
    assert model.preprocess(["One text."], task="document")["input_ids"].shape == usual.shape


def test_another_ranking_is_an_error_and_a_near_tie_is_none() -> None:
    def ranked(names: str, *scores: float) -> list[Candidates]:
        return [Candidates(key="q7", passages=tuple(names), scores=scores)]

    rerank.check_same(ranked("abc", 3.0, 2.0, 1.0), ranked("abc", 3.0, 2.0, 1.0))
    rerank.check_same(ranked("abc", 3.0, 2.00001, 2.0), ranked("acb", 3.0, 2.0, 2.0))
    with pytest.raises(KardError, match="q7"):
        rerank.check_same(ranked("abc", 3.0, 2.0, 1.0), ranked("acb", 3.0, 2.0, 1.0))
