"""T5 students through CTranslate2, where it writes what transformers writes.

Before an export is used, both write greedily for some of the prompts that are asked, and both tell how likely they
find what was written: the same texts alone would not show that samples come from the same distribution. Where they
differ, one line says so and transformers writes. Options are scored by transformers in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from .ctranslate2_export import exported, require_package
from .decoding import TEMPERATURE, TOP_K, TOP_P
from .errors import KardError
from .generate import Generator

CHECKED = 12
"""Prompts that both write for, from the shortest to the longest."""
TOLERANCE = 1e-3
"""Mean log-likelihoods of a text, in nats per token, that float32 noise may set apart."""


class CTranslate2Generator(Generator):
    """A T5 student ready to write. Greedy texts are those of :class:`kardlib.generate.Generator`.

    Samples come from the same distribution and are the same for the same seed, batch size and number of threads; they
    are others than those of transformers, which draws its random numbers in another way.

    Args:
        folder, source_tokens, target_tokens, batch: as there.
        root: of the artefacts, for the export.
        tell: is given the line that says why transformers writes.

    Raises:
        KardError: the package is not installed.
    """

    def __init__(
        self,
        folder: str,
        source_tokens: int,
        target_tokens: int,
        batch: int = 64,
        root: Path | None = None,
        tell: Callable[[str], None] = print,
    ) -> None:
        require_package()
        super().__init__(folder, source_tokens, target_tokens, batch)
        self._folder, self._root, self._tell = folder, root, tell
        self._export: Path | None = None
        self._translator: Any = None
        self._decided = False

    def _write(
        self, prompts: Sequence[str], forced: Sequence[str] | None, count: int, seed: int | None
    ) -> list[list[str]]:
        if prompts and not self._decided:
            self._decide(prompts, forced)
        return super()._write(prompts, forced, count, seed)

    def _decide(self, prompts: Sequence[str], forced: Sequence[str] | None) -> None:
        """Open the export, and close it again where it does not write what transformers writes."""
        self._decided = True
        try:
            if not self._seq2seq:
                raise KardError("it is no encoder-decoder")
            self._export = exported(self._folder, self._root)
            self._check(prompts, forced)
        except (KardError, RuntimeError, ValueError) as error:
            self._export = self._translator = None
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            self._tell(f"engine ctranslate2: {Path(self._folder).name}: transformers writes instead ({reason})")

    def _check(self, prompts: Sequence[str], forced: Sequence[str] | None) -> None:
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
        chosen = sorted({order[i * (len(order) - 1) // max(1, CHECKED - 1)] for i in range(CHECKED)})
        asked, begins = [prompts[i] for i in chosen], [forced[i] for i in chosen] if forced else None
        ours = [texts[0] for texts in super()._write(asked, begins, 1, None)]
        self._translator = self._opened()
        theirs = [texts[0] for texts in super()._write(asked, begins, 1, None)]
        different = sum(a != b for a, b in zip(ours, theirs, strict=True))
        if different:
            raise KardError(f"{different} of {len(asked)} greedy texts differ")
        gap = self._likelihood_gap(asked, ours)
        if gap > TOLERANCE:
            raise KardError(f"the same text is more likely to one of them, by up to {gap:.3f} nats a token")

    def _likelihood_gap(self, prompts: list[str], texts: list[str]) -> float:
        """Largest difference in the mean log-likelihood of a text, in nats per token."""
        rows = self._encoded(prompts)
        written = [self.tokenizer(text or " ").input_ids[: self._target_tokens] for text in texts]
        ours = self._seq2seq_scores(rows, [([], [ids]) for ids in written])
        found = self._translator.score_batch(
            [self._tokens(row) for row in rows], [self._tokens(ids) for ids in written], max_input_length=0
        )
        theirs = [sum(result.log_probs[: len(ids)]) / len(ids) for result, ids in zip(found, written, strict=True)]
        return max(abs(one[0] - other) for one, other in zip(ours, theirs, strict=True))

    def _opened(self) -> Any:
        import ctranslate2

        return ctranslate2.Translator(
            str(self._export),
            device=self._model.device.type,
            compute_type="float32",
            inter_threads=1,  # samples depend on the seed alone where one thread draws them
            intra_threads=torch.get_num_threads(),
        )

    def _start_from(self, seed: int) -> None:
        super()._start_from(seed)
        if self._translator is not None:
            import ctranslate2

            ctranslate2.set_random_seed(seed)  # for threads that are still to begin
            self._translator = self._opened()

    def _tokens(self, ids: list[int]) -> list[str]:
        return self.tokenizer.convert_ids_to_tokens(ids)

    def _batch_write(
        self, rows: list[list[int]], starts: list[list[int]] | None, count: int, sampled: bool
    ) -> list[str]:
        if self._translator is None:
            return super()._batch_write(rows, starts, count, sampled)
        sampling = {"sampling_topk": TOP_K, "sampling_topp": TOP_P, "sampling_temperature": TEMPERATURE}
        found = self._translator.translate_batch(
            [self._tokens(row) for row in rows],
            target_prefix=[self._tokens(start) for start in starts] if starts else None,
            beam_size=1,
            num_hypotheses=count,
            max_input_length=0,
            max_decoding_length=self._target_tokens + (len(starts[0]) if starts else 0),
            **(sampling if sampled else {}),
        )
        ids = []
        for result in found:  # they come sorted by likelihood, which "the first" of a vote must not depend on
            order = torch.randperm(len(result.hypotheses)).tolist() if sampled else range(1)
            ids += [self.tokenizer.convert_tokens_to_ids(result.hypotheses[i]) for i in order]
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]
