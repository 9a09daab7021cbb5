"""Rows of one completion or less: demonstrations, ratings, labelled texts, prompts and plain text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from assent.data.columns import has_value
from assent.data.completions import answer_messages, completion_text, is_messages
from assent.data.dialogues import (
    MESSAGES,
    messages_of,
    read_messages,
    read_messages_as_prompt,
    read_rewarded_messages,
)
from assent.data.examples import Example, Format, Kind, Labelled, has, has_any
from assent.data.prompts import prompt_of, with_system
from assent.data.rows import (
    Fields,
    answer_of,
    demonstration_conversation,
    list_of,
    messages_value,
    number_value,
    present,
    prompt_conversation,
    text_of,
    wrong,
)
from assent.errors import DataError
from assent.types import Completion, Conversation, Demonstration, Message, Rating, Role

_PAIRS = (  # the names of a prompt and of its completion
    ("prompt", "completion"), ("prompt", "response"), ("prompt", "answer"), ("prompt", "output"),
    ("question", "answer"), ("question", "response"), ("query", "response"), ("instruction", "response"),
    ("instruction", "completion"), ("instruction", "output"), ("instruction", "demonstration"),
    ("context", "response"), ("input", "output"), ("input", "target"),
)  # fmt: skip
_SINGLE_PROMPTS = ("prompt", "question", "Question", "instruction", "instructions", "query", "goal", "prompts_final")
_FLAGS = ("kto_tag", "is_safe", "safe", "is_correct", "correct", "desirable", "acceptable", "thumbs_up")
_SCORES = ("score", "rating", "helpfulness", "overall_score", "quality", "reward", "grade")
_CRITERIA = ("helpfulness", "quality")
_LABELLED_TEXTS = ("text", "sentence", "tweet", "test_case", "comment")
_LABELS = ("label", "class", "label_gold")
_DAVIDSON = ("hate_speech", "offensive_language", "neither")
_MODERATION = ("S", "H", "V", "HR", "SH")
_NO_PROMPT = Conversation(messages=())


def _pair_name(fields: Fields) -> tuple[str, str] | None:
    """The names of a prompt and an answer; those of empty ones (other rows of a table fill them) only if need be."""

    def may_be_answer(name: str) -> bool:
        """Whether the field is no list, unless it is one of messages."""
        return name == "completion" or not isinstance(fields[name], list | Mapping) or is_messages(fields[name])

    names = [pair for pair in _PAIRS if pair[0] in fields and pair[1] in fields and may_be_answer(pair[1])]
    whole = (pair for pair in names if has_value(fields[pair[0]]) and has_value(fields[pair[1]]))
    return next(whole, names[0] if names else None)


def read_prompt_completion(fields: Fields) -> list[Example]:
    """A prompt and a completion under any usual pair of names; the completion, and it alone, is learned.

    It may be several messages.
    """
    prompt_name, answer_name = _pair_name(fields) or ("prompt", "completion")
    answer = answer_messages(present(fields, answer_name), answer_name)
    prompt = (replace(message, learned=False) for message in prompt_of(fields, prompt_name).messages)
    messages = (*prompt, *answer)
    return [Demonstration(conversation=demonstration_conversation(messages, answer_name))]


def read_prompt_of_completion(fields: Fields) -> list[Example]:
    """The prompt alone: the other column may be a number to check answers with, not an answer to imitate."""
    return [prompt_of(fields, (_pair_name(fields) or ("prompt", ""))[0])]


def read_input_output_turns(fields: Fields) -> list[Example]:
    """`conversation`: turns of input and output."""
    messages = []
    for place, turn in enumerate(list_of(fields, "conversation")):
        if not isinstance(turn, Mapping):
            raise wrong(f"conversation[{place}]", "an object with input and output", turn)
        said = ((Role.USER, text_of(turn, "input")), (Role.ASSISTANT, answer_of(turn, "output")))
        messages += [Message(role=role, content=text.strip()) for role, text in said]
    talk = demonstration_conversation(with_system(tuple(messages), fields), "conversation")
    return [Demonstration(conversation=talk)]


def read_alpaca(fields: Fields) -> list[Example]:
    """instruction, input (may be empty) and output."""
    answer = answer_of(fields, "output")
    return [Demonstration(conversation=prompt_of(fields, "instruction").then(answer))]


def read_self_instruct(fields: Fields) -> list[Example]:
    """instruction with `instances`, each an input and an output."""
    read: list[Example] = []
    for place, instance in enumerate(list_of(fields, "instances")):
        if not isinstance(instance, Mapping):
            raise wrong(f"instances[{place}]", "an object with input and output", instance)
        read += read_alpaca({"instruction": fields.get("instruction"), **instance})
    if not read:
        raise DataError('field "instances": the list is empty')
    return read


def read_labelled_messages(fields: Fields) -> list[Example]:
    """Messages that end with the labelled answer, and a label."""
    messages, name = messages_of(fields)
    conversation = demonstration_conversation(messages, name)
    prompt, label = prompt_conversation(conversation.messages[:-1], name), _label_name(fields) or "label"
    return [_labelled(prompt, conversation.messages[-1].content, present(fields, label), label)]


def read_labelled_completion(fields: Fields) -> list[Example]:
    """A prompt, a completion and a label."""
    prompt_name, answer_name = _pair_name(fields) or ("prompt", "completion")
    prompt, name = prompt_of(fields, prompt_name), _label_name(fields) or "label"
    return [_labelled(prompt, completion_text(present(fields, answer_name), answer_name), present(fields, name), name)]


def read_rated_completion(fields: Fields) -> list[Example]:
    """A prompt, a completion and a number."""
    prompt_name, answer_name = _pair_name(fields) or ("prompt", "completion")
    name = next((name for name in _SCORES if name in fields), "score")
    score = number_value(present(fields, name), name)
    prompt, answer = prompt_of(fields, prompt_name), completion_text(present(fields, answer_name), answer_name)
    criterion = name if name in _CRITERIA else "overall"
    return [Rating(prompt=prompt, completion=Completion(text=answer), score=score, criterion=criterion)]


def read_dialogue_rating(fields: Fields) -> list[Example]:
    """A dialogue (`source`, one turn a line, speakers alternating), a system's reply and its mean scores."""
    turns = [turn.strip() for turn in text_of(fields, "source").split("\n") if turn.strip()]
    roles = ("user", "assistant") if len(turns) % 2 else ("assistant", "user")
    messages: list[Any] = [{"role": roles[place % 2], "content": turn} for place, turn in enumerate(turns)]
    scores = present(fields, "scores")
    if not isinstance(scores, Mapping):
        raise wrong("scores", "an object with the score of each criterion", scores)
    prompt = prompt_conversation(messages_value(messages, "source"), "source")
    completion = Completion(text=answer_of(fields, "system_output"))
    criterion = "overall" if "overall" in scores else next(iter(scores), "overall")
    score = number_value(present(scores, criterion), f"scores.{criterion}")
    return [Rating(prompt=prompt, completion=completion, score=score, criterion=str(criterion))]


