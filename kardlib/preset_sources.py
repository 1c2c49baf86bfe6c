"""Where each value of preset ``paper`` is from: the paper, its released code, or our choice where both are silent."""

from __future__ import annotations

from typing import Literal

Source = Literal["paper", "code", "ours"]
SOURCES: dict[str, tuple[Source, str]] = {
    "student": ("paper", "Flan-T5 on MedQA, T5 on the other two sets; v1.1, the T5 with a size XL"),
    "reader": ("code", "the rationale filter's reader"),
    "encoder": ("paper", "LinkBERT-base, on MedQA BioLinkBERT-base"),
    "teacher": ("paper", "GPT-3.5-turbo"),
    "filter": ("code", "a rationale is kept where the reader picks the gold answer with it"),
    "l": ("code", "10 samples in one call; how many the paper has on StrategyQA and OpenbookQA is not known"),
    "k": ("ours", "not told for the main tables"),
    "shots": ("ours", "not told; the released code shows its teacher 5 worked examples"),
    "kappa_star": ("paper", "100 candidates of the question"),
    "kappa1": ("code", "32; the paper's is not told"),
    "kappa2": ("code", "32; the paper's is not told"),
    "tau1": ("ours", "not told; matched to the spread of BM25 scores"),
    "tau2": ("ours", "not told"),
    "pool": ("code", "4 + 4 passages a step"),
    "seeds": ("paper", "mean and spread of 3 runs"),
    "student_lr": ("code", "constant"),
    "student_epochs": ("code", "no weight decay"),
    "student_batch": ("code", "of all devices and accumulated parts together"),
    "source_tokens": ("code", "512"),
    "target_tokens": ("ours", "not told"),
    "reranker_lr": ("code", "linear schedule with 5 % warm-up"),
    "reranker_epochs": ("code", "3"),
    "reranker_batch": ("code", "16"),
    "answers": ("ours", "parsed from the text as it is written"),
    "student_keep": ("ours", "the last epoch"),
    "reranker_form": ("code", "late interaction"),
    "dapt_lr": ("ours", "that of the students"),
    "dapt_epochs": ("ours", "1"),
    "rag_form": ("ours", "the sum over passages is that of a whole sequence"),
    "retriever_lr": ("ours", "that of the students"),
    "retriever_warmup_lr": ("ours", "as at mini scale"),
    "retriever_warmup_epochs": ("ours", "as at mini scale"),
    "retriever_warmup_batch": ("ours", "as at mini scale"),
    "student_part": ("ours", "rows in memory at a time; the effective batch is student_batch"),
}  # fmt: skip
"""Of every setting that numbers depend on, but those of :data:`NEUTRAL`."""

NEUTRAL = frozenset({
    "preset", "dataset", "size", "data_dir", "index", "share", "world", "inventory", "retrain", "engine", "dapt",
    "dapt_text", "student_checkpointing", "student_lora", "reranker_part", "reranker_chunk", "lora", "reranker_curves",
    "reranker_vectors", "reranker_loss", "reranker_frozen_passages", "pool_as_released", "prompt_as_released",
})  # fmt: skip
"""What is asked about, memory, speed and switches that are off: under the preset they set no hyperparameter."""


def our_choices() -> list[str]:
    """Settings of preset ``paper`` that neither the paper nor its code tells."""
    return [name for name, (source, _) in SOURCES.items() if source == "ours"]
