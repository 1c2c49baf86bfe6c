"""Training with quick dropout: what it computes is what torch computes, but for which elements are dropped."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import dropout, scaled_dot_product_attention

from kardlib import quick_training, reranker_training, training_steps
from kardlib.keys import Keys
from kardlib.presets import resolve
from kardlib.quick_training import QuickTraining
from kardlib.reranker_training import Curves

NEXT_TO_NOTHING = 1e-9
"""A probability above 0, so that the quick way is taken, at which nothing is dropped."""


def _three(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, 5, 4, generator=generator, requires_grad=True) for _ in range(3)]


def _mask(kind: str) -> Tensor | None:
    seen = torch.tensor([[True, True, True, True, True], [True, True, True, False, False]])[:, None, None, :]
    if kind == "none":
        return None
    return seen if kind == "bool" else torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)


@pytest.mark.parametrize("mask", ["none", "bool", "numbers"])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_and_its_gradients_are_torchs(mask: str, scale: float | None) -> None:
    one, other = _three(), _three()
    expected = scaled_dot_product_attention(*one, attn_mask=_mask(mask), scale=scale)
    with QuickTraining():
        found = scaled_dot_product_attention(*other, attn_mask=_mask(mask), dropout_p=NEXT_TO_NOTHING, scale=scale)
    torch.testing.assert_close(found, expected)
    expected.sin().sum().backward()
    found.sin().sum().backward()
    for left, right in zip(one, other, strict=True):
        torch.testing.assert_close(left.grad, right.grad)


def test_dropout_of_the_weights_is_right_on_average() -> None:
    query, key, value = (given.detach() for given in _three())
    expected = scaled_dot_product_attention(query, key, value)
    torch.manual_seed(0)
    with QuickTraining():
        drawn = [scaled_dot_product_attention(query, key, value, dropout_p=0.3) for _ in range(4000)]
    assert not torch.equal(drawn[0], drawn[1])
    torch.testing.assert_close(torch.stack(drawn).mean(0), expected, atol=0.08, rtol=0)


def test_a_share_of_elements_is_dropped_and_the_rest_scaled() -> None:
    torch.manual_seed(0)
    with QuickTraining():
        found = dropout(torch.ones(100_000), 0.25)
    torch.testing.assert_close(found.unique(), torch.tensor([0.0, 4 / 3]))
    assert abs((found == 0).float().mean() - 0.25) < 0.01


def test_the_same_seed_drops_the_same() -> None:
    def drawn() -> Tensor:
        torch.manual_seed(7)
        with QuickTraining():
            return dropout(torch.ones(50), 0.5) + dropout(torch.ones(50), 0.5)

    assert torch.equal(drawn(), drawn())


def test_what_has_no_dropout_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_training, "QuickDropout", None)  # calling it would fail
    given = _three()
    with QuickTraining():
        assert torch.equal(dropout(given[0], 0.5, training=False), given[0])
        scaled_dot_product_attention(*given)
        scaled_dot_product_attention(*given, dropout_p=0.5, is_causal=True)
        model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5)).eval()
        model(given[0])


def test_modules_are_reached_too() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Dropout(0.5)
    with QuickTraining():
        quick = layer(torch.ones(1000))
    torch.manual_seed(0)
    assert not torch.equal(quick, layer(torch.ones(1000))), "torch's own draws were used"


def test_only_rerankers_of_real_sets_are_trained_so() -> None:
    real, mini = Keys(resolve("laptop", dataset="openbookqa")), Keys(resolve("mini"))
    assert (real.quick_reranker, mini.quick_reranker) == (True, False)
    assert "quick" not in mini.key("reranker", seed=0)


@pytest.mark.parametrize("quick", [True, False])
def test_a_rerankers_training_goes_the_way_that_its_key_names(
    quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[float] = []

    def train(*_: object) -> Curves:
        dropout(torch.ones(4), 0.5)
        return Curves([], [])

    monkeypatch.setattr(quick_training, "QuickDropout", lambda p: lambda given: drawn.append(p) or given)
    monkeypatch.setattr(reranker_training, "train_reranker", train)
    monkeypatch.setattr(reranker_training, "training_rows", lambda *_: [])
    data = SimpleNamespace(train=[])
    experiment = SimpleNamespace(
        settings=resolve("mini"), data=data, pools=list, texts={}, search=None, quick_reranker=quick
    )
    training_steps.train_reranker_on(experiment, tmp_path, 0)
    assert drawn == ([0.5] if quick else [])
