"""Finding and loading a model: every mistake is named; nothing is fetched."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from daemon.errors import ConfigError, DreamloopError, ModelMissing
from daemon.models import anatomy, loading
from daemon.models.hf import HFModel
from policies.records import ChatMessage
from tests.daemon.models import tiny


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """The folder and the key are named."""
    with pytest.raises(ModelMissing, match=r"none: there is no such model folder; set `model\.path`"):
        loading.load("hf", path=str(tmp_path / "none"))


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_part(tiny_folder: Path, tmp_path: Path, missing: str) -> None:
    """Configuration, tokenizer or weights that are not there are named."""
    shutil.copytree(tiny_folder, tmp_path / "m")
    (tmp_path / "m" / missing).unlink()
    with pytest.raises(ModelMissing, match=missing.replace("model.", r"\*.")):
        loading.load("hf", path=str(tmp_path / "m"))


def test_broken_weights_and_unknown_architectures(tiny_folder: Path, tmp_path: Path) -> None:
    """Truncated weights, and an architecture that anatomy.py does not know, are a ModelMissing that says so."""
    shutil.copytree(tiny_folder, tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with pytest.raises(ModelMissing, match="cannot load it"):
        loading.load("hf", path=str(tmp_path / "m"))

    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(vocab_size=320, n_embd=8, n_layer=1, n_head=1)).save_pretrained(tmp_path / "m")
    with pytest.raises(ModelMissing, match='architecture "gpt2" is not known'):
        loading.load("hf", path=str(tmp_path / "m"))


def test_a_tokenizer_without_a_chat_template(tmp_path: Path) -> None:
    """It is refused, saying where the template belongs."""
    tiny.save(tmp_path, template=None)
    with pytest.raises(ModelMissing, match=r"no chat template.*chat_template\.jinja"):
        loading.load("hf", path=str(tmp_path))


def test_a_template_that_refuses_a_conversation(tmp_path: Path) -> None:
    """What a template raises reaches a person as one message with the folder and the roles."""
    tiny.save(
        tmp_path, template=tiny.TEMPLATE + "{% if messages|length > 2 %}{{ raise_exception('too long') }}{% endif %}"
    )
    model = loading.load("hf", path=str(tmp_path))
    assert isinstance(model, HFModel)
    with pytest.raises(DreamloopError, match=r"refused a conversation of user, user, user: too long"):
        model.chat.prompt([ChatMessage(role="user", content="x")] * 3)


@pytest.mark.parametrize("backend", ["vlmm", "base", "../hf", "adapters"])
def test_an_unknown_backend(backend: str) -> None:
    """A backend that does not exist, or a module that is none, names the key and the usual one."""
    with pytest.raises(ConfigError, match=r"model\.backend.*hf"):
        loading.load(backend)


def test_bad_dtype_and_device(tiny_folder: Path) -> None:
    """A dtype that is not offered is named with those that are; a GPU that is not there is named too."""
    with pytest.raises(ConfigError, match=r"model\.dtype.*float32, bfloat16"):
        loading.load("hf", path=str(tiny_folder), dtype="int3")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match=r"model\.device"):
            loading.load("hf", path=str(tiny_folder), device="cuda")


def test_the_fingerprint_follows_weights_and_tokenizer(tiny_folder: Path, tmp_path: Path) -> None:
    """Equal for a copy, different for other weights or another tokenizer; unmoved by the rest of the folder."""
    copy = Path(shutil.copytree(tiny_folder, tmp_path / "m"))
    (copy / "README.md").write_text("notes")
    assert loading.fingerprint(copy) == loading.fingerprint(tiny_folder)
    other = tiny.save(tmp_path / "other", seed=1)
    assert loading.fingerprint(other) != loading.fingerprint(tiny_folder)
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer | {"version": "2.0"}))
    assert loading.fingerprint(copy) != loading.fingerprint(tiny_folder)


def test_checking_a_folder_imports_nothing_heavy(tiny_folder: Path) -> None:
    """The main process checks the model's folder without torch."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom daemon.models import loading\n"
        "loading.check(Path(sys.argv[1]))\nprint({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", program, str(tiny_folder)]
    assert subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout.strip() == "set()"


def test_anatomy_knows_the_hybrid(model: HFModel) -> None:
    """Layer kinds, and the recurrent state of a GDN layer after a forward; an attention layer has none."""
    assert anatomy.kinds(model.net) == ["linear_attention"] * 3 + ["full_attention"]
    assert len(anatomy.layers(model.net)) == 4
    cache = anatomy.new_cache(model.net)
    with torch.inference_mode():
        model.net(input_ids=torch.tensor([[5, 6, 7], [7, 6, 5]]), past_key_values=cache, use_cache=True)
    assert anatomy.recurrent_state(cache, 0).shape == (2, 4, 16, 16)
    with pytest.raises(ValueError, match="no recurrent state"):
        anatomy.recurrent_state(cache, 3)


def test_short_chunks_change_no_result(model: HFModel) -> None:
    """The faster chunk size on a CPU gives the same logits as transformers' own, to rounding."""
    from transformers.models.qwen3_5 import modeling_qwen3_5 as module

    ids = torch.randint(3, 300, (2, 90), generator=torch.Generator().manual_seed(0))
    patched = module.torch_chunk_gated_delta_rule
    with torch.inference_mode():
        fast = model.net(input_ids=ids).logits
        try:
            module.torch_chunk_gated_delta_rule = lambda *a, **k: patched(*a, chunk_size=64, **k)
            slow = model.net(input_ids=ids).logits
        finally:
            module.torch_chunk_gated_delta_rule = patched
    assert getattr(patched, "short_chunks", False)
    assert torch.allclose(fast, slow, atol=1e-3, rtol=1e-3)


def test_templates_with_other_ends_of_turn(tmp_path: Path) -> None:
    """The end of turn is what the template writes after the assistant; without one, the tokenizer's eos."""
    ending = tiny.save(tmp_path / "a", template=tiny.TEMPLATE.replace("<|im_end|>", "<|im_start|>"))
    plain = tiny.save(tmp_path / "b", template="{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    for folder, end in ((ending, 1), (plain, 2)):
        model = loading.load("hf", path=str(folder))
        assert isinstance(model, HFModel)
        assert model.chat.end == end and {end, 2} <= model.chat.stops
