"""Temperatures: what Q looks like, what is wrong with it, and that the advice mends it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kardlib.candidates import Candidates
from kardlib.errors import KardError
from kardlib.reranker_losses import eq3_loss
from kardlib.temperatures import matched_tau2, sharpness, softmax, tau_for, temperature_warnings


def pool(*scores: float, key: str = "q#0") -> Candidates:
    return Candidates(key=key, passages=tuple(f"p{i}" for i in range(len(scores))), scores=scores)


@pytest.fixture
def pools() -> list[Candidates]:
    """Scores as BM25 gives them to long rationales: a few high ones, a tail."""
    rng = np.random.default_rng(0)
    return [pool(*sorted((60 * rng.beta(1, 4, 30)).tolist(), reverse=True), key=f"q{i}#0") for i in range(9)]


def test_q_is_the_softmax_of_eq3() -> None:
    scores = (9.0, 7.5, 1.0, 0.0)
    q = torch.tensor(softmax(scores, 2.0)).log()[None]
    assert eq3_loss(torch.tensor([scores]).double() / 2.0, q, 1.0, 1.0).item() == pytest.approx(0, abs=1e-9)


def test_entropy_and_counted_by_hand() -> None:
    even = sharpness([pool(1.0, 1.0, 1.0, 1.0)], 0.5)
    assert even.counted == pytest.approx(4) and even.spread == 0 and even.lost == 0
    q = [math.e**2 / (math.e**2 + 1), 1 / (math.e**2 + 1)]
    assert sharpness([pool(4.0, 0.0)], 2.0).entropy == pytest.approx(-sum(x * math.log(x) for x in q))


def test_what_float32_loses_is_what_the_loss_loses() -> None:
    scores = (300.0, 250.0, 190.0, 120.0, 0.0)
    for tau in (1.0, 1.3, 3.0):
        zeros = (torch.softmax(torch.tensor(scores) / tau, -1) == 0).float().mean().item()
        assert sharpness([pool(*scores)], tau).lost == pytest.approx(zeros)
    assert sharpness([pool(*scores)], 1.0).lost > 0 == sharpness([pool(*scores)], 10.0).lost


@pytest.mark.parametrize("counted", [1.5, 3.0, 12.0])
def test_a_temperature_for_so_many_passages(pools: list[Candidates], counted: float) -> None:
    assert sharpness(pools, tau_for(pools, counted)).counted == pytest.approx(counted, rel=0.03)


@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e4])
def test_the_advice_goes_with_the_scale_of_the_scores(pools: list[Candidates], factor: float) -> None:
    scaled = [pool(*(factor * s for s in p.scores), key=p.key) for p in pools]
    assert tau_for(scaled) == pytest.approx(factor * tau_for(pools), rel=0.02)


@pytest.mark.parametrize(
    "tau1, words", [(0.02, ("one-hot", "drop out", "raise")), (0.1, ("one-hot", "raise")), (500.0, ("flat",))]
)
def test_a_bad_tau1_is_told_with_one_that_is_none(pools: list[Candidates], tau1: float, words: tuple[str, ...]) -> None:
    (told,) = temperature_warnings(pools, tau1)
    assert all(word in told for word in words) and "\n" not in told and f"tau1 = {tau1:g}" in told
    advised = float(told.split("about " if "about" in told else "; at ")[1].split(",")[0])
    assert not temperature_warnings(pools, advised)
    assert sharpness(pools, advised).counted == pytest.approx(3, rel=0.1)


def test_underflow_without_one_passage_that_has_all() -> None:
    twins = [pool(90.0, 90.0, 90.0, 0.0, 0.0)]
    (told,) = temperature_warnings(twins, 0.8)
    assert "underflows" in told and "one-hot" not in told


def test_fitting_temperatures_are_silent(pools: list[Candidates]) -> None:
    fits = tau_for(pools)
    assert temperature_warnings(pools, fits) == []
    assert temperature_warnings(pools, fits, pools, fits) == []


def test_tau2_is_looked_at_with_the_rerankers_own_scores(pools: list[Candidates]) -> None:
    ranked = [pool(*(0.01 * s + 20 for s in p.scores), key=p.key) for p in pools]
    told = temperature_warnings(pools, tau_for(pools), ranked, 50.0)
    assert len(told) == 1 and "tau2 = 50" in told[0] and "P is flat" in told[0] and "tau1" not in told[0]
    assert temperature_warnings(pools, tau_for(pools), ranked) == [], "without tau2 there is nothing to say"


def test_matched_temperatures_let_p_become_q(pools: list[Candidates]) -> None:
    ranked = [pool(*(0.2 * s + 3 for s in p.scores), key=p.key) for p in pools]
    tau2 = matched_tau2(pools, ranked, 4.0)
    for one, other in zip(pools, ranked, strict=True):
        loss = eq3_loss(torch.tensor([one.scores]).double(), torch.tensor([other.scores]).double(), 4.0, tau2)
        assert loss.item() == pytest.approx(0, abs=1e-9)


def test_what_no_temperature_can_mend_is_one_line() -> None:
    with pytest.raises(KardError, match="do not differ"):
        tau_for([pool(1.0, 1.0, 1.0, 1.0)])
    with pytest.raises(KardError, match="3 passages"):
        tau_for([pool(2.0, 1.0)])
    with pytest.raises(KardError, match="two candidates"):
        sharpness([pool(2.0)], 1.0)
    for tau in (0.0, -1.0, float("nan")):
        with pytest.raises(KardError, match="above 0"):
            sharpness([pool(2.0, 1.0)], tau)
    (told,) = temperature_warnings([pool(2.0, 1.0)], 0.001)
    assert "tau1 = 0.001" in told and "no temperature makes 3 passages" in told
