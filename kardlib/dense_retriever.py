"""The dense retriever of the RAG baseline, after DPR: p(d | x) grows with the inner product of two encoders' vectors.

Passage vectors are computed once and stay as they are; only the query encoder learns with the generator. Search is
exact: one product with all passage vectors, which for some thousand passages costs less than an index would.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors import safe_open
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Pooling
from sentence_transformers.util import dot_score
from torch import Tensor
from transformers import PrinterCallback, set_seed

from .bm25 import Hit, Searcher, rank
from .errors import KardError
from .models import _guard, device, train_in_bf16
from .prompts import query_of
from .records import Passage, Question
from .store import fingerprint
from .student import SaveByTime, TellProgress, last_whole_checkpoint, on_one_gpu

TOKENS = 256
QUERY, PASSAGES, VECTORS = "query", "passages", "vectors.safetensors"
MARK = "kard_encoder.txt"
"""Marks a folder as this module's: a published sentence encoder may pool or normalise in another way."""


def load_encoder(folder: str) -> SentenceTransformer:
    """A trained encoder, or a fresh one on the backbone in ``folder``: the mean of its token vectors, not normalised.

    The mean and not DPR's first token: nothing has trained the first token of a masked language model to stand for
    its text, so that what it starts from would be noise. The inner product is DPR's, unscaled.
    """
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)

    def load(path: str) -> SentenceTransformer:
        if (Path(path) / "modules.json").exists() and (Path(path) / MARK).exists():
            return _plain(SentenceTransformer(path, device=str(device()), similarity_fn_name="dot"))
        options = {"use_safetensors": True, "dtype": torch.float32}
        body = Transformer(path, max_seq_length=TOKENS, model_kwargs=options)
        pooling = Pooling(body.get_embedding_dimension(), "mean")
        return _plain(SentenceTransformer(modules=[body, pooling], device=str(device()), similarity_fn_name="dot"))

    return _guard(folder, load)


def _plain(encoder: SentenceTransformer) -> SentenceTransformer:
    """Without BERT's pooler, which the mean passes by: its weights are drawn at random where a folder has none."""
    if getattr(encoder[0].auto_model, "pooler", None) is not None:
        encoder[0].auto_model.pooler = None
    return encoder


def save_encoder(encoder: SentenceTransformer, folder: Path) -> None:
    """Write one encoder where :func:`load_encoder` finds it."""
    encoder.save_pretrained(str(folder), create_model_card=False)
    (folder / MARK).write_text("mean of token vectors, inner product\n", encoding="utf-8")


class DenseRetriever:
    """Two encoders that start from the same base, and the fixed vectors of a knowledge base.

    Args:
        query_encoder, passage_encoder: see :func:`load_encoder`; the second is frozen here.
        passages: the knowledge base; kept sorted by id, which is what breaks ties.
        vectors: of the sorted passages, shape ``(passages, width)``; None computes them.
    """

    def __init__(
        self,
        query_encoder: SentenceTransformer,
        passage_encoder: SentenceTransformer,
        passages: Sequence[Passage],
        vectors: Tensor | None = None,
    ) -> None:
        if not passages:
            raise KardError("the knowledge base is empty")
        self.passages = sorted(passages, key=lambda passage: passage.id)
        self.query_encoder = query_encoder
        self.passage_encoder = passage_encoder.requires_grad_(False).eval()
        made = self._passage_vectors() if vectors is None else vectors
        self.vectors = made.to(device(), torch.float32)

    @classmethod
    def fresh(cls, encoder: str, passages: Sequence[Passage]) -> DenseRetriever:
        """Both encoders as they are in ``encoder``: the name of a base encoder, or a folder of :func:`warm_up`."""
        inside = (Path(encoder) / QUERY).is_dir()
        folders = [str(Path(encoder) / side) if inside else encoder for side in (QUERY, PASSAGES)]
        return cls(load_encoder(folders[0]), load_encoder(folders[1]), passages)

    @classmethod
    def load(cls, folder: Path, passages: Sequence[Passage]) -> DenseRetriever:
        """A saved retriever.

        Raises:
            KardError: it cannot be read, or it was made for another knowledge base.
        """
        file = Path(folder) / VECTORS

        def read(path: str) -> tuple[str, Tensor]:
            with safe_open(file, "pt") as stored:
                return (stored.metadata() or {}).get("passages", ""), stored.get_tensor("vectors")

        made_for, vectors = _guard(str(folder), read)
        if made_for != _fingerprint(passages):
            raise KardError(f"retriever {folder}: its vectors are those of another knowledge base")
        encoders = [load_encoder(str(Path(folder) / side)) for side in (QUERY, PASSAGES)]
        return cls(encoders[0], encoders[1], passages, vectors)

    def save(self, folder: Path) -> None:
        """Write both encoders and the vectors, with a fingerprint of the passages that they belong to."""
        for side, encoder in ((QUERY, self.query_encoder), (PASSAGES, self.passage_encoder)):
            save_encoder(encoder, Path(folder) / side)
        save_file(
            {"vectors": self.vectors.cpu().contiguous()},
            Path(folder) / VECTORS,
            {"passages": _fingerprint(self.passages)},
        )

    def _passage_vectors(self) -> Tensor:
        texts = [passage.text for passage in self.passages]
        made = self.passage_encoder.encode(texts, batch_size=128, show_progress_bar=False, convert_to_tensor=True)
        return made.clone()  # out of inference mode, so that a loss may multiply by it

    def query_vectors(self, queries: Sequence[str]) -> Tensor:
        """Vectors of queries, shape ``(queries, width)``, with their gradient."""
        features = self.query_encoder.preprocess(list(queries))
        on_device = {n: f.to(self.vectors.device) if isinstance(f, Tensor) else f for n, f in features.items()}
        return self.query_encoder(on_device)["sentence_embedding"]

    def nearest(self, vectors: Tensor, k: int) -> list[list[Hit]]:
        """The k passages of largest inner product with each query vector, best first; ties by passage id."""
        if k < 1:
            raise KardError(f"k = {k}: at least one passage must be asked for")
        with torch.autocast(self.vectors.device.type, enabled=False):  # bfloat16 would make ties
            scores = vectors.detach().float() @ self.vectors.T
        return [rank(row, k) for row in scores.cpu().numpy()]

    def scores(self, vectors: Tensor, found: Sequence[Sequence[Hit]]) -> Tensor:
        """Inner products of query vectors with the passages found for them, shape ``(queries, k)``, with gradient."""
        places = torch.tensor([[hit.index for hit in hits] for hits in found], device=self.vectors.device)
        with torch.autocast(self.vectors.device.type, enabled=False):
            return torch.einsum("qw,qkw->qk", vectors.float(), self.vectors[places])

    @torch.no_grad()
    def search(self, queries: Sequence[str], k: int, batch: int = 128) -> list[list[Hit]]:
        """The k best passages of each query, their places in ``passages`` and their inner products.

        Args:
            k: above the number of passages gets them all.
            batch: queries at a time, in order of length.
        """
        self.query_encoder.eval()
        order = sorted(range(len(queries)), key=lambda i: (len(queries[i]), i))
        found: dict[int, list[Hit]] = {}
        for cut in range(0, len(order), batch):
            part = order[cut : cut + batch]
            hits = self.nearest(self.query_vectors([queries[i] for i in part]), k)
            found.update(zip(part, hits, strict=True))
        return [found[i] for i in range(len(queries))]


