"""A batch that does not fit is taken in halves; another error is not taken for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps

import pytest
import torch

from kardlib import option_scores
from kardlib.errors import KardError
from kardlib.generate import Generator
from kardlib.halves import in_halves


@pytest.mark.parametrize("room", [1, 2, 3, 7, 20])
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_what_comes_out_is_the_same(room: int, error: RuntimeError) -> None:
    lines: list[str] = []

    def work(batch: Sequence[int]) -> list[int]:
        if len(batch) > room:
            raise error
        return [10 * i for i in batch]

    assert in_halves(work, range(11), lines.append) == [10 * i for i in range(11)]
    assert bool(lines) == (room < 11) and all("\n" not in line for line in lines)


def test_one_alone_that_does_not_fit_and_other_errors() -> None:
    def fails(batch: Sequence[int]) -> list[int]:
        raise torch.OutOfMemoryError

    with pytest.raises(KardError, match="out of memory with one prompt"):
        in_halves(fails, range(5), lambda line: None)

    def other(batch: Sequence[int]) -> list[int]:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        in_halves(other, range(5))


def test_greedy_texts_and_scores_do_not_depend_on_it(
    tiny_t5: str, tiny_opt: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = [f"Question: {'bordema ' * n}fits?" for n in range(6)]
    for folder in (tiny_t5, tiny_opt):
        usual, tight = Generator(folder, 128, 6), Generator(folder, 128, 6)
        real = tight._model.forward

        @wraps(real)  # generate looks at its signature
        def forward(*given: object, real: object = real, **options: object) -> object:
            rows = [options.get(name) for name in ("input_ids", "decoder_input_ids")]
            if any(isinstance(ids, torch.Tensor) and len(ids) > 3 for ids in rows):
                raise torch.OutOfMemoryError
            return real(*given, **options)  # type: ignore[operator]

        monkeypatch.setattr(tight._model, "forward", forward)
        options = [["one", "two of them", "three"]] * 6
        for ask in ("likeliest", "greedy"):
            given = (prompts, [""] * 6, options) if ask == "likeliest" else (prompts,)
            assert getattr(tight, ask)(*given) == getattr(usual, ask)(*given)
            assert "out of memory with 6 prompts at a time; on with 3" in capsys.readouterr().out


def test_options_in_parts_have_the_same_likelihoods(tiny_opt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, prompts = Generator(tiny_opt, 128, 6), [f"Question: {'bordema ' * n}fits?" for n in range(5)]
    options = [["one", "two of them", "three"], ["four", "five"]] * 2 + [["six", "seven"]]
    whole = generator.likeliest(prompts, ["It is"] * 5, options)
    monkeypatch.setattr(option_scores, "LOGITS", 1)
    assert generator.likeliest(prompts, ["It is"] * 5, options) == whole
