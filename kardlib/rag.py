"""RAG + Reasoning Distillation (Table 7): retriever and generator trained jointly on rationale targets.

The query is the question, in training as at test time, and no rationale ever searches: that is what sets this baseline
apart from KARD. Each passage stands in a prompt of its own, and the target's probability is marginalised over them.
transformers' RAG classes stay unused: they take no causal generator, fail on a T5 whose configuration names no start
token, and want their own index; the tests compare this module's loss with theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, set_seed

from .dense_retriever import DenseRetriever
from .errors import KardError
from .lean_model import lean
from .models import is_encoder_decoder, load_student, load_tokenizer, train_in_bf16
from .padding import mask_of, pad_rows
from .presets import Settings
from .prompts import Pair, build_prompt, query_of
from .records import Question
from .student import (
    Hyperparameters,
    SaveByTime,
    TellProgress,
    encode_causal,
    encode_seq2seq,
    epoch_orders,
    last_whole_checkpoint,
    training_arguments,
)

Form = Literal["sequence", "token"]
WEIGHTS = "rag.safetensors"


@dataclass(frozen=True)
class RagHyperparameters(Hyperparameters):
    """Of joint training; ``lr`` is the generator's.

    Attributes:
        n: passages that are marginalised over.
        form: ``sequence``, one passage explains a whole target, or ``token``, each token may have its own.
        retriever_lr: of the query encoder; constant as well.
    """

    n: int
    form: Form
    retriever_lr: float

    @classmethod
    def of(cls, settings: Settings) -> RagHyperparameters:
        """Those of the settings; the generator has the student's."""
        own = asdict(Hyperparameters.of(settings))
        return cls(**own, n=settings.k, form=settings.rag_form, retriever_lr=settings.retriever_lr)


def rag_loss(passage_scores: Tensor, token_logprobs: Tensor, target_mask: Tensor, form: Form) -> Tensor:
    """-log p(y | x) of each target, marginalised over its passages, with p(d | x) = softmax of the scores.

    RAG-Sequence: -log sum_d p(d | x) prod_t p(y_t | x, d, y_<t).
    RAG-Token: -sum_t log sum_d p(d | x) p(y_t | x, d, y_<t).

    Args:
        passage_scores: inner products, shape ``(batch, n)``.
        token_logprobs: log p(y_t | x, d, y_<t) in nats, shape ``(batch, n, tokens)``; at padding anything.
        target_mask: True at target tokens, shape ``(batch, tokens)``.

    Returns:
        Nats, shape ``(batch,)``.
    """
    log_prior = torch.log_softmax(passage_scores.float(), dim=-1)
    logprobs = token_logprobs.float().masked_fill(~target_mask[:, None, :], 0.0)
    if form == "sequence":
        return -torch.logsumexp(log_prior + logprobs.sum(-1), dim=-1)
    if form == "token":
        each = torch.logsumexp(log_prior[:, :, None] + logprobs, dim=1)
        return -each.masked_fill(~target_mask, 0.0).sum(-1)
    raise KardError(f"form {form!r}: there are sequence and token")


def token_logprobs(
    model: Any, sources: Sequence[list[int]], targets: Sequence[Sequence[list[int]]], pad: int
) -> tuple[Tensor, Tensor]:
    """log p(y_t | source, y_<t) of every token of every target of every source; a T5 reads each source once.

    Args:
        sources: token ids of S prompts.
        targets: M rows of token ids for each source.

    Returns:
        Log-probabilities in nats, 0 at padding, and the mask of target tokens; both of shape ``(S, M, tokens)``.
    """
    flat, many = [row for rows in targets for row in rows], len(targets[0])
    labels = pad_rows(flat, -100, left=False).to(model.device)
    logits = (_seq2seq_logits if model.config.is_encoder_decoder else _causal_logits)(model, sources, flat, labels, pad)
    each = -nn.functional.cross_entropy(logits.float().transpose(1, 2), labels, reduction="none", ignore_index=-100)
    shape = len(sources), many, labels.shape[1]
    return each.reshape(shape), (labels >= 0).reshape(shape)