def _fingerprint(passages: Sequence[Passage]) -> str:
    return fingerprint(sorted((passage.id, passage.text) for passage in passages))


def warm_up_pairs(questions: Sequence[Question], search: Searcher, depth: int = 100) -> list[tuple[str, str]]:
    """(question, the first of its BM25 passages that holds the gold answer's text): what :func:`warm_up` learns from.

    The paper's DPR comes trained, and a masked language model is no retriever. This is how DPR was trained where a set
    had no passages of its own. **Training** questions only, never a test question, and no rationale: to learn from what
    BM25 finds for the rationale is the reranker's idea (Eq. 3), not DPR's.

    Args:
        depth: passages of a question that are looked at; where none holds the answer, the best is taken.
    """
    pairs = []
    for question in questions:
        texts = [search.passages[hit.index].text for hit in search.search(query_of(question), depth)]
        answer = question.answer_text.lower()
        pairs.append((query_of(question), next((text for text in texts if answer in text.lower()), texts[0])))
    return pairs


def warm_up(
    encoder: str, pairs: Sequence[tuple[str, str]], lr: float, epochs: int, batch: int, seed: int, out: Path, work: Path
) -> list[dict[str, float]]:
    """Train both encoders to tell a query's passage from the other passages of its batch, as DPR was trained.

    The loss is the cross-entropy of the right passage under a softmax of inner products; no batch holds a text twice.

    Args:
        encoder: name or folder of the base encoder that both start from.
        pairs: queries and their passages.
        out: folder for both encoders; :meth:`DenseRetriever.fresh` takes it.
        work: folder for checkpoints; a killed training goes on from there to the same weights.

    Returns:
        The loss curve: rows with ``step`` and ``loss`` (nats).
    """
    if len({passage for _, passage in pairs}) < 2:
        raise KardError("warm-up of the retriever: all pairs have the same passage, so there is none to tell it from")
    set_seed(seed)
    sides = [load_encoder(encoder), load_encoder(encoder)]
    router = Router.for_query_document([*sides[0].children()], [*sides[1].children()])
    model = SentenceTransformer(modules=[router], device=str(device()), similarity_fn_name="dot")
    model.model_card_data.set_widget_examples = lambda dataset: None  # a progress bar that says nothing
    rows = list(pairs) * epochs
    trainer = SentenceTransformerTrainer(
        model=model,
        args=_arguments(lr, batch, seed, work, train_in_bf16(model)),
        train_dataset=Dataset.from_dict({"query": [q for q, _ in rows], "passage": [d for _, d in rows]}),
        loss=MultipleNegativesRankingLoss(model, scale=1.0, similarity_fct=dot_score),
        callbacks=[SaveByTime(), TellProgress()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_whole_checkpoint(work))
    for side, one in zip((QUERY, PASSAGES), sides, strict=True):
        save_encoder(one, out / side)
    return [{"step": row["step"], "loss": row["loss"]} for row in trainer.state.log_history if "loss" in row]


def _arguments(lr: float, batch: int, seed: int, work: Path, bf16: bool) -> Any:
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(work), learning_rate=lr, lr_scheduler_type="linear", warmup_steps=0.05, num_train_epochs=1,
        per_device_train_batch_size=batch, batch_sampler="no_duplicates",
        router_mapping={"query": "query", "passage": "document"}, save_strategy="no", save_total_limit=1,
        logging_steps=10, seed=seed, data_seed=seed, report_to="none", use_cpu=device().type == "cpu", bf16=bf16,
        disable_tqdm=True, log_level="error", dataloader_pin_memory=False,
    )  # fmt: skip
    return on_one_gpu(arguments)
