"""Over the chat templates of many families: one conversation has the same ids wherever it is read or written."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from chat_templates import FAMILIES, chat_of, tokenizer_of
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.algorithms.preference.pairs import encode_pairs
from assent.algorithms.reward import judgements_of
from assent.algorithms.sft import encode_demonstrations
from assent.data.examples import comparison_of
from assent.errors import ConfigError
from assent.text.incremental import TextStream
from assent.text.template import ChatTemplate, Encoded
from assent.types import Completion, Conversation, Demonstration, Message, Rating, Role, StopReason

QUESTION = Conversation.of_user("What is red? A colour.")
TALK = QUESTION.then("A colour.")
SECOND = Conversation(messages=(*TALK.messages, Message(role=Role.USER, content="k")))
SYSTEM = Conversation(messages=(Message(role=Role.SYSTEM, content="assistant"), *QUESTION.messages))
ANSWERS = (
    "A colour.", "hi", "k", "think", "assistant", "user", "final", "What is red?", "Zqx", "zqxwvj", "ASSISTANT:", "1",
    " hi ", "\nhi\n\n", "<think>\nlight\n</think>\n\nA colour.", "<think>\n\n</think>\n\nhi", "light</think>k",
    "</think> odd",
    "a < b & c", "a</think>b</think>c", "<|im_end|>", "</s>", "### Response:\nhi", "hi\n\nHuman: no", ".", "[INST]",
)  # fmt: skip
NAMES = sorted(FAMILIES)


def learned(encoded: Encoded) -> list[int]:
    return [id_ for id_, mine in zip(encoded.ids, encoded.assistant_mask, strict=True) if mine]


def prompts_of(name: str) -> list[Conversation]:
    return [QUESTION, SECOND, *([SYSTEM] if FAMILIES[name].system else [])]


def squeezed(text: str) -> str:
    return "".join(text.split()).lower()


def check(name: str, prompt: Conversation, answer: str) -> None:
    family, chat = FAMILIES[name], chat_of(name)
    before = chat.encode_prompt(prompt)
    policy = chat.encode_completion(prompt, Completion(text=answer))
    (examples,) = chat.encode_turns([prompt.then(answer)])
    assert examples[-1].ids == policy.ids, "SFT and DPO differ"
    assert policy.ids[: len(before)] == before, "the prompt of an answer is the prompt that is sampled from"
    count = len(policy) - len(before)
    assert policy.assistant_mask == (False,) * len(before) + (True,) * count
    assert examples[-1].assistant_mask[-count:] == (True,) * count, "something unlearned stands in the turn"
    assert policy.ids[-1] == chat.end_id == chat.tokenizer.convert_tokens_to_ids(family.end or family.eos)
    assert chat.end_id in chat.end_ids and chat.end_ids.isdisjoint(policy.ids[len(before) : -1])
    if "bos_token" in family.text:
        assert policy.ids.count(chat.tokenizer.bos_token_id) == 1 == int(policy.ids[0] == chat.tokenizer.bos_token_id)

    written = policy.ids[len(before) :]
    said = chat.decode(written)
    assert squeezed(answer.split("</think>")[-1]) in squeezed(said), "the answer is not learned"
    assert chat.decode(written[:-1]) == said, "the end is no part of the text"
    assert chat.encode_completion(prompt, Completion(text=said)).ids == policy.ids, "what was sampled is not read back"
    if "</think>" not in answer and not answer.isspace():
        assert said == (answer if not family.trims else said), "something stands around the answer"
        assert said.strip().lower() == answer.strip().lower()
    cut = chat.encode_completion(prompt, Completion(text=said, stop=StopReason.LENGTH))
    assert chat.decode(cut.ids[len(before) :]).rstrip() == said.rstrip(), "a cut answer is another one"
    assert cut.ids[: len(before)] == before and chat.end_id not in cut.ids[len(before) :]


@pytest.mark.parametrize("name", NAMES)
def test_prompts_and_answers_have_the_same_ids_everywhere(name: str) -> None:
    for prompt in prompts_of(name):
        for answer in ANSWERS:
            check(name, prompt, answer)


def test_there_are_families_enough() -> None:
    assert len(FAMILIES) >= 40


@pytest.mark.parametrize("name", NAMES)
def test_a_prompt_has_the_ids_that_transformers_gives_it(name: str) -> None:
    chat = chat_of(name)
    if "strftime_now" in FAMILIES[name].text:
        pytest.skip("transformers reads the clock")
    for prompt in prompts_of(name):
        content = [{"type": "text", "text": ""}] if name == "content-in-parts" else None
        told = [
            {"role": m.role.value, "content": [{**content[0], "text": m.content}] if content else m.content}
            for m in prompt.messages
        ]
        theirs = chat.tokenizer.apply_chat_template(told, add_generation_prompt=True, return_dict=False)
        assert chat.encode_prompt(prompt) == tuple(theirs)


@pytest.mark.parametrize("name", NAMES)
def test_every_turn_of_a_conversation_is_learned_as_it_is_sampled(name: str) -> None:
    chat = chat_of(name)
    talk = SECOND.then("Yes.")
    (examples,) = chat.encode_turns([talk])
    asked = [(talk.before(1), "A colour."), (talk.before(3), "Yes.")]
    for prompt, answer in asked:
        sampled = chat.encode_completion(prompt, Completion(text=answer))
        before, end = len(chat.encode_prompt(prompt)), len(sampled)
        holding = [one for one in examples if one.ids[:end] == sampled.ids and all(one.assistant_mask[before:end])]
        assert len(holding) == 1
    assert sum(map(len, map(learned, examples))) == sum(
        len(chat.encode_completion(prompt, Completion(text=answer))) - len(chat.encode_prompt(prompt))
        for prompt, answer in asked
    )
    if not FAMILIES[name].alone and "sentencepiece" not in name and name != "mistral-system-last":
        assert len(examples) == 1, "the turns could share a sequence"


@pytest.mark.parametrize("name", NAMES)
def test_methods_read_the_same_ids(name: str) -> None:
    chat = chat_of(name)
    pair = comparison_of(QUESTION, "A colour.", "No.")
    (dpo,) = encode_pairs([pair], chat, max_length=999).items
    (judged,) = judgements_of([pair], chat, max_length=999).items
    (rated,) = judgements_of([Rating(prompt=QUESTION, completion=pair.chosen, score=1.0)], chat, max_length=999).items
    (sft,) = encode_demonstrations([Demonstration(conversation=TALK)], chat, max_length=999).items
    assert dpo.chosen == sft and judged.sequences[0] == rated.sequences[0] == sft
    assert judged.sequences[1] == dpo.rejected


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(NAMES), st.text("ab <>/|\nthink:.#k-", max_size=16), st.sampled_from(range(2)))
def test_any_answer_keeps_its_ids(name: str, answer: str, place: int) -> None:
    if answer.strip() and "think>" not in answer:
        check(name, prompts_of(name)[place], answer)


def test_a_thought_is_written_in_the_way_of_the_template() -> None:
    told = "<think>\nlight\n</think>\n\nA colour."
    expected = {
        "qwen3": told + "<|im_end|>",
        "qwen3-thinking": "light\n</think>\n\nA colour.<|im_end|>",
        "deepseek-r1": "light\n</think>\n\nA colour.<eos>",
        "thoughts-kept": told + "<|im_end|>",
        "thoughts-dropped": told + "<|im_end|>",
        "gpt-oss": "<|channel|>analysis<|message|>light<|end|><|start|>assistant<|channel|>final<|message|>A colour."
        "<|return|>",
    }
    for name, text in expected.items():
        chat = chat_of(name)
        ids = learned(chat.encode(QUESTION.then(told)))
        assert chat.tokenizer.decode(ids) == text
        assert chat.decode(ids) in (told, told.removeprefix("<think>\n"))
    assert chat_of("gpt-oss").decode(learned(chat_of("gpt-oss").encode(TALK))) == "A colour."


@pytest.mark.parametrize("answer", ["</think> odd", "Write </think> to end it."])
def test_a_closing_tag_without_a_thought_loses_nothing_before_it(answer: str) -> None:
    chat = chat_of("gpt-oss")
    written = str(chat.tokenizer.decode(learned(chat.encode(QUESTION.then(answer)))))
    assert written == f"<|channel|>final<|message|>{answer}<|return|>"
    for name in NAMES:
        said = chat_of(name).decode(learned(chat_of(name).encode(QUESTION.then(answer))))
        assert squeezed(answer) in squeezed(said)


def test_an_answer_without_a_thought_closes_the_one_that_its_header_opened() -> None:
    for name in ("qwen3-thinking", "deepseek-r1"):
        chat = chat_of(name)
        written = str(chat.tokenizer.decode(learned(chat.encode(TALK))))
        assert written.startswith("\n</think>\n\nA colour.")


@pytest.mark.parametrize("name", ["qwen3-thinking", "deepseek-r1", "qwen3", "gpt-oss"])
def test_a_thought_that_was_cut_stays_one(name: str) -> None:
    chat = chat_of(name)
    whole = chat.encode_completion(QUESTION, Completion(text="<think>\nlight of red\n</think>\n\nA colour."))
    before = len(chat.encode_prompt(QUESTION))
    for end in range(before + 1, len(whole)):
        said = Completion(text=chat.decode(whole.ids[before:end]), stop=StopReason.LENGTH)
        if said.text and "</think>" not in said.text:
            again = chat.encode_completion(QUESTION, said).ids
            written = str(chat.tokenizer.decode(whole.ids[before:end])).split("<|end|>")[0]
            assert chat.tokenizer.decode(again[before:]) == written


CALLS = '[{"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo", "at": null}}}]'
CALLING = Conversation(
    messages=(
        Message(role=Role.USER, content="Weather in Oslo?"),
        Message(role=Role.ASSISTANT, content=f"Let me look.\n{CALLS}", tool_calls=CALLS),
        Message(role=Role.TOOL, content="3 C", name="weather", tool_call_id="call-1"),
        Message(role=Role.ASSISTANT, content="It is 3 C."),
    ),
    tools='[{"type": "function", "function": {"name": "weather"}}]',
)


def test_calls_and_tools_are_written_by_a_template_that_has_a_form_for_them() -> None:
    chat = chat_of("hermes")
    (examples,) = chat.encode_turns([CALLING])
    assert str(chat.tokenizer.decode(examples[0].ids)).startswith('# Tools\n[{"type": "function"')
    call = '{"name": "weather", "arguments": {"city": "Oslo", "at": null}}'
    assert chat.tokenizer.decode([id_ for one in examples for id_ in learned(one)]) == (
        f"<tool_call>\n{call}\n</tool_call>Let me look.<|im_end|>It is 3 C.<|im_end|>"
    )
    assert chat.notes([CALLING]) == (
        "name and tool_call_id in 1 conversations are left out: the chat template does not write them",
    )


def test_calls_are_written_as_json_by_a_template_without_a_form_and_what_is_left_out_is_said() -> None:
    chat = chat_of("chatml")
    (examples,) = chat.encode_turns([CALLING])
    assert chat.tokenizer.decode(learned(examples[-1])) == f"Let me look.\n{CALLS}<|im_end|>It is 3 C.<|im_end|>"
    tools, calls, names = chat.notes([CALLING, TALK])
    assert tools == "the tools of 1 conversations are left out: the chat template has no place for tools"
    assert calls.startswith("the tool calls of 1 messages are written as JSON text") and "tool_call_id" in names
    assert chat.notes([TALK, SECOND]) == ()


def test_a_message_that_is_not_learned_is_context() -> None:
    chat = chat_of("chatml")
    wrong = Message(role=Role.ASSISTANT, content="WRONG", learned=False)
    talk = Conversation(messages=(*QUESTION.messages, wrong, *QUESTION.messages)).then("A colour.")
    (examples,) = chat.encode_turns([talk])
    assert [chat.tokenizer.decode(learned(one)) for one in examples] == ["A colour.<|im_end|>"]
    assert "WRONG" in chat.tokenizer.decode(examples[0].ids)


def test_a_template_that_writes_the_time_is_told_a_moment_of_the_callers() -> None:
    template = "{{ strftime_now('%d %b %Y %H:%M:%S.%f') }}" + FAMILIES["chatml"].text
    tokenizer = tokenizer_of(replace(FAMILIES["chatml"], text=template))
    assert tokenizer.decode(ChatTemplate(tokenizer).encode_prompt(QUESTION)).startswith("01 Jan 2025 00:00:00.000000<")
    then = ChatTemplate(tokenizer, clock=lambda: datetime(2026, 2, 3, 4, 5, 6))
    assert tokenizer.decode(then.encode_prompt(QUESTION)).startswith("03 Feb 2026 04:05:06.000000<")


def test_the_writers_of_a_prompt_are_told_token_by_token() -> None:
    chat = chat_of("chatml")
    prompt = Conversation(
        messages=(Message(role=Role.SYSTEM, content="user"), *SECOND.messages[:2], *TALK.messages[:1])
    )
    told = zip(chat.encode_prompt(prompt), chat.prompt_writers(prompt), strict=True)
    by_role: dict[Role | None, list[int]] = {}
    for id_, writer in told:
        by_role.setdefault(writer, []).append(id_)
    assert chat.tokenizer.decode(by_role[Role.SYSTEM]) == "user"
    assert chat.tokenizer.decode(by_role[Role.USER]) == "What is red? A colour." * 2
    assert chat.tokenizer.decode(by_role[Role.ASSISTANT]) == "A colour."
    header = "<|im_start|>{}\n<|im_end|>\n"
    assert chat.tokenizer.decode(by_role[None]) == (
        "".join(map(header.format, ("system", "user", "assistant", "user"))) + "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_shows_the_text_that_is_decoded_at_once(name: str) -> None:
    chat = chat_of(name)
    for answer in (*ANSWERS, "<think>\n" + "light of red " * 20 + "\n</think>\n\n" + "A colour. " * 20 + "Yes."):
        written = learned(chat.encode(QUESTION.then(answer)))[:-1]
        stream = TextStream(chat.decode, in_pieces=chat.decodes_in_pieces)
        shown = "".join(stream.add(id_).text for id_ in written) + stream.close().text
        assert shown.rstrip() == chat.decode(written).rstrip()


OWN_CALLS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.tool_calls %}"
    "{% for c in m.tool_calls %}{{ '<call>' + c.function.name + ' ' + (c.function.arguments | tojson) + '</call>' }}"
    "{% endfor %}{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
OWN_TAGS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}"
    "{{ '<think>' + (m.reasoning_content or '') + '</think>' + m.content }}{% else %}{{ m.content }}{% endif %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def with_template(template: str | dict[str, str]) -> ChatTemplate:
    tokenizer = tokenizer_of(FAMILIES["chatml"])
    tokenizer.chat_template = template
    return ChatTemplate(tokenizer)


def test_a_call_is_written_in_the_templates_form_wherever_it_comes_from() -> None:
    chat = with_template(OWN_CALLS)
    calls = '[{"type": "function", "function": {"name": "look", "arguments": {"a": 1}}}]'
    called = Message(role=Role.ASSISTANT, content=calls, tool_calls=calls)
    demonstrated = chat.encode(replace(QUESTION, messages=(*QUESTION.messages, called)))
    compared = chat.encode_completion(QUESTION, Completion(text=calls))
    assert compared == demonstrated
    assert '<call>look {"a": 1}</call>' in chat.tokenizer.decode(compared.ids)
    for text in ("[{}]", '[{"function": 1}]', "[{broken}]", '[{"a": 1}]'):  # no calls: they stay what they are
        assert text in chat.tokenizer.decode(chat.encode_completion(QUESTION, Completion(text=text)).ids)


def test_a_template_with_tags_of_its_own_gets_the_thought_without_tags() -> None:
    chat = with_template(OWN_TAGS)
    text = chat.tokenizer.decode(
        chat.encode_completion(QUESTION, Completion(text="<think>\nlight\n</think>\n\nA colour.")).ids
    )
    assert text.endswith("<think>light</think>A colour.<|im_end|>") and text.count("<think>") == 1


def test_conversations_with_tools_take_the_template_for_tools() -> None:
    chat = with_template({"default": OWN_CALLS, "tool_use": "{{ 'TOOLS ' + (tools | tojson) }}" + OWN_CALLS})
    offered = replace(QUESTION, tools='[{"name": "look"}]')
    assert chat.tokenizer.decode(chat.encode_prompt(offered)).startswith('TOOLS [{"name": "look"}]')
    assert "TOOLS" not in chat.tokenizer.decode(chat.encode_prompt(QUESTION))
    with pytest.raises(ConfigError, match=r'several chat templates \(one, two\) and none that is called "default"'):
        with_template({"one": OWN_CALLS, "two": OWN_CALLS})


def test_a_template_that_hides_who_wrote_what_serves_prompts_and_is_refused_for_answers() -> None:
    chat = with_template(
        "{% for m in messages %}{{ m.content + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}"
    )
    assert chat.tokenizer.decode(chat.encode_prompt(QUESTION)).endswith("<|im_end|><|im_start|>assistant")
    assert chat.decode(chat.tokenizer.encode("hi", add_special_tokens=False)) == "hi"
    with pytest.raises(ConfigError, match="does not say which text the assistant wrote"):
        chat.encode_completion(QUESTION, Completion(text="hi"))
