"""Every architecture of the paper, from a folder in its publisher's format: loaded, trained, saved, loaded, asked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_formats import save_opt, save_t5_v1_1
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from kardlib.errors import KardError
from kardlib.generate import Generator
from kardlib.mini import MiniSet
from kardlib.models import is_encoder_decoder, load_config, load_student, load_tokenizer
from kardlib.prompts import Pair, build_prompt
from kardlib.student import Hyperparameters, collator, encode_causal, encode_seq2seq, train_student

HYPER = Hyperparameters(3e-3, 4, 2, 256, 24)


@pytest.fixture(scope="module", params=["t5", "t5 v1.1", "opt-350m", "opt-iml-1.3b"])
def folder(request: pytest.FixtureRequest, tiny_t5: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    made = tmp_path_factory.mktemp("formats") / request.param.replace(" ", "-")
    if request.param == "t5":
        return tiny_t5
    return save_t5_v1_1(made) if request.param == "t5 v1.1" else save_opt(made, small=request.param == "opt-350m")


@pytest.fixture(scope="module")
def pairs(mini: MiniSet) -> list[Pair]:
    questions = mini.splits["train"][:6]
    return [Pair(build_prompt(q), f"It fits. So the answer is {q.options[q.answer or 0]}.") for q in questions]


def loss(model: torch.nn.Module, folder: str, pairs: list[Pair]) -> float:
    tokenizer, seq2seq = load_tokenizer(folder), is_encoder_decoder(folder)
    rows = [(encode_seq2seq if seq2seq else encode_causal)(tokenizer, pair, HYPER) for pair in pairs]
    with torch.inference_mode():
        return float(model.eval()(**collator(tokenizer)(rows)).loss)


def test_it_is_trained_saved_and_loaded_by_plain_transformers(folder: str, pairs: list[Pair], tmp_path: Path) -> None:
    out = tmp_path / "out"
    train_student(folder, pairs, HYPER, 0, out, tmp_path / "work")
    kind = AutoModelForSeq2SeqLM if is_encoder_decoder(folder) else AutoModelForCausalLM
    plain, ours = kind.from_pretrained(out, dtype=torch.float32), load_student(str(out))
    assert loss(ours, str(out), pairs) < 0.9 * loss(load_student(folder), folder, pairs), "training had no effect"
    assert loss(plain, str(out), pairs) == pytest.approx(loss(ours, str(out), pairs), abs=1e-6)
    assert AutoTokenizer.from_pretrained(out).get_vocab() == load_tokenizer(folder).get_vocab()


def test_it_answers(folder: str, pairs: list[Pair]) -> None:
    generator, prompts = Generator(folder, 256, 6, batch=4), [pair.source for pair in pairs]
    assert generator.greedy(prompts) == [generator.greedy([prompt])[0] for prompt in prompts]
    assert len(set(generator.greedy(prompts))) > 1 and len(generator.sample(prompts, 0)) == len(prompts)
    chosen = generator.likeliest(prompts, ["It fits."] * 6, [["one", "two", "some other thing"]] * 6)
    assert set(chosen) <= {0, 1, 2}


def test_the_head_of_t5_v1_1_is_its_own_and_stays_unscaled(pairs: list[Pair], tmp_path: Path) -> None:
    """What a folder says of it must survive training and saving, whatever the library calls it meanwhile."""
    first = save_t5_v1_1(tmp_path / "first")
    train_student(first, pairs[:2], HYPER, 0, tmp_path / "out", tmp_path / "work")
    for folder in (first, str(tmp_path / "out")):
        model = load_student(folder).eval()
        assert model.lm_head.weight.data_ptr() != model.shared.weight.data_ptr()
        assert not torch.equal(model.lm_head.weight, model.shared.weight)
        ids = torch.tensor([[5, 6, 1]])
        with torch.inference_mode():
            out = model(input_ids=ids, decoder_input_ids=torch.tensor([[0]]), output_hidden_states=True)
            unscaled = model.lm_head(out.decoder_hidden_states[-1])
        assert torch.allclose(out.logits, unscaled, atol=1e-5), folder


def test_pickled_weights_are_refused_whatever_else_is_there(folder: str, tmp_path: Path) -> None:
    copied = tmp_path / "pickled"
    shutil.copytree(folder, copied)
    (copied / "model.safetensors").unlink()
    torch.save(load_student(folder).state_dict(), copied / "pytorch_model.bin")
    with pytest.raises(KardError, match="pickled"):
        Generator(str(copied), 64, 8)


def test_code_in_a_folder_is_not_run(folder: str, tmp_path: Path) -> None:
    """A model type of its own, and classes that the folder brings along."""
    copied, ran = tmp_path / "coded", tmp_path / "ran"
    shutil.copytree(folder, copied)
    (copied / "own.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    config = json.loads((copied / "config.json").read_text())
    own = {"AutoConfig": "own.C", "AutoModelForSeq2SeqLM": "own.M", "AutoModelForCausalLM": "own.M"}
    (copied / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": own}))
    for load in (load_config, load_student):
        with pytest.raises(KardError, match="coded"):
            load(str(copied))
    assert not ran.exists()
