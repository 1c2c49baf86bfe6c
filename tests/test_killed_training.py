"""A student whose training is killed (SIGKILL) again and again has the weights of one that is left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import same_weights
from transformers import T5Config, T5ForConditionalGeneration

from kardlib.mini import MiniSet
from kardlib.mini_tokenizer import make_tokenizer
from kardlib.prompts import build_prompt, build_target

KILLS = 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("lora", [0, 1])
def test_killed_and_left_alone_are_the_same(lora: int, mini: MiniSet, tmp_path: Path) -> None:
    """With dropout, so that the random numbers of each step count, and parts of a batch."""
    shape = dict(d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.2, decoder_start_token_id=0)
    tokenizer = make_tokenizer("seq2seq")
    T5ForConditionalGeneration(T5Config(vocab_size=len(tokenizer), **shape)).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    pairs = [
        (build_prompt(q, [p.text for p in mini.passages[: i % 3]]), build_target(q.answer_text, None))
        for i, q in enumerate(mini.splits["train"][:18])
    ]
    (tmp_path / "pairs.json").write_text(json.dumps(pairs), encoding="utf-8")
    killed = {}
    for name, kills in (("alone", 0), ("killed", KILLS)):
        command = [sys.executable, str(Path(__file__).parent / "killed_training.py"), "base", "pairs.json", name]
        command += [str(kills), f"{lora}", "3", str(lora)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
        assert not done.returncode, done.stderr
        killed[name] = int(done.stdout.splitlines()[-1])
    assert killed == {"alone": 0, "killed": KILLS}
    assert same_weights(tmp_path / "alone" / "out", tmp_path / "killed" / "out")
