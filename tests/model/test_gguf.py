"""A GGUF file becomes an ordinary folder with the same weights, tokenizer, chat template and end token, once."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
import torch
import transformers
from small_models import CAUSAL, causal_lm

from assent.errors import ConfigError
from assent.model.gguf import from_gguf
from assent.recipes.run.models import MachineOptions, load_language_model
from assent.text.template import ChatTemplate

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "model.layers": "blk",
}  # fmt: skip


def write_gguf(file: Path, tokenizer: transformers.PreTrainedTokenizerFast, *, without: str = "") -> Path:
    """The small Qwen2 as llama.cpp would write it, in float32."""
    config, writer = CAUSAL["qwen2"](), gguf.GGUFWriter(str(file), "qwen2")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    words = sorted(model["vocab"], key=model["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3 if word.startswith("<|") else 1 for word in words])
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(1)
    writer.add_chat_template(TEMPLATE)
    for name, weight in causal_lm("qwen2").state_dict().items():
        for long, short in NAMES.items():
            name = name.replace(long, short)
        if name != without:
            writer.add_tensor(name, weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, tokenizer: transformers.PreTrainedTokenizerFast) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "small.f32.gguf", tokenizer)


def test_weights_are_those_of_the_file_in_a_folder_that_transformers_loads(file: Path) -> None:
    folder = from_gguf(str(file))
    assert folder == str(file.with_name("small.f32"))
    mine, true = transformers.AutoModelForCausalLM.from_pretrained(folder), causal_lm("qwen2")
    assert mine.state_dict().keys() == true.state_dict().keys()
    for name, weight in true.state_dict().items():
        assert torch.equal(mine.state_dict()[name], weight), name


def test_its_chat_template_and_end_token_are_used(file: Path) -> None:
    template = ChatTemplate.load(from_gguf(str(file)))
    assert template.tokenizer.chat_template == TEMPLATE and not template.used_default
    assert template.end_id == 0


def test_the_folder_that_holds_it_stands_for_it_and_it_is_converted_once(file: Path) -> None:
    folder = Path(from_gguf(str(file.parent)))
    before = (folder / "model.safetensors").stat().st_mtime_ns
    model = load_language_model(str(file.parent), machine=MachineOptions(threads=1))
    assert model.path == str(folder) and (folder / "model.safetensors").stat().st_mtime_ns == before


def test_another_file_of_the_same_name_is_not_taken_for_the_converted_one(file: Path, tmp_path: Path) -> None:
    other = tmp_path / file.name
    other.write_bytes(file.read_bytes())
    from_gguf(str(other))
    other.write_bytes(file.read_bytes() + b"\0" * 32)
    with pytest.raises(ConfigError, match=r'"small.f32" beside it was not made from this file.*move it away'):
        from_gguf(str(other))


def test_several_files_in_a_folder_are_listed(file: Path, tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=r"2 GGUF files: a.gguf, b.gguf.*Name one"):
        from_gguf(str(tmp_path))


def test_a_damaged_file_is_refused_and_leaves_nothing(file: Path, tmp_path: Path) -> None:
    for name, content in {"noise": b"noise" * 99, "cut": file.read_bytes()[:5000], "empty": b""}.items():
        (tmp_path / f"{name}.gguf").write_bytes(content)
        with pytest.raises(ConfigError, match="the GGUF file cannot be read"):
            from_gguf(str(tmp_path / f"{name}.gguf"))
        assert not (tmp_path / name).exists()


def test_a_file_that_lacks_a_weight_is_refused(tmp_path: Path, tokenizer: transformers.PreTrainedTokenizerFast) -> None:
    holed = write_gguf(tmp_path / "holed.gguf", tokenizer, without="blk.1.ffn_up.weight")
    with pytest.raises(ConfigError, match=r"mlp\.up_proj\.weight.* is missing"):
        from_gguf(str(holed))


def test_any_other_path_is_left_as_it_is(folders: dict[str, Path], tmp_path: Path) -> None:
    for path in (str(folders["llama"]), "owner/name", str(tmp_path), ""):
        assert from_gguf(path) == path
