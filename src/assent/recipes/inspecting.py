"""`assent inspect`: the tokens of a data file as a model reads them, who wrote each, and what is learned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from assent.config import Settings
from assent.data.examples import Kind
from assent.data.load import (
    ReadOptions,
    kind_of_file,
    load_comparisons,
    load_demonstrations,
    load_prompts,
    load_ratings,
)
from assent.durable import write_atomic
from assent.errors import ConfigError, DataError
from assent.evals.token_page import ShownExample, ShownToken, render_tokens, shown_text
from assent.model.gguf import from_gguf
from assent.recipes.run.adapters import adapter_base
from assent.recipes.run.inputs import Files, Load, model_folder, read_all, refuse_existing, require_data
from assent.recipes.run.machine import ClockOptions
from assent.recipes.run.model_checks import check_model
from assent.recipes.run.models import template_of
from assent.recipes.run.progress import Display
from assent.recipes.run.reading_settings import Reading
from assent.recipes.run.request import Request
from assent.recipes.serving import name_of
from assent.text.template import ChatTemplate, Encoded, joined_turns
from assent.text.token_texts import TokenTexts
from assent.types import Comparison, Completion, Conversation, Demonstration, Rating, Role

_STYLES = {"template": "dim", "system": "magenta", "user": "blue", "tool": "yellow", "assistant": "green"}
_LOADS: dict[Kind, Load] = {
    Kind.DEMONSTRATIONS: load_demonstrations,
    Kind.COMPARISONS: load_comparisons,
    Kind.RANKINGS: load_comparisons,
    Kind.RATINGS: load_ratings,
    Kind.PROMPTS: load_prompts,
}


class InspectJob(Settings):
    """`assent inspect`."""

    machine: ClockOptions = ClockOptions()
    reading: Reading = Reading()


def run_inspect(request: Request, display: Display) -> None:
    """Print the first examples of each file and, with --out, write them to a page. No weights are loaded."""
    files, settings = request.files, request.settings(InspectJob)
    page, limit = request.text("out"), int(request.text("limit") or 5)
    require_data(files)
    if limit < 1:
        raise ConfigError("expected a number of at least 1", where=f"--limit {limit}")
    if page is not None:
        refuse_existing(files)
    path = from_gguf(model_folder(files.model))
    if not Path(path).is_dir():
        check_model(path, wanted="trunk")
    template = template_of(path, adapter_base(path), settings.machine)
    examples, notes = _examples(files, template, limit, settings.reading, display)
    for note in notes:
        display.say(f"  {note}")
    console = Console(soft_wrap=True, highlight=False)
    console.print(_legend())
    for example in examples:
        console.print(_as_text(example))
    if page is not None:
        files.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(files.out, render_tokens(examples, model=name_of(files.model), notes=notes))
        display.say(f"page: {page}")


def _examples(
    files: Files, template: ChatTemplate, limit: int, reading: Reading, display: Display
) -> tuple[list[ShownExample], tuple[str, ...]]:
    renderer = _ExampleRenderer(template)
    shown: list[ShownExample] = []
    talks: list[Conversation] = []
    for path in files.data:
        kind = kind_of_file(path, ReadOptions(format=files.format, columns=reading))
        if kind not in _LOADS:
            what = "the file holds texts: their tokens have no writers, and all of them are learned"
            raise DataError(what, where=path, now="Give demonstrations, pairs, ratings or prompts.")
        data = read_all((path,), _LOADS[kind], files, display, role=kind.value, limit=limit, reading=reading)
        for number, one in enumerate(data.examples, start=1):
            shown += renderer.shown(one, f"{Path(path).name}, {number}")
        for one in data.examples:
            talk = one.conversation if isinstance(one, Demonstration) else one
            talks.append(talk if isinstance(talk, Conversation) else talk.prompt)
    return shown, template.notes(talks)


class _ExampleRenderer:
    """Turns examples into tokens with their writers."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template, self._texts = template, TokenTexts(template.tokenizer)

    def shown(self, example: Any, title: str) -> Iterator[ShownExample]:
        """The sequences that training reads for an example; for a prompt, what sampling starts from."""
        if isinstance(example, Demonstration):
            yield from self._turns(example.conversation, title)
        elif isinstance(example, Comparison):
            yield self._judged(example.prompt, example.chosen, f"{title}: chosen")
            yield self._judged(example.prompt, example.rejected, f"{title}: rejected")
        elif isinstance(example, Rating):
            yield self._judged(example.prompt, example.completion, f"{title}: scored {example.score:g}")
        else:
            ids = self._template.encode_prompt(example)
            yield self._example(Encoded(ids=ids, assistant_mask=(False,) * len(ids)), example, title)

    def _turns(self, conversation: Conversation, title: str) -> Iterator[ShownExample]:
        (turns,) = self._template.encode_each_turn([conversation])
        places = [p for p, m in enumerate(conversation.messages) if m.role is Role.ASSISTANT and m.learned]
        ends, examples = {turn.ids: p for turn, p in zip(turns, places, strict=True)}, joined_turns(turns)
        for number, encoded in enumerate(examples, start=1):
            part = f", example {number} of {len(examples)}" if len(examples) > 1 else ""
            yield self._example(encoded, conversation.before(ends[encoded.ids]), title + part)

    def _judged(self, prompt: Conversation, completion: Completion, title: str) -> ShownExample:
        return self._example(self._template.encode_completion(prompt, completion), prompt, title)

    def _example(self, encoded: Encoded, prompt: Conversation, title: str) -> ShownExample:
        known = self._template.prompt_writers(prompt) if prompt.messages else []
        writers = [role.value if role else "template" for role in known]
        writers += ["assistant"] * (len(encoded) - len(writers))
        tokens = zip(encoded.ids, writers, encoded.assistant_mask, strict=True)
        return ShownExample(
            title=title,
            tokens=tuple(
                ShownToken(
                    id=id_, text=self._texts.of(id_)[0], writer="assistant" if learned else writer, learned=learned
                )
                for id_, writer, learned in tokens
            ),
        )


def _legend() -> Text:
    legend = Text("written by: ")
    for writer, style in _STYLES.items():
        legend.append(writer, style).append("  ")
    return legend.append("\u27e6learned\u27e7", "bold green")


def _as_text(example: ShownExample) -> Text:
    """An example for the terminal; brackets mark what is learned, so that it is visible without colours too."""
    text = Text(f"\n{example.title}: {len(example.tokens)} tokens, {example.learned} learned\n", "bold")
    before = False
    for token in example.tokens:
        if token.learned != before:
            text.append("\u27e6" if token.learned else "\u27e7", "bold green")
        before = token.learned
        text.append(shown_text(token.text), _STYLES[token.writer] + (" bold underline" if token.learned else ""))
    return text.append("\u27e7", "bold green") if before else text
