"""RAG at test time: n passages, a hypothesis from each, and the one that is likeliest under the marginal (Table 7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from .candidates import Candidates
from .dense_retriever import DenseRetriever
from .errors import KardError
from .generate import Generator, continuations
from .methods import Method
from .prompts import marked, parse_answer, query_of, split_generation
from .rag import Encoder, Form, RagHyperparameters, rag_loss, token_logprobs
from .records import Prediction, Question
from .student import Hyperparameters

if TYPE_CHECKING:
    from .experiment import Experiment
    from .keys import Split

Decoding = Literal["thorough", "fast"]


class RagAnswer(NamedTuple):
    """What a trained RAG says to one question.

    Attributes:
        passages: the n best of the retriever, with their inner products.
        texts: the greedy hypothesis of each passage.
        values: log p(y | x) of each hypothesis, marginalised, in nats.
        text: the best of them; of equals the one of the better passage.
        chosen: the option that is likeliest to follow ``text``'s rationale, marginalised over the passages.
    """

    passages: Candidates
    texts: tuple[str, ...]
    values: tuple[float, ...]
    text: str
    chosen: int


class RagReader:
    """A trained generator and retriever, ready to answer.

    Args:
        folder: of the generator.
        n: passages that are marginalised over.
        form: as it was trained. Hypotheses are written passage by passage in both forms; it tells how they are scored.
        decoding: Lewis et al. (2020), 2.5: ``thorough`` scores each hypothesis with every passage, ``fast`` only with
            those that it was written from and counts 0 for the others.
        hyper: limits for prompts and for what is written; what it says of training is not looked at.
    """

    def __init__(
        self,
        folder: str,
        retriever: DenseRetriever,
        n: int,
        form: Form,
        hyper: Hyperparameters,
        decoding: Decoding = "thorough",
    ) -> None:
        self._writer = Generator(folder, hyper.source_tokens, hyper.target_tokens)
        self._encoder = Encoder(folder, hyper)
        self._retriever, self._n, self._form, self._decoding = retriever, n, form, decoding

    def retrieve(self, questions: Sequence[Question]) -> list[Candidates]:
        """The n best passages of each question, which alone is the query."""
        found = self._retriever.search([query_of(question) for question in questions], self._n)
        return [
            Candidates(
                key=question.id,
                passages=tuple(self._retriever.passages[hit.index].id for hit in hits),
                scores=tuple(hit.score for hit in hits),
            )
            for question, hits in zip(questions, found, strict=True)
        ]

    def predict(self, questions: Sequence[Question]) -> list[RagAnswer]:
        """Answers to questions; their gold answers are not looked at."""
        texts = {passage.id: passage.text for passage in self._retriever.passages}
        found = self.retrieve(questions)
        prompts = [
            [self._encoder.prompt(q, texts[i]) for i in c.passages] for q, c in zip(questions, found, strict=True)
        ]
        written = iter(self._writer.greedy([prompt for group in prompts for prompt in group]))
        answers = []
        for question, candidates, group in zip(questions, found, prompts, strict=True):
            hypotheses = [next(written) for _ in group]
            scores = torch.tensor(candidates.scores)
            values = self.hypothesis_values(scores, group, hypotheses)
            best = hypotheses[values.index(max(values))]
            options = self.option_values(scores, group, marked(best), question.options)
            answers.append(RagAnswer(candidates, tuple(hypotheses), tuple(values), best, options.index(max(options))))
        return answers

    @torch.inference_mode()
    def hypothesis_values(self, scores: Tensor, prompts: Sequence[str], hypotheses: Sequence[str]) -> list[float]:
        """log p(y | x) of each hypothesis, marginalised over the passages, in nats.

        Args:
            scores: inner products of the passages, shape ``(n,)``.
            prompts: of the passages, n of them.
            hypotheses: any number; under ``fast`` one for each passage.
        """
        targets = [self._encoder.ids("", text)[1] for text in hypotheses]
        logprobs, mask = self._logprobs(prompts, targets)
        if self._decoding == "fast":
            own = torch.tensor([[text == other for other in hypotheses] for text in hypotheses], device=mask.device)
            logprobs = logprobs.masked_fill(~own[:, :, None] & mask[:, None], -1e9)
        return (-rag_loss(scores.expand(len(targets), -1).to(mask.device), logprobs, mask, self._form)).tolist()

    @torch.inference_mode()
    def option_values(self, scores: Tensor, prompts: Sequence[str], begin: str, options: Sequence[str]) -> list[float]:
        """log p(option | x, begin) a token, marginalised over the passages: the kit's scored answers, under RAG.

        In RAG-Sequence what is written so far also tells which passage it comes from: the prior p(d | x) becomes
        p(d | x, begin). With one passage this is :meth:`kardlib.generate.Generator.likeliest`.

        Args:
            begin: what has been written up to the answer mark, or "".
        """
        seq2seq = bool(self._writer._model.config.is_encoder_decoder)
        given, rows = continuations(self._encoder.tokenizer, begin, options, seq2seq)
        logprobs, mask = self._logprobs(prompts, [[*given, *row] for row in rows])
        prior, shared = scores.expand(len(rows), -1).to(mask.device), len(given)
        head = mask.clone()
        head[:, shared:] = False
        whole, start = (rag_loss(prior, logprobs, part, self._form) for part in (mask, head))
        return ((start - whole) / (mask.sum(-1) - shared).clamp(min=1)).tolist()

    def _logprobs(self, prompts: Sequence[str], targets: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Log-probabilities of shape ``(targets, n, tokens)`` and the mask of shape ``(targets, tokens)``."""
        sources = [self._encoder.ids(prompt, "")[0] for prompt in prompts]
        pad = self._encoder.tokenizer.pad_token_id
        logprobs, mask = token_logprobs(self._writer._model, sources, [targets] * len(sources), pad)
        return logprobs.transpose(0, 1), mask[0]


def rag_predictions(experiment: Experiment, row: Method, seed: int, decoding: str, split: Split) -> list[Prediction]:
    """Answers of a trained RAG to all questions of a split.

    Raises:
        KardError: another decoding than greedy is asked for.
    """
    if decoding != "greedy":
        raise KardError(f"{row.name}: decoding {decoding!r} is not there; its answers are greedy")
    s, questions, folder = experiment.settings, experiment.questions(split), experiment.rag(seed)
    retriever = DenseRetriever.load(folder / "retriever", experiment.data.passages)
    reader = RagReader(str(folder / "generator"), retriever, s.k, s.rag_form, RagHyperparameters.of(s))
    answers = reader.predict(questions)
    return [_prediction(q, a, row, seed, s.answers) for q, a in zip(questions, answers, strict=True)]


def _prediction(question: Question, answer: RagAnswer, row: Method, seed: int, answers: str) -> Prediction:
    parsed = parse_answer(answer.text, question.options)
    rationale, said = split_generation(answer.text)
    return Prediction(
        question_id=question.id, method=row.name, seed=seed, decoding="greedy", rationale=rationale, answer=said,
        parsed=parsed, chosen=answer.chosen if answers == "scored" else parsed, gold=question.gold,
        passages=answer.passages.passages,
    )  # fmt: skip
