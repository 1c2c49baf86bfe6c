"""A ranking that is killed: what was ranked stays, and the rest follows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from kardlib.candidates import Candidates
from kardlib.records import read_jsonl
from kardlib.reranked import RERANKED, rank_into
from kardlib.reranker import Form, Reranker, best_first, load_reranker
from kardlib.store import SCRATCH

QUERIES = ["which drug", "which disease then", "who"]
TEXTS = {"a": "a drug", "b": "a disease that spreads", "c": "someone"}
GROUPS = [Candidates(key=f"q{i}", passages=("a", "b", "c"), scores=(3.0, 2.0, 1.0)) for i in range(3)]


class Killed(BaseException):
    """As SIGKILL: nothing is caught."""


class Dying(Reranker):
    """Ranks by the length of the text, and dies after some questions."""

    def __init__(self, lives: int) -> None:
        self.lives, self.asked = lives, list[str]()

    def ranked(
        self, queries: Sequence[str], candidates: Sequence[Candidates], texts: Mapping[str, str]
    ) -> Iterator[Candidates]:
        for query, group in zip(queries, candidates, strict=True):
            if not self.lives:
                raise Killed
            self.lives -= 1
            self.asked.append(query)
            yield best_first(group, [float(len(texts[i])) for i in group.passages])


def test_a_killed_ranking_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    rank_into(whole, Dying(3), QUERIES, GROUPS, TEXTS)
    with pytest.raises(Killed):
        rank_into(killed, Dying(2), QUERIES, GROUPS, TEXTS)
    assert not (killed / RERANKED).exists()
    work = killed / SCRATCH / RERANKED
    work.write_bytes(work.read_bytes()[:-7])  # the second line was cut off
    rest = Dying(3)
    rank_into(killed, rest, QUERIES, GROUPS, TEXTS)
    assert rest.asked == QUERIES[1:]
    assert (killed / RERANKED).read_bytes() == (whole / RERANKED).read_bytes()
    assert [c.passages for c in read_jsonl(killed / RERANKED, Candidates)] == [("b", "c", "a")] * 3


@pytest.mark.parametrize("form", ["late-interaction", "cross-encoder"])
def test_what_comes_in_turn_is_what_comes_at_once(form: Form, tiny_bert: str, tmp_path: Path) -> None:
    model = load_reranker(tiny_bert, form)
    rank_into(tmp_path, model, QUERIES, GROUPS, TEXTS)
    assert read_jsonl(tmp_path / RERANKED, Candidates) == model.rank(QUERIES, GROUPS, TEXTS)


def test_a_cross_encoder_reads_blocks(tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_reranker(tiny_bert, "cross-encoder")
    at_once = model.rank(QUERIES, GROUPS, TEXTS)
    monkeypatch.setattr("kardlib.reranker.BLOCK_CHARACTERS", 1)
    apart = model.rank(QUERIES, GROUPS, TEXTS)
    assert [c.key for c in apart] == [c.key for c in at_once]
    for one, other in zip(apart, at_once, strict=True):
        by_id = dict(zip(other.passages, other.scores, strict=True))
        assert one.scores == pytest.approx([by_id[i] for i in one.passages], abs=1e-5)
