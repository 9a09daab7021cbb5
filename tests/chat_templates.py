"""Short chat templates of our own that behave like those of well-known families, each with the tokens it needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from assent.text.template import ChatTemplate

_TEXTS = [
    "the quick brown fox jumps over the lazy dog. What is red? A colour. Yes. No. Maybe so.",
    "user assistant system tool Human: Assistant: ### Response: ### Instruction: USER: [INST] think final channel",
    "numbers 0 1 2 3 4 5 6 7 8 9 and more, even more words to merge together hello hi kk colours",
] * 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A template, its control tokens, its end-of-text token, and what its turns end with (`end`; often the same).

    `plain` tokens are added without being control tokens; `named` are ends that the model folder names. `trims` says
    whether the template strips answers, `alone` whether earlier turns are written in another way than sampled ones.
    """

    text: str
    control: tuple[str, ...]
    eos: str
    end: str = ""
    plain: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    bos: str = ""
    trims: bool = False
    alone: bool = False
    system: bool = True
    sentencepiece: bool = False


def tokenizer_of(family: Family) -> PreTrainedTokenizerFast:
    """A small tokenizer, trained on a few lines."""
    core = Tokenizer(models.BPE())
    special = list(dict.fromkeys([*family.control, family.eos, *([family.bos] if family.bos else [])]))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if family.sentencepiece:
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        core.decoder = decoders.Metaspace(prepend_scheme="first")
        alphabet = list({letter for text in _TEXTS for letter in text} | set("\n</>|&#[]:-_zqxwvjZ"))
    else:
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=sorted(alphabet), show_progress=False
    )
    core.train_from_iterator(_TEXTS, trainer)
    if family.bos:
        first = (family.bos, core.token_to_id(family.bos))
        core.post_processor = processors.TemplateProcessing(single=f"{family.bos} $A", special_tokens=[first])
    names = {"bos_token": family.bos} if family.bos else {}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=family.eos,
        extra_special_tokens=[token for token in special if token not in (family.eos, family.bos)],
        clean_up_tokenization_spaces=False,
        **names,
    )
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in family.plain])
    tokenizer.chat_template = family.text
    return tokenizer


@cache
def chat_of(name: str) -> ChatTemplate:
    """The chat template of a family."""
    family = FAMILIES[name]
    tokenizer = tokenizer_of(family)
    return ChatTemplate(tokenizer, more_end_ids=tokenizer.convert_tokens_to_ids(list(family.named)))


def _chatml(*, answer: str = "m.content", last: str = "", opened: str = "", after: str = "") -> str:
    """ChatML with another way to write answers, something before the last one, and something behind the header."""
    return (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}"
        + last
        + "{{ "
        + answer
        + " }}{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
        + after
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n"
        + opened
        + "' }}{% endif %}"
    )


_SPLIT = (
    "{% set c = m.content.split('</think>')[-1].lstrip('\\n') %}"
    "{% set r = m.content.split('</think>')[0].split('<think>')[-1].strip('\\n') if '</think>' in m.content else '' %}"
)
_THOUGHT = _SPLIT + "{% if loop.last %}{{ '<think>\\n' + r + '\\n</think>\\n\\n' }}{% endif %}"
_IM = {"control": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), "eos": "<|im_end|>"}
_THINK = {**_IM, "plain": ("<think>", "</think>")}
_TURNS = "{% for m in messages %}"
_OVER = "{% endfor %}"


def _roles(user: str, assistant: str, *, header: str, start: str = "", system: str = "", over: str = _OVER) -> str:
    """A template out of what it writes for each role; `header` opens an answer."""
    told = system or user
    return (
        f"{start}{_TURNS}{{% if m.role == 'assistant' %}}{assistant}{{% elif m.role == 'system' %}}{told}"
        f"{{% else %}}{user}{{% endif %}}{over}{{% if add_generation_prompt %}}{header}{{% endif %}}"
    )


