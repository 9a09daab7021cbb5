from pathlib import Path

import numpy as np
import pytest

from assent.errors import RunError
from assent.recipes.run.unseen import FILE, held_out_of, prompt_hashes, remember_prompts, trained_prompts, warning
from assent.types import Comparison, Completion, Conversation, Demonstration, Ranking, Rating


def asked(text: str) -> Conversation:
    return Conversation.of_user(text)


def test_examples_of_every_kind_are_known_by_their_prompt_alone() -> None:
    prompt, a, b = asked("What is red?"), Completion(text="The sun."), Completion(text="No.")
    same = [
        prompt,
        Demonstration(conversation=prompt.then("The sun.")),
        Demonstration(conversation=asked("What  is\nred?").then("Another answer.")),
        Comparison(prompt=prompt, chosen=a, rejected=b),
        Ranking(prompt=prompt, completions=(a, b), ranks=(1, 2)),
        Rating(prompt=prompt, completion=a, score=1.0),
    ]
    assert len(np.unique(prompt_hashes(same))) == 1
    others = [asked("What is blue?"), prompt.then("The sun.").then("?"), "a plain text"]
    assert len(np.unique(prompt_hashes([prompt, *others]))) == 4


def test_texts_without_a_prompt_are_known_by_themselves() -> None:
    nothing = Conversation(messages=())
    first, second = (Rating(prompt=nothing, completion=Completion(text=text), score=0.0) for text in ("one", "two"))
    assert len(np.unique(prompt_hashes([first, second]))) == 2


def test_a_run_remembers_what_it_was_trained_on(tmp_path: Path) -> None:
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    trained = [Demonstration(conversation=asked(f"question {i}").then("yes")) for i in range(10)]
    remember_prompts(tmp_path / "run", trained)
    held = [asked("question 3"), asked("question 3"), asked("question 4"), asked("fresh"), asked("new")]
    found = held_out_of(held, trained_prompts(str(model)))
    assert (found.count, found.seen) == (4, 2), "each prompt counts once"
    assert warning(found).startswith("warning: 2 of 4 held-out prompts")
    assert warning(held_out_of(held[3:], trained_prompts(str(model)))) == ""


def test_nothing_is_said_of_a_model_that_no_run_remembers(tmp_path: Path) -> None:
    found = held_out_of([asked("question")], trained_prompts(str(tmp_path / "model")))
    assert (found.count, found.seen) == (1, None)


def test_a_damaged_memory_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\x93NUMPY half")
    with pytest.raises(RunError, match=FILE):
        trained_prompts(str(tmp_path / "model"))