def _seq2seq_logits(
    model: Any, sources: Sequence[list[int]], flat: Sequence[list[int]], labels: Tensor, pad: int
) -> Tensor:
    inputs, mask = _padded(sources, pad, model.device)
    hidden, many = (
        model.get_encoder()(input_ids=inputs, attention_mask=mask).last_hidden_state,
        len(flat) // len(sources),
    )
    return model(
        encoder_outputs=(hidden.repeat_interleave(many, 0),),
        attention_mask=mask.repeat_interleave(many, 0),
        decoder_input_ids=model.prepare_decoder_input_ids_from_labels(labels),
    ).logits


def _causal_logits(
    model: Any, sources: Sequence[list[int]], flat: Sequence[list[int]], labels: Tensor, pad: int
) -> Tensor:
    many = len(flat) // len(sources)
    rows = [[*sources[i // many], *target] for i, target in enumerate(flat)]
    inputs, mask = _padded(rows, pad, model.device)
    logits = model(input_ids=inputs, attention_mask=mask).logits
    first = torch.tensor([len(sources[i // many]) - 1 for i in range(len(flat))], device=model.device)
    places = (first[:, None] + torch.arange(labels.shape[1], device=model.device)).clamp(max=inputs.shape[1] - 1)
    return logits.gather(1, places[:, :, None].expand(-1, -1, logits.shape[-1]))


def _padded(rows: Sequence[list[int]], pad: int, where: torch.device) -> tuple[Tensor, Tensor]:
    return pad_rows(rows, pad, left=False).to(where), mask_of(rows).to(where)


class Encoder:
    """Prompts of one passage and targets as token ids, the way that students are trained on them.

    Args:
        folder: of the generator.
    """

    def __init__(self, folder: str, hyper: Hyperparameters) -> None:
        self.tokenizer = load_tokenizer(folder)
        self._hyper = hyper
        self._encode = encode_seq2seq if is_encoder_decoder(folder) else encode_causal
        self._prompts: dict[tuple[str, str], str] = {}

    def count(self, text: str) -> int:
        """Tokens of a text, for the prompt builder."""
        return len(self.tokenizer.tokenize(text))

    def prompt(self, question: Question, passage: str) -> str:
        """The prompt with one passage, cut to fit; remembered, since training asks for it again and again."""
        key = question.id, passage
        if key not in self._prompts:
            room = self._hyper.source_tokens
            self._prompts[key] = build_prompt(question, [passage], count=self.count, max_tokens=room)
        return self._prompts[key]

    def ids(self, prompt: str, target: str) -> tuple[list[int], list[int]]:
        """Token ids of a prompt and of a target with its end."""
        row = self._encode(self.tokenizer, Pair(prompt, target), self._hyper)
        labels = [label for label in row["labels"] if label != -100]
        return row["input_ids"] if self._encode is encode_seq2seq else row["input_ids"][: -len(labels)], labels


class Rag(nn.Module):
    """Query encoder and generator: the weights that are trained. Passage vectors are constants.

    Args:
        generator: name or folder of a seq2seq or causal model.
        items: questions, each with a target to learn; ``forward`` names them by place.
    """

    def __init__(
        self,
        generator: str,
        retriever: DenseRetriever,
        items: Sequence[tuple[Question, str]],
        hyper: RagHyperparameters,
    ) -> None:
        super().__init__()
        self.generator = lean(load_student(generator))
        self.query_encoder = retriever.query_encoder
        self._retriever, self._items, self._hyper = retriever, items, hyper
        self.encoder = Encoder(generator, hyper)

    def forward(self, places: Tensor) -> dict[str, Tensor]:
        """The loss of some items: nats a target token, as for students, so that a learning rate means the same.

        Args:
            places: of the items, shape ``(batch,)``.
        """
        items = [self._items[i] for i in places.tolist()]
        scores, passages = self.retrieve([question for question, _ in items])
        rows = [
            self.encoder.ids(self.encoder.prompt(question, text), target)
            for (question, target), texts in zip(items, passages, strict=True)
            for text in texts
        ]
        pad = self.encoder.tokenizer.pad_token_id
        logprobs, mask = token_logprobs(self.generator, [s for s, _ in rows], [[t] for _, t in rows], pad)
        logprobs, mask = (part.reshape(len(items), -1, part.shape[-1]) for part in (logprobs, mask))
        losses = rag_loss(scores, logprobs, mask[:, 0], self._hyper.form)
        return {"loss": losses.sum() / mask[:, 0].sum()}

    def retrieve(self, questions: Sequence[Question]) -> tuple[Tensor, list[list[str]]]:
        """Inner products, shape ``(batch, n)``, with their gradient, and texts of the n best passages as of now."""
        vectors = self._retriever.query_vectors([query_of(question) for question in questions])
        hits = self._retriever.nearest(vectors, self._hyper.n)
        scores = self._retriever.scores(vectors, hits)
        return scores, [[self._retriever.passages[hit.index].text for hit in row] for row in hits]


class _RagTrainer(Trainer):
    """Checkpoints of a model that is no PreTrainedModel and ties weights, as T5 does."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self.model, str(folder / WEIGHTS))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_model(model or self.model, str(Path(resume_from_checkpoint) / WEIGHTS))


def train_rag(
    generator: str,
    retriever: DenseRetriever,
    items: Sequence[tuple[Question, str]],
    hyper: RagHyperparameters,
    seed: int,
    out: Path,
    work: Path,
) -> list[dict[str, float]]:
    """Train the query encoder and the generator jointly; passages are searched anew at each step.

    Args:
        generator: name or folder of the base model.
        retriever: where the query encoder starts; it is trained in place.
        items: training questions with what to write, from :func:`kardlib.prompts.build_target`.
        seed: of the order of the items.
        out: folder for ``generator``, which plain transformers loads, and ``retriever``.
        work: folder for checkpoints; a killed training goes on from there to the same weights.

    Returns:
        The loss curve: rows with ``step`` and ``loss`` (nats a target token).
    """
    if not items:
        raise KardError("RAG: there is no question to train on")
    set_seed(seed)
    model = Rag(generator, retriever, items, hyper)
    arguments = training_arguments(hyper, seed, work, train_in_bf16(model))
    arguments.logging_steps = 1  # a mean that the trainer has begun would be lost with a kill
    lengths = [model.encoder.count(query_of(question)) + model.encoder.count(target) for question, target in items]
    trainer = _RagTrainer(
        model=model,
        args=arguments,
        train_dataset=epoch_orders(lengths, hyper, seed),
        data_collator=lambda places: {"places": torch.tensor(places)},
        optimizers=(_optimizer(model, hyper), None),
        callbacks=[SaveByTime(), TellProgress()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_whole_checkpoint(work))
    model.generator.save_pretrained(out / "generator")
    model.encoder.tokenizer.save_pretrained(out / "generator")
    retriever.save(out / "retriever")
    return _curve([row["loss"] for row in trainer.state.log_history if "loss" in row])


def _curve(losses: Sequence[float], every: int = 10) -> list[dict[str, float]]:
    """Means over ten steps each, from the loss of every step."""
    ends = range(every, len(losses) + 1, every)
    return [{"step": end, "loss": sum(losses[end - every : end]) / every} for end in ends]


def _optimizer(model: Rag, hyper: RagHyperparameters) -> torch.optim.Optimizer:
    """AdamW without weight decay, as students are trained, with a learning rate for each half."""
    halves = ((model.generator, hyper.lr), (model.query_encoder, hyper.retriever_lr))
    return torch.optim.AdamW([{"params": list(part.parameters()), "lr": lr} for part, lr in halves], weight_decay=0.0)
