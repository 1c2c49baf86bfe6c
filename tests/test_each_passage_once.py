"""A ranking passage by passage: the scores of the other way, each text encoded once, a kill that loses one block."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from torch import Tensor

from kardlib import each_passage_once
from kardlib.candidates import Candidates
from kardlib.each_passage_once import EachPassageOnce
from kardlib.progress import told_to
from kardlib.reranker import LateInteraction

Asked = tuple[list[str], list[Candidates], dict[str, str]]


@pytest.fixture
def asked(texts: dict[str, str]) -> Asked:
    """Questions that share most of their candidates, in no order, and the texts of these."""
    names, rng = list(texts), np.random.default_rng(0)
    groups = [
        Candidates(key=f"q{i}", passages=tuple(rng.permutation(names)[:30]), scores=(0.0,) * 30) for i in range(6)
    ]
    return [f"Which drug is given in {texts[names[i]].split()[0]}?" for i in range(6)], groups, texts


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(each_passage_once, "BLOCK_CHARACTERS", 700)


@pytest.fixture
def encoded(encoder: LateInteraction, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Fills with the passages that are encoded."""
    found: list[str] = []
    usual = encoder.encode

    def encode(some: list[str], task: Literal["query", "document"]) -> list[Tensor]:
        found.extend(some if task == "document" else ())
        return usual(some, task)

    monkeypatch.setattr(encoder, "encode", encode)
    return found


def test_scores_are_those_of_the_other_way(encoder: LateInteraction, asked: Asked, tmp_path: Path) -> None:
    plain, once = encoder.rank(*asked), EachPassageOnce(encoder, tmp_path).rank(*asked)
    assert [r.key for r in once] == [r.key for r in plain]
    for one, other in zip(plain, once, strict=True):
        by_id = dict(zip(other.passages, other.scores, strict=True))
        assert [by_id[i] for i in one.passages] == pytest.approx(one.scores, abs=1e-4)
        assert list(other.scores) == sorted(other.scores, reverse=True) and np.ptp(other.scores) > 1e-2


def test_each_passage_is_encoded_once_and_progress_is_told(
    encoder: LateInteraction, asked: Asked, encoded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kardlib.progress.SECONDS", 0.0)
    told: list[tuple[int, int]] = []
    with told_to(lambda done, total, note: told.append((done, total))):
        EachPassageOnce(encoder, tmp_path).rank(*asked)
    needed = {i for group in asked[1] for i in group.passages}
    assert sorted(encoded) == sorted(asked[2][i] for i in needed)
    assert len(told) > 3 and told == sorted(told) and told[-1] == (len(needed), len(needed))


def test_after_a_kill_one_block_is_read_again(
    encoder: LateInteraction, asked: Asked, encoded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = EachPassageOnce(encoder, tmp_path / "whole").rank(*asked)
    before, usual = len(encoded), EachPassageOnce._scores
    calls = []

    def killed(self: EachPassageOnce, *given: object) -> list[float]:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return usual(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(EachPassageOnce, "_scores", killed)
        with pytest.raises(KeyboardInterrupt):
            EachPassageOnce(encoder, tmp_path / "killed").rank(*asked)
    assert EachPassageOnce(encoder, tmp_path / "killed").rank(*asked) == whole
    assert len(encoded) == 2 * before, "the third block had not been encoded yet when it was killed"


def test_other_questions_do_not_take_the_scores_that_are_there(
    encoder: LateInteraction, asked: Asked, tmp_path: Path
) -> None:
    queries, groups, texts = asked
    EachPassageOnce(encoder, tmp_path).rank(queries, groups, texts)
    turned = EachPassageOnce(encoder, tmp_path).rank(queries[::-1], groups, texts)
    assert turned == EachPassageOnce(encoder, tmp_path / "anew").rank(queries[::-1], groups, texts)
