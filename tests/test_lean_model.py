"""Modules that replace slower ones compute what these do, and leave no trace in what is saved."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from kardlib import quick_attention
from kardlib.lean_model import lean
from kardlib.quick_dropout import QuickDropout, random_bits

SHAPE = dict(
    vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu",
    tie_word_embeddings=False, decoder_start_token_id=0,
)  # fmt: skip


def a_model(dropout: float) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    return T5ForConditionalGeneration(T5Config(**SHAPE, dropout_rate=dropout))


def a_batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(2, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 9, [1] * 6 + [0] * 3, [1] * 2 + [0] * 7])
    return {"input_ids": ids, "attention_mask": mask, "labels": ids[:, :5].contiguous()}


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_function_and_its_gradients_stay(dropout: float) -> None:
    """Loss and gradients in evaluation mode, with the attention that is put in for dropout and without it."""
    one = a_model(dropout)
    other = lean(copy.deepcopy(one))
    losses = [model.eval()(**a_batch()).loss for model in (one, other)]
    for loss in losses:
        loss.backward()
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-5)
    pairs = list(zip(one.named_parameters(), other.parameters(), strict=True))
    assert all(torch.allclose(a.grad, b.grad, atol=1e-5, rtol=1e-4) for (_, a), b in pairs)
    assert sum(isinstance(module, QuickDropout) for module in other.modules()) > 10
    assert not any(type(module) is torch.nn.Dropout for module in other.modules())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("weights", [1, 250, 10**6])
def test_attention_in_parts_is_attention(weights: int, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the formula written out, with the gradient of everything but the mask; the last part is a shorter one."""
    monkeypatch.setattr(quick_attention, "_WEIGHTS", weights)
    torch.manual_seed(0)
    q, k, v = (torch.randn(5, 3, n, 4, requires_grad=True) for n in (6, 7, 7))
    bias = torch.randn(1, 3, 6, 7, requires_grad=True)
    mask = torch.where(torch.rand(5, 1, 1, 7) < 0.3, -1e9, 0.0) if masked else None
    wanted = ((q @ k.transpose(2, 3) + bias + (0 if mask is None else mask)).softmax(-1) @ v).transpose(1, 2)
    found, _ = quick_attention.attention(torch.nn.Module(), q, k, v, mask, 0.0, 1.0, bias)
    assert torch.allclose(found, wanted, atol=1e-6)
    of = torch.randn_like(wanted)
    for a, b in zip(*(torch.autograd.grad((out * of).sum(), (q, k, v, bias)) for out in (found, wanted)), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_dropped_weights_pass_no_gradient_on() -> None:
    """With values of one each, an output is the share of weight that was kept, and so is the gradient of a value."""
    torch.manual_seed(0)
    q, k = (torch.randn(2, 2, 40, 4, requires_grad=True) for _ in range(2))
    v = torch.ones(2, 2, 40, 1, requires_grad=True)
    module = torch.nn.Module().train()
    out, _ = quick_attention.attention(module, q, k, v, None, 0.25, 1.0, None)
    assert not torch.allclose(out, torch.ones_like(out)) and float(out.mean()) == pytest.approx(1, abs=0.05)
    out.sum().backward()
    assert float(v.grad.sum()) == pytest.approx(float(out.sum()), rel=1e-5)
    out, _ = quick_attention.attention(module.eval(), q, k, v, None, 0.25, 1.0, None)
    assert torch.allclose(out, torch.ones_like(out), atol=1e-6)


def test_training_with_dropout_has_the_same_mean_and_spread() -> None:
    """Losses of many draws: as with torch's own dropout, within four standard errors."""
    one = a_model(0.2)
    other, batch, draws = lean(copy.deepcopy(one)), a_batch(), 150
    with torch.no_grad():
        seen = [torch.tensor([float(m.train()(**batch).loss) for _ in range(draws)]) for m in (one, other)]
    error = math.sqrt(sum(float(losses.var()) for losses in seen) / draws)
    assert abs(float(seen[0].mean() - seen[1].mean())) < 4 * error
    assert 0.7 < float(seen[0].std() / seen[1].std()) < 1.4 and float(seen[1].std()) > 0


@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
def test_dropout_drops_so_many_and_scales_the_rest(p: float) -> None:
    torch.manual_seed(0)
    given = torch.ones(1000, 100, requires_grad=True)
    out = QuickDropout(p)(given)
    out.backward(torch.full_like(out, 3.0))
    kept = out != 0
    assert abs(float(kept.float().mean()) - (1 - p)) < 5 * math.sqrt(p * (1 - p) / given.numel()) + 2**-16
    assert torch.equal(given.grad, 3 * out)
    assert out[kept].tolist() == pytest.approx([1 / (1 - p or 1)] * int(kept.sum()), rel=1e-4)
    dropout = QuickDropout(p).eval()
    assert dropout(given) is given


def test_bits_are_even_and_follow_the_seed() -> None:
    torch.manual_seed(3)
    bits = random_bits(200_001)
    torch.manual_seed(3)
    assert torch.equal(bits, random_bits(200_001)) and not torch.equal(bits, random_bits(200_001))
    counts = torch.bincount((bits.long() + 2**15) >> 11, minlength=32)
    assert len(bits) == 200_001 and counts.min() > 5700 and counts.max() < 6800, "6,250 each, but for chance"
    for one in range(4):  # the four numbers of a draw
        assert abs(float(bits[one::4].float().mean())) < 5 * 2**16 / math.sqrt(12 * 50_000)


def test_what_is_saved_is_a_plain_model(tmp_path: Path) -> None:
    one = a_model(0.1)
    one.save_pretrained(tmp_path / "plain")
    lean(one).save_pretrained(tmp_path / "lean")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "lean" / name).read_bytes()
    loaded = T5ForConditionalGeneration.from_pretrained(tmp_path / "lean")
    assert any(type(module) is torch.nn.Dropout for module in loaded.modules())