def read_labelled_text(fields: Fields) -> list[Example]:
    """A text without a prompt, and a label."""
    text_name = next((name for name in _LABELLED_TEXTS if name in fields), "text")
    label_name = next((name for name in _LABELS if name in fields), "label")
    return [_labelled(_NO_PROMPT, answer_of(fields, text_name), present(fields, label_name), label_name)]


def read_davidson(fields: Fields) -> list[Example]:
    """A tweet of class 0 (hate_speech), 1 (offensive_language) or 2 (neither)."""
    place = number_value(present(fields, "class"), "class")
    if place not in (0, 1, 2):
        raise DataError(f'field "class": expected 0, 1 or 2, got {place:g}')
    return [_labelled(_NO_PROMPT, answer_of(fields, "tweet"), _DAVIDSON[int(place)], "class")]


def read_moderation(fields: Fields) -> list[Example]:
    """A text with a 0/1 flag per category of harm; it is good if no known flag is up."""
    flags = [name for name in _MODERATION if fields.get(name) is not None]
    flagged = any(number_value(fields[name], name) > 0 for name in flags)
    return [_labelled(_NO_PROMPT, answer_of(fields, "prompt"), "flagged" if flagged else "safe", "flags")]


def read_prompt(fields: Fields) -> list[Example]:
    """A prompt alone."""
    name = next((name for name in _SINGLE_PROMPTS if name in fields), "prompt")
    return [prompt_of(fields, name)]


def read_text(fields: Fields) -> list[Example]:
    """Plain text."""
    text = text_of(fields, "text")
    if not text.strip():
        raise DataError('field "text": the text is empty')
    return [text]


