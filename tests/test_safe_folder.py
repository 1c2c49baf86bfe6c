"""Loading a folder runs nothing that lies in it: pickles and code of its own are refused in one line."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import MultiVectorEncoder

from kardlib.errors import KardError
from kardlib.models import load_config, load_student, load_tokenizer
from kardlib.reranker import load_cross_encoder, load_late_interaction
from kardlib.safe_folder import only_data, refuse_code


class Leaves:
    """A pickle of it leaves a file behind wherever it is read."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.write_text, (self.trace, "it ran")


def change(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def pickled(folder: Path, trace: Path) -> str:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Leaves(trace)))
    return "pytorch_model.bin"


def pickled_in_parts(folder: Path, trace: Path) -> str:
    (folder / "model.safetensors").unlink()
    part = folder / "pytorch_model-00001-of-00001.bin"
    part.write_bytes(pickle.dumps(Leaves(trace)))
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": {"a": part.name}}))
    return part.name


def pickled_adapter(folder: Path, trace: Path) -> str:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "target_modules": ["q"]}))
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Leaves(trace)))
    return "adapter_model.bin"


def code_of_its_own(folder: Path, trace: Path) -> str:
    (folder / "own.py").write_text(
        f"open({str(trace)!r}, 'w').write('it ran')\nclass Config: pass\nclass Model: pass\n"
    )
    named = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    named |= {name: "own.Model" for name in ("AutoModelForSeq2SeqLM", "AutoModelForSequenceClassification")}
    change(folder / "config.json", model_type="own", auto_map=named)
    return "auto_map"


def pickled_shard(folder: Path, trace: Path) -> str:
    """An index of safetensors that leads to a pickle with an innocent name."""
    (folder / "model.safetensors").unlink()
    (folder / "weights.model").write_bytes(pickle.dumps(Leaves(trace)))
    named = {"metadata": {}, "weight_map": {"a": "weights.model"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(named))
    return "weights.model"


def pickled_beside_a_decoy(folder: Path, trace: Path) -> str:
    """Safetensors that nothing loads do not excuse a pickle."""
    (folder / "model.safetensors").rename(folder / "model-x.safetensors")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Leaves(trace)))
    return "pytorch_model.bin"


LOADERS = [
    (load_student, "tiny_t5"),
    (load_late_interaction, "tiny_bert"),
    (load_cross_encoder, "tiny_bert"),
]
FAULTS = [pickled, pickled_in_parts, pickled_adapter, pickled_shard, pickled_beside_a_decoy, code_of_its_own]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("load, model", LOADERS)
def test_what_would_run_is_refused_and_does_not_run(
    fault: Callable[[Path, Path], str],
    load: Callable[[str], Any],
    model: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    folder, trace = tmp_path / "strange", tmp_path / "trace"
    shutil.copytree(request.getfixturevalue(model), folder)
    named = fault(folder, trace)
    with pytest.raises(KardError) as caught:
        load(str(folder))
    assert str(folder) in str(caught.value) and named in str(caught.value) and "\n" not in str(caught.value)
    assert not trace.exists()


def test_a_pickle_that_is_read_does_run(tmp_path: Path) -> None:
    """Without this the test above could not fail."""
    pickle.loads(pickle.dumps(Leaves(tmp_path / "trace")))
    assert (tmp_path / "trace").exists()


def test_a_pickle_beside_safetensors_is_not_read(tiny_t5: str, tmp_path: Path) -> None:
    folder, trace = shutil.copytree(tiny_t5, tmp_path / "both"), tmp_path / "trace"
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        (folder / name).write_bytes(pickle.dumps(Leaves(trace)))
    load_student(str(folder))
    assert not trace.exists()
    with pytest.raises(KardError, match="optimizer.pt does not belong there"):
        only_data(folder)


def test_code_beside_a_model_that_the_library_knows_is_not_run(tiny_t5: str, tmp_path: Path) -> None:
    folder, trace = shutil.copytree(tiny_t5, tmp_path / "both"), tmp_path / "trace"
    (folder / "own.py").write_text(f"open({str(trace)!r}, 'w').write('it ran')\nclass Model: pass\n")
    change(folder / "config.json", auto_map={"AutoConfig": "own.Model", "AutoModelForSeq2SeqLM": "own.Model"})
    load_student(str(folder))
    assert not trace.exists()


def test_a_tokenizer_with_code_of_its_own_is_refused(
    tiny_t5: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, trace = shutil.copytree(tiny_t5, tmp_path / "strange"), tmp_path / "trace"
    (folder / "own.py").write_text(f"open({str(trace)!r}, 'w').write('it ran')\nclass Words: pass\n")
    auto = {"AutoTokenizer": ["own.Words", None]}
    change(folder / "tokenizer_config.json", tokenizer_class="Words", auto_map=auto)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    try:
        load_tokenizer(str(folder))  # by the model's own kind of tokenizer, or not at all
    except KardError as error:
        assert "strange" in str(error) and "\n" not in str(error)
    assert not trace.exists()


def test_nobody_is_asked_whether_code_may_run(tiny_t5: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(tiny_t5, tmp_path / "strange")
    code_of_its_own(folder, tmp_path / "trace")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    monkeypatch.setattr("kardlib.models.refuse_code", lambda folder: None)  # as for a name of the hub
    with pytest.raises(KardError, match="cannot be loaded"):
        load_config(str(folder))
    assert not (tmp_path / "trace").exists()


def test_modules_of_a_trained_reranker_are_the_librarys_own(tiny_bert: str, tmp_path: Path) -> None:
    folder = tmp_path / "trained"
    load_late_interaction(tiny_bert).save_pretrained(str(folder), create_model_card=False)
    MultiVectorEncoder(str(folder))
    refuse_code(folder, modules=True)
    modules = json.loads((folder / "modules.json").read_text())
    (folder / modules[1]["path"] / "pytorch_model.bin").write_bytes(pickle.dumps(Leaves(tmp_path / "trace")))
    with pytest.raises(KardError, match=r"pytorch_model\.bin"):
        load_late_interaction(str(folder))
    (folder / modules[1]["path"] / "pytorch_model.bin").unlink()
    modules[2]["type"] = "os.path.join"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(KardError, match=r"modules\.json asks for code of its own \(os\.path\.join\)"):
        load_late_interaction(str(folder))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"auto_map": 3}', '"x"'])
def test_a_broken_configuration_is_left_to_its_loader(text: str, tiny_t5: str, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_t5, tmp_path / "broken")
    (folder / "config.json").write_text(text)
    with pytest.raises(KardError, match="broken"):
        load_student(str(folder))
