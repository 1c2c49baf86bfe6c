"""One label, one way to decode: the same for every method of a table, and for the same seed and batch size the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import GenerationConfig

from kardlib.decoding import SAMPLING, end_tokens, tokens_alone
from kardlib.engines import generator_of
from kardlib.errors import KardError
from kardlib.experiment import Experiment
from kardlib.generate import Generator
from kardlib.keys import Keys
from kardlib.methods import METHODS
from kardlib.mini import MiniSet
from kardlib.models import load_tokenizer
from kardlib.presets import resolve
from kardlib.prompts import build_prompt
from kardlib.table_jobs import main_jobs


def test_of_a_checkpoints_defaults_only_the_special_tokens_are_kept() -> None:
    own = GenerationConfig(
        eos_token_id=[5, 6], pad_token_id=1, decoder_start_token_id=2, forced_bos_token_id=3, num_beams=4,
        repetition_penalty=1.2, no_repeat_ngram_size=3, temperature=0.3, top_k=3, do_sample=True, min_new_tokens=9,
    )  # fmt: skip
    kept, usual = tokens_alone(own), GenerationConfig()
    changed = {name for name, value in own.to_dict().items() if value != usual.to_dict().get(name)}
    tokens = {"eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id"}
    assert tokens < changed
    for name in changed:
        assert getattr(kept, name) == getattr(own if name in tokens else usual, name), name


def test_the_tokenizers_end_and_the_checkpoints_ends_all_count(tiny_opt: str) -> None:
    tokenizer = load_tokenizer(tiny_opt)
    assert end_tokens(GenerationConfig(), tokenizer) == [tokenizer.eos_token_id]
    assert end_tokens(GenerationConfig(eos_token_id=[99, 7]), tokenizer) == sorted([tokenizer.eos_token_id, 7, 99])
    assert end_tokens(GenerationConfig(eos_token_id=42), tokenizer) == sorted([tokenizer.eos_token_id, 42])


@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_samples_are_the_same_for_the_same_seed_and_batch_size(
    kind: str, tiny_t5: str, tiny_opt: str, mini: MiniSet
) -> None:
    folder, questions = (tiny_t5 if kind == "seq2seq" else tiny_opt), mini.splits["test"][:7]
    prompts = [build_prompt(q, [p.text for p in mini.passages[: i % 3]]) for i, q in enumerate(questions)]
    first = Generator(folder, 256, 6, batch=3).sample(prompts, seed=5)
    second = Generator(folder, 256, 6, batch=3)
    second.greedy(prompts)  # what was written before draws nothing
    assert second.sample(prompts, seed=5) == first
    assert second.sample(prompts, seed=6) != first
    assert Generator(folder, 256, 6, batch=7).sample(prompts, seed=5) != first, "documented: it depends on the batch"


def test_every_method_of_a_table_is_decoded_in_the_same_ways() -> None:
    experiment = Experiment(resolve("mini", size="smoke", seeds=(0,)))
    jobs = {(job.arguments["name"], job.arguments["decoding"]) for job in main_jobs(experiment, ("greedy", "vote5"))}
    every = {(row.name, decoding) for row in METHODS for decoding in ("greedy", "vote5")}
    assert every - jobs == {(row.name, "vote5") for row in METHODS if row.forced_rationale}, "nothing to vote on"
    assert jobs <= every
    assert set(SAMPLING) == {"do_sample", "top_k", "top_p"}


def test_another_engine_makes_other_predictions_and_nothing_else() -> None:
    usual, other = (Keys(resolve("mini", size="smoke", engine=engine)) for engine in ("transformers", "ctranslate2"))
    assert "engine" not in usual.key("predictions", name="KARD (BM25)", seed=0), "usual keys are as they were"
    assert other.key("predictions", name="KARD (BM25)", seed=0)["engine"] == "ctranslate2"
    dense = {"name": "RAG + Reasoning Distillation", "seed": 0}
    assert usual.key("predictions", **dense) == other.key("predictions", **dense), "RAG writes in its own way"
    for step, arguments in (("student", {"training": "KARD", "seed": 0}), ("verdicts", {}), ("rag", {"seed": 0})):
        assert usual.key(step, **arguments) == other.key(step, **arguments)
    control = {"control": "no passages", "seed": 0, "name": "KARD (BM25)"}
    assert usual.key("controls", **control) != other.key("controls", **control)


def test_a_server_does_not_score_options() -> None:
    with pytest.raises(KardError, match="does not score options; -p answers=free"):
        resolve("mini", engine="vllm")
    assert resolve("mini", engine="vllm", answers="free").engine == "vllm"
    with pytest.raises(KardError, match="engine"):
        resolve("mini", engine="none")


def test_transformers_writes_by_default(tiny_t5: str, tmp_path: Path) -> None:
    assert type(generator_of("transformers", tiny_t5, 64, 8, tmp_path)) is Generator