def _labelled(prompt: Conversation, text: str, label: Any, name: str) -> Labelled:
    if isinstance(label, bool):
        word = "true" if label else "false"
    elif isinstance(label, int | float):
        word = f"{number_value(label, name):g}"
    elif isinstance(label, str) and label.strip():
        word = label.strip().removesuffix(".0")
    else:
        raise wrong(name, "a label (true, false, a word or a number)", label)
    return Labelled(prompt=prompt, completion=Completion(text=text), label=word)


def read_steps(fields: Fields) -> list[Example]:
    """The prompt of an answer with labelled steps; the steps are not read."""
    question = fields.get("question")
    if isinstance(question, Mapping):
        return [prompt_of({"prompt": present(question, "problem")})]
    return [prompt_of(fields)]


def _is_stepwise(row: Fields) -> bool:
    label = row.get("label")
    steps = isinstance(label, Mapping) and "steps" in label
    return steps or (isinstance(row.get("completions"), list) and isinstance(row.get("labels"), list))


def _is_input_output(row: Fields) -> bool:
    turns = row.get("conversation")
    return isinstance(turns, list) and bool(turns) and isinstance(turns[0], Mapping) and "input" in turns[0]


def _label_name(row: Fields) -> str | None:
    """The field of a label; other names than `label` count where they say yes or no."""
    if "label" in row:
        return "label"
    words = ("true", "false", "1", "0", "1.0", "0.0")
    return next((name for name in _FLAGS if name in row and str(row[name]).strip().lower() in words), None)


_is_about_messages, _is_labelled_text, _is_rated = has_any(*MESSAGES), has_any(*_LABELLED_TEXTS), has_any(*_SCORES)
_has_label = has_any(*_LABELS)

SINGLE_FORMATS = (
    Format(name="stepwise", kind=Kind.STEPS, matches=_is_stepwise, read=read_steps),
    Format(name="labelled-messages", kind=Kind.RATINGS, read=read_labelled_messages,
           matches=lambda row: _is_about_messages(row) and _label_name(row) is not None),
    Format(name="dialogue-ratings", kind=Kind.RATINGS, read=read_dialogue_rating,
           matches=has("source", "system_output", "scores")),
    Format(name="labelled-completions", kind=Kind.RATINGS, read=read_labelled_completion,
           matches=lambda row: _pair_name(row) is not None and _label_name(row) is not None),
    Format(name="rated-completions", kind=Kind.RATINGS, read=read_rated_completion,
           matches=lambda row: _pair_name(row) is not None and _is_rated(row)),
    Format(name="davidson", kind=Kind.RATINGS, matches=has("class", *_DAVIDSON), read=read_davidson),
    Format(name="moderation", kind=Kind.RATINGS, read=read_moderation,
           matches=lambda row: "prompt" in row and any(name in row for name in _MODERATION)),
    Format(name="messages", kind=Kind.DEMONSTRATIONS, matches=has("messages"), read=read_messages,
           read_prompts=read_messages_as_prompt, read_dialogues=read_rewarded_messages),
    Format(name="input-output-turns", kind=Kind.DEMONSTRATIONS, matches=_is_input_output,
           read=read_input_output_turns),
    Format(name="sharegpt", kind=Kind.DEMONSTRATIONS, matches=has_any("conversations", "conversation"),
           read=read_messages, read_prompts=read_messages_as_prompt, read_dialogues=read_rewarded_messages),
    Format(name="alpaca", kind=Kind.DEMONSTRATIONS, matches=has("instruction", "output"), read=read_alpaca),
    Format(name="self-instruct", kind=Kind.DEMONSTRATIONS, matches=has("instruction", "instances"),
           read=read_self_instruct),
    Format(name="labelled-texts", kind=Kind.RATINGS, read=read_labelled_text,
           matches=lambda row: _is_labelled_text(row) and _has_label(row)),
    Format(name="prompt-completion", kind=Kind.DEMONSTRATIONS, matches=lambda row: _pair_name(row) is not None,
           read=read_prompt_completion, read_prompts=read_prompt_of_completion),
    Format(name="prompts", kind=Kind.PROMPTS, matches=has_any(*_SINGLE_PROMPTS), read=read_prompt),
    Format(name="text", kind=Kind.TEXTS, matches=has("text"), read=read_text),
)  # fmt: skip