FAMILIES: dict[str, Family] = {
    "chatml": Family(text=_chatml(), **_IM),
    "chatml-trimmed": Family(text=_chatml(answer="m.content | trim"), trims=True, **_IM),
    "chatml-tagged": Family(
        text=_chatml().replace("{{ m.content }}{% else", "{% generation %}{{ m.content }}{% endgeneration %}{% else"),
        **_IM,
    ),
    "chatml-of-plain-text": Family(text=_chatml(), control=("<pad>",), eos="</s>", alone=True),
    "chatml-then-end-of-text": Family(
        text=_chatml(after="{% if not add_generation_prompt %}{{ '<|endoftext|>' }}{% endif %}"),
        control=("<|im_start|>", "<|im_end|>"),
        eos="<|endoftext|>",
        end="<|im_end|>",
    ),
    "chatml-default-system": Family(
        text="{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nBe kind.<|im_end|>\\n' }}{% endif %}"
        + _chatml(),
        **_IM,
    ),
    "chatml-not-control": Family(
        text=_chatml(), control=("<pad>",), plain=("<|im_start|>", "<|im_end|>"), eos="</s>", end="<|im_end|>"
    ),
    "chatml-in-sentencepiece": Family(text=_chatml(), sentencepiece=True, **_IM),
    "llama2": Family(
        text=_roles(
            "{{ '[INST] ' + m.content + ' [/INST]' }}",
            "{{ ' ' + m.content + ' ' + eos_token }}",
            header="",
            start="{{ bos_token }}",
            system="{{ '<<SYS>>\\n' + m.content + '\\n<</SYS>>\\n\\n' }}",
        ),
        control=(),
        eos="</s>",
        bos="<s>",
    ),
    "llama3": Family(
        text=_roles(
            "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}",
            "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' + m.content | trim + '<|eot_id|>' }}",
            header="{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}",
            start="{{ bos_token }}",
        ),
        control=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        eos="<|end_of_text|>",
        end="<|eot_id|>",
        bos="<|begin_of_text|>",
        trims=True,
    ),
    "mistral": Family(
        text=_roles(
            "{{ '[INST] ' + m.content + '[/INST]' }}",
            "{{ ' ' + m.content + eos_token }}",
            header="",
            start="{{ bos_token }}",
        ),
        control=("[INST]", "[/INST]"),
        eos="</s>",
        bos="<s>",
    ),
    "mistral-system-last": Family(  # the system message stands in the last user turn, but only while that is the last
        text="{% set s = messages[0].content if messages[0].role == 'system' else '' %}{{ bos_token }}"
        "{% for m in messages if m.role != 'system' %}{% if m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}"
        "{% else %}{{ '[INST] ' + (s + '\\n\\n' if loop.last and s else '') + m.content + ' [/INST]' }}{% endif %}"
        "{% endfor %}",
        control=("[INST]", "[/INST]"),
        eos="</s>",
        bos="<s>",
    ),
    "gemma": Family(
        text=_roles(
            "{{ '<start_of_turn>user\\n' + m.content | trim + '<end_of_turn>\\n' }}",
            "{{ '<start_of_turn>model\\n' + m.content | trim + '<end_of_turn>\\n' }}",
            header="{{ '<start_of_turn>model\\n' }}",
            start="{{ bos_token }}",
            system="{{ raise_exception('System role not supported') }}",
        ),
        control=("<start_of_turn>", "<end_of_turn>"),
        eos="<eos>",
        end="<end_of_turn>",
        bos="<bos>",
        trims=True,
        system=False,
    ),
    "phi3": Family(
        text=_roles(
            "{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}",
            "{{ '<|assistant|>\\n' + m.content + '<|end|>\\n' }}",
            header="{{ '<|assistant|>\\n' }}",
        )
        + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}",
        control=("<|user|>", "<|system|>", "<|assistant|>", "<|end|>"),
        eos="<|endoftext|>",
        end="<|end|>",
    ),
    "phi4": Family(
        text=_roles(
            "{{ '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' }}",
            "{{ '<|im_start|>assistant<|im_sep|>' + m.content + '<|im_end|>' }}",
            header="{{ '<|im_start|>assistant<|im_sep|>' }}",
        ),
        control=("<|im_start|>", "<|im_sep|>", "<|im_end|>"),
        eos="<|im_end|>",
    ),
    "qwen3": Family(text=_chatml(answer="c", last=_THOUGHT), alone=True, trims=True, **_THINK),
    "qwen3-thinking": Family(
        text=_chatml(answer="c", last=_THOUGHT, opened="<think>\\n"), alone=True, trims=True, **_THINK
    ),
    "qwen3-not-thinking": Family(
        text=_chatml(answer="c", last=_THOUGHT, opened="<think>\\n\\n</think>\\n\\n"), alone=True, trims=True, **_THINK
    ),
    "thought-tags-as-control": Family(
        text=_chatml(answer="c", last=_THOUGHT),
        alone=True,
        trims=True,
        control=(*_IM["control"], "<think>", "</think>"),
        eos="<|im_end|>",
    ),
    "thoughts-kept": Family(text=_chatml(), **_THINK),
    "thoughts-dropped": Family(text=_chatml(answer="m.content.split('</think>')[-1] | trim"), trims=True, **_THINK),
    "deepseek-r1": Family(
        text=_roles(
            "{{ '<|User|>' + m.content }}",
            "{{ '<|Assistant|>' + m.content.split('</think>')[-1] + eos_token }}",
            header="{{ '<|Assistant|><think>\\n' }}",
            start="{{ bos_token }}",
        ),
        control=("<|User|>", "<|Assistant|>"),
        eos="<eos>",
        bos="<bos>",
        plain=("<think>", "</think>"),
        alone=True,
    ),
    "deepseek-v3": Family(
        text=_roles(
            "{{ '<|User|>' + m.content }}",
            "{{ '<|Assistant|>' + m.content + eos_token }}",
            header="{{ '<|Assistant|>' }}",
            start="{{ bos_token }}",
            system="{{ m.content }}",
        ),
        control=("<|User|>", "<|Assistant|>"),
        eos="<eos>",
        bos="<bos>",
    ),
    "deepseek-v3.1": Family(
        text=_roles(
            "{{ '<|User|>' + m.content }}",
            "{{ '<|Assistant|></think>' + m.content.split('</think>')[-1] + eos_token }}",
            header="{{ '<|Assistant|></think>' }}",
            start="{{ bos_token }}",
        ),
        control=("<|User|>", "<|Assistant|>"),
        eos="<eos>",
        bos="<bos>",
        plain=("<think>", "</think>"),
    ),
    "gpt-oss": Family(
        text="{% for m in messages %}{% if m.role == 'assistant' %}{% if m.thinking and loop.last %}"
        "{{ '<|start|>assistant<|channel|>analysis<|message|>' + m.thinking + '<|end|>' }}{% endif %}"
        "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + ('<|return|>' if loop.last else '<|end|>') }}"
        "{% else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}",
        control=("<|start|>", "<|channel|>", "<|message|>", "<|end|>"),
        eos="<|return|>",
        alone=True,
    ),
    "glm": Family(
        text="[gMASK]<sop>"
        + _roles(
            "{{ '<|' + m.role + '|>\\n' + m.content }}",
            "{{ '<|assistant|>\\n' + m.content }}",
            header="{{ '<|assistant|>' }}",
        ),
        control=("[gMASK]", "<sop>", "<|user|>", "<|system|>", "<|assistant|>"),
        eos="<|endoftext|>",
        end="<|user|>",
        named=("<|user|>",),
    ),
    "glm-unnamed": Family(
        text=_roles(
            "{{ '<|' + m.role + '|>\\n' + m.content }}",
            "{{ '<|assistant|>\\n' + m.content }}",
            header="{{ '<|assistant|>\\n' }}",
        ),
        control=("<|user|>", "<|system|>", "<|assistant|>"),
        eos="<|endoftext|>",
        alone=True,
    ),
    "granite": Family(
        text=_roles(
            "{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + '<|end_of_text|>\\n' }}",
            "{{ '<|start_of_role|>assistant<|end_of_role|>' + m.content + '<|end_of_text|>\\n' }}",
            header="{{ '<|start_of_role|>assistant<|end_of_role|>' }}",
            start="{{ 'Today is ' + strftime_now('%d %B %Y, %H:%M:%S.%f') + '.\\n' }}",
        ),
        control=("<|start_of_role|>", "<|end_of_role|>"),
        eos="<|end_of_text|>",
    ),
    "command-r": Family(
        text=_roles(
            "{{ '<|START|><|USER|>' + m.content | trim + '<|END|>' }}",
            "{{ '<|START|><|CHATBOT|>' + m.content | trim + '<|END|>' }}",
            header="{{ '<|START|><|CHATBOT|>' }}",
            start="{{ bos_token }}",
        ),
        control=("<|START|>", "<|USER|>", "<|CHATBOT|>"),
        eos="<|END|>",
        bos="<BOS>",
        trims=True,
    ),
    "zephyr": Family(
        text=_roles(
            "{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}",
            "{{ '<|assistant|>\\n' + m.content + eos_token + '\\n' }}",
            header="{{ '<|assistant|>\\n' }}",
        ),
        control=("<pad>",),
        eos="</s>",
    ),
    "zephyr-in-sentencepiece": Family(
        text=_roles(
            "{{ '<|' + m.role + '|>\\n' + m.content + eos_token + '\\n' }}",
            "{{ '<|assistant|>\\n' + m.content + eos_token + '\\n' }}",
            header="{{ '<|assistant|>\\n' }}",
        ),
        control=("<pad>",),
        eos="</s>",
        bos="<s>",
        sentencepiece=True,
    ),
    "vicuna": Family(
        text=_roles(
            "{{ 'USER: ' + m.content + ' ' }}",
            "{{ 'ASSISTANT: ' + m.content + eos_token }}",
            header="{{ 'ASSISTANT:' }}",
            system="{{ m.content + ' ' }}",
        ),
        control=("<pad>",),
        eos="</s>",
    ),
    "alpaca": Family(
        text=_roles(
            "{{ '### Instruction:\\n' + m.content + '\\n\\n' }}",
            "{{ '### Response:\\n' + m.content + '\\n\\n' }}",
            header="{{ '### Response:\\n' }}",
        ),
        control=("<pad>",),
        eos="</s>",
        alone=True,
    ),
    "hh": Family(
        text=_roles(
            "{{ '\\n\\nHuman: ' + m.content }}",
            "{{ '\\n\\nAssistant: ' + m.content }}",
            header="{{ '\\n\\nAssistant:' }}",
        ),
        control=("<pad>",),
        eos="</s>",
        alone=True,
    ),
    "starchat": Family(
        text=_roles(
            "{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}",
            "{{ '<|assistant|>\\n' + m.content + '<|end|>\\n' }}",
            header="{{ '<|assistant|>\\n' }}",
        ),
        control=("<|user|>", "<|system|>", "<|assistant|>", "<|end|>"),
        eos="<|endoftext|>",
        end="<|end|>",
    ),
    "falcon": Family(
        text=_roles(
            "{{ 'User: ' + m.content | trim + '\\n\\n' }}",
            "{{ 'Assistant: ' + m.content | trim + '\\n\\n' }}",
            header="{{ 'Assistant:' }}",
        ),
        control=("<pad>",),
        eos="<|endoftext|>",
        trims=True,
        alone=True,
    ),
    "olmo": Family(
        text=_roles(
            "{{ '<|user|>\\n' + m.content + '\\n' }}",
            "{{ '<|assistant|>\\n' + m.content + eos_token + ('' if loop.last else '\\n') }}",
            header="{{ '<|assistant|>\\n' }}",
            start="{{ eos_token }}",
        ),
        control=("<pad>",),
        eos="<|endoftext|>",
    ),
    "nemotron": Family(
        text=_roles(
            "{{ '<SPECIAL_11>User\\n' + m.content + '\\n' }}",
            "{{ '<SPECIAL_11>Assistant\\n' + m.content + '\\n' }}",
            header="{{ '<SPECIAL_11>Assistant\\n' }}",
            system="{{ '<SPECIAL_10>System\\n' + m.content + '\\n' }}",
        ),
        control=("<SPECIAL_10>", "<SPECIAL_11>"),
        eos="</s>",
        alone=True,
    ),
    "smollm3": Family(
        text=_chatml(
            answer="m.content",
            last="{% if loop.last and '</think>' not in m.content %}{{ '<think>\\n\\n</think>\\n' }}{% endif %}",
        ),
        alone=True,
        trims=True,
        **_THINK,
    ),
    "hermes": Family(
        text=_chatml(
            answer="m.content or ''",
            last="{% if m.tool_calls %}{% for t in m.tool_calls %}{{ '<tool_call>\\n' + (t.function | tojson) + "
            "'\\n</tool_call>' }}{% endfor %}{% endif %}",
        ).replace("{% for m", "{% if tools %}{{ '# Tools\\n' + (tools | tojson) + '\\n' }}{% endif %}{% for m", 1),
        plain=("<tool_call>", "</tool_call>"),
        **_IM,
    ),
    "yi-old": Family(  # the end-of-text token after the end of the turn, in every turn
        text=_chatml(answer="m.content + '<|im_end|>' + eos_token").replace("{{ '<|im_end|>\\n' }}", "{{ '\\n' }}"),
        control=("<|im_start|>", "<|im_end|>"),
        eos="<|endoftext|>",
        end="<|im_end|>",
    ),
    "internlm": Family(
        text=_roles(
            "{{ '<|User|>:' + m.content + '\\n' }}",
            "{{ '<|Bot|>:' + m.content + '<eoa>\\n' }}",
            header="{{ '<|Bot|>:' }}",
            start="{{ bos_token }}",
        ),
        control=("<eoa>",),
        eos="</s>",
        end="<eoa>",
        bos="<s>",
    ),
    "baichuan": Family(
        text=_roles(
            "{{ '<reserved_106>' + m.content }}",
            "{{ '<reserved_107>' + m.content }}",
            header="{{ '<reserved_107>' }}",
            system="{{ m.content }}",
        ),
        control=("<reserved_106>", "<reserved_107>"),
        eos="</s>",
        alone=True,
    ),
    "end-behind-blanks": Family(text=_chatml(answer="m.content + '\\n'"), control=_IM["control"], eos="<|im_end|>"),
    "shouting": Family(text=_chatml(answer="m.content | upper"), trims=True, **_IM),
    "content-in-parts": Family(
        text="{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% for part in m.content %}"
        "{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{{ '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        **_IM,
    ),
    "without-header": Family(
        text="{% for m in messages %}{{ '[' + m.role + '] ' + m.content + eos_token }}{% endfor %}",
        control=("<pad>",),
        eos="</s>",
    ),
}
