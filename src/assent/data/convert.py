"""Conversions from what a file holds to what a command needs. An impossible one is an error that says what is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from assent.data.examples import Example, Kind, Labelled, Scored, prompt_key
from assent.errors import DataError
from assent.text.transcripts import format_transcript
from assent.types import Comparison, Completion, Conversation, Demonstration, Ranking, Rating, RewardedDialogue, Role

Talk = Demonstration | RewardedDialogue

_COLUMNS = {
    Kind.DEMONSTRATIONS: ("prompt", "completion"),
    Kind.COMPARISONS: ("prompt", "chosen", "rejected"),
    Kind.RANKINGS: ("prompt", "completions", "ranks"),
    Kind.RATINGS: ("prompt", "completion", "score"),
    Kind.DIALOGUES: ("messages", "reward"),
    Kind.PROMPTS: ("prompt",),
    Kind.TEXTS: ("text",),
}


def cannot(kind: Kind, wanted: Kind, format_name: str) -> DataError:
    """The error for a file that holds another kind."""
    named = " ".join(f"--set reading.{name}=COLUMN" for name in _COLUMNS[wanted])
    return DataError(
        f"the file holds {kind.value} (format {format_name}), and they cannot be converted to {wanted.value}",
        now=f"Give a file of {wanted.value}. If it holds {wanted.value} after all, name their columns: {named}.",
    )


def demonstrations(examples: Sequence[Example]) -> list[Demonstration]:
    """Demonstrations unchanged; from labelled completions the chosen, best or good ones, each once; no ties.

    A score of 1 counts as good only if all scores lie between 0 and 1; on other scales it may be the worst.
    """
    made: list[Demonstration] = []
    within_one = all(0 <= example.score <= 1 for example in examples if isinstance(example, Rating))
    for example in _ranked_by_prompt(examples):
        if isinstance(example, Demonstration):
            made.append(example)
        elif isinstance(example, Comparison) and example.probability > 0.5:
            made.append(_shown(example.prompt, example.chosen))
        elif isinstance(example, Ranking | Scored):
            worths = _worths(example)
            if worths.count(max(worths)) == 1:
                made.append(_shown(example.prompt, example.completions[worths.index(max(worths))]))
        elif isinstance(example, Rating) and within_one and example.score == 1.0 and example.prompt.messages:
            made.append(_shown(example.prompt, example.completion))
    as_they_are = all(isinstance(example, Demonstration) for example in examples)
    return made if as_they_are else list(dict.fromkeys(made))


def comparisons(examples: Iterable[Example], *, keep_ties: bool, margin_per_score: float) -> list[Comparison]:
    """Pairs unchanged, all pairs of a ranking, and all pairs of one prompt's ratings; ties have probability 0.5."""
    made: list[Comparison] = []
    for example in _ranked_by_prompt(examples):
        if isinstance(example, Comparison):
            made.append(example)
        elif isinstance(example, Ranking | Scored):
            made += _pairs(example, margin_per_score if isinstance(example, Scored) else 0.0)
    return [pair for pair in made if keep_ties or pair.probability != 0.5]


def rankings(examples: Iterable[Example]) -> list[Ranking]:
    """Rankings unchanged, scores as ranks, the ratings of one prompt as one ranking, a pair as a ranking of two."""
    made = []
    for example in _ranked_by_prompt(examples):
        if isinstance(example, Ranking):
            made.append(example)
        elif isinstance(example, Scored):
            made.append(_ranking(example, example.completions, example.scores))
        elif isinstance(example, Comparison):
            pair = (example.chosen, example.rejected)
            made.append(_ranking(example, pair, (example.probability, 0.5)))
    return made


def ratings(examples: Iterable[Example]) -> list[Rating]:
    """Ratings unchanged, scores one by one, and the two sides of a pair as 1 and 0 (ties are left out)."""
    made: list[Rating] = []
    for example in examples:
        if isinstance(example, Rating):
            made.append(example)
        elif isinstance(example, Scored):
            made += _rated(example, zip(example.completions, example.scores, strict=True))
        elif isinstance(example, Comparison) and example.probability != 0.5:
            made += _rated(example, [(example.chosen, 1.0), (example.rejected, 0.0)])
    return made


def _rated(of: Scored | Comparison, scored: Iterable[tuple[Completion, float]]) -> list[Rating]:
    return [Rating(prompt=of.prompt, completion=one, score=score, provenance=of.provenance) for one, score in scored]


def dialogues(examples: Iterable[Example]) -> list[RewardedDialogue]:
    """Dialogues unchanged; a judged completion is a dialogue of one turn.

    Its reward is its score or label, or the share of the other completions that it is better than, ties one half: of a
    pair the probability of its side, in a ranking from 1 for the best to 0 for the worst.
    """
    made: list[RewardedDialogue] = []
    for one in examples:
        if isinstance(one, RewardedDialogue):
            made.append(one)
        elif isinstance(one, Rating) and one.prompt.messages:
            made += _one_turn(one, [(one.completion, one.score)])
        elif isinstance(one, Scored):
            made += _one_turn(one, zip(one.completions, one.scores, strict=True))
        elif isinstance(one, Comparison):
            made += _one_turn(one, [(one.chosen, one.probability), (one.rejected, 1 - one.probability)])
        elif isinstance(one, Ranking):
            wins = [sum((rank < other) + (rank == other) / 2 for other in one.ranks) - 0.5 for rank in one.ranks]
            made += _one_turn(one, zip(one.completions, [win / (len(wins) - 1) for win in wins], strict=True))
    return made


def _one_turn(
    of: Rating | Scored | Comparison | Ranking, rewarded: Iterable[tuple[Completion, float]]
) -> list[RewardedDialogue]:
    asked = replace(of.prompt, messages=tuple(replace(message, learned=False) for message in of.prompt.messages))
    return [
        RewardedDialogue(conversation=asked.then(completion.text), rewards=(reward,), provenance=of.provenance)
        for completion, reward in rewarded
    ]


def prompts(examples: Iterable[Example]) -> list[Conversation]:
    """Prompts unchanged; those of other kinds once each, with the columns on which their rows agree."""
    native: list[Conversation] = []
    derived: dict[Conversation, Conversation] = {}

    def keep_once(prompt: Conversation) -> None:
        known = derived.get(prompt, prompt).columns
        agreed = {name: known[name] for name, value in prompt.columns.items() if name in known and known[name] == value}
        derived[prompt] = replace(prompt, columns=agreed)

    for example in examples:
        if isinstance(example, Conversation):
            native.append(example)
        elif isinstance(example, Talk):
            talk, last = example.conversation, len(example.conversation.messages) - 1
            keep_once(talk.before(last) if talk.messages[last].role is Role.ASSISTANT else talk)
        elif isinstance(example, str):
            native.append(Conversation.of_user(example.strip()))
        elif example.prompt.messages:
            keep_once(example.prompt)
        elif isinstance(example, Rating | Labelled):
            text = Conversation.of_user(example.completion.text)
            native.append(replace(text, columns=example.prompt.columns))
    return [*native, *derived.values()]


def with_tools(examples: list[Example], tools: str) -> list[Example]:
    """The examples of a row with the tools on offer (JSON text); a text that stands alone takes none."""

    def stands_alone(one: Example) -> bool:
        return isinstance(one, str) or not (isinstance(one, Conversation | Talk) or one.prompt.messages)

    return [one if stands_alone(one) else _with(one, tools=tools) for one in examples] if tools else examples


def with_columns(example: Example, columns: Mapping[str, Any]) -> Example:
    """The example with the columns of its row at its prompt."""
    return _with(Conversation.of_user(example.strip()) if isinstance(example, str) else example, columns=columns)


def _with(example: Example, **changes: Any) -> Example:
    """The example with changes to the fields of its prompt or conversation."""
    assert not isinstance(example, str)
    if isinstance(example, Conversation):
        return replace(example, **changes)
    if isinstance(example, Talk):
        return replace(example, conversation=replace(example.conversation, **changes))
    return replace(example, prompt=replace(example.prompt, **changes))


def texts(examples: Iterable[Example]) -> list[str]:
    """Texts unchanged; conversations with their best answer as transcripts."""
    made: list[str] = []
    for example in examples:
        if isinstance(example, str):
            made.append(example)
        elif isinstance(example, Conversation):
            made.append(format_transcript(example))
        elif isinstance(example, Talk):
            made.append(format_transcript(example.conversation))
        elif isinstance(example, Rating | Labelled):
            said = example.completion.text
            made.append(format_transcript(example.prompt.then(said)) if example.prompt.messages else said)
        else:
            made += [format_transcript(shown.conversation) for shown in demonstrations([example])]
    return made


def _shown(prompt: Conversation, completion: Completion) -> Demonstration:
    return Demonstration(conversation=prompt.then(completion.text))


def _worths(judged: Ranking | Scored) -> tuple[float, ...]:
    """A number for each completion, larger is better."""
    return judged.scores if isinstance(judged, Scored) else tuple(-float(rank) for rank in judged.ranks)


def _pairs(judged: Ranking | Scored, margin_per_score: float) -> Iterator[Comparison]:
    worth = _worths(judged)
    for left, right in combinations(range(len(worth)), 2):
        better, worse = (left, right) if worth[left] >= worth[right] else (right, left)
        if judged.completions[left] == judged.completions[right]:
            continue  # equal answers teach nothing
        yield Comparison(
            prompt=judged.prompt,
            chosen=judged.completions[better],
            rejected=judged.completions[worse],
            probability=0.5 if worth[left] == worth[right] else 1.0,
            margin=margin_per_score * (worth[better] - worth[worse]),
            group=(judged.group if isinstance(judged, Ranking) else "") or prompt_key(judged.prompt),
            provenance=judged.provenance,
        )


def _ranking(judged: Scored | Comparison, completions: Sequence[Completion], worths: Sequence[float]) -> Ranking:
    ranks, prompt = tuple(1 + sum(other > worth for other in worths) for worth in worths), judged.prompt
    group, who = prompt_key(prompt), judged.provenance
    return Ranking(prompt=prompt, completions=tuple(completions), ranks=ranks, group=group, provenance=who)


def _ranked_by_prompt(examples: Iterable[Example]) -> Iterator[Example]:
    """The examples. Two or more ratings of one prompt by one annotator and criterion become scores."""
    gathered: dict[tuple[Conversation, str, str | None], list[Rating]] = {}
    for example in examples:
        if isinstance(example, Rating) and example.prompt.messages:
            gathered.setdefault((example.prompt, example.criterion, example.provenance.who), []).append(example)
        else:
            yield example
    for rated in gathered.values():
        if len(rated) < 2:
            yield from rated
            continue
        completions, scores = zip(*((rating.completion, rating.score) for rating in rated), strict=True)
        yield Scored(prompt=rated[0].prompt, completions=completions, scores=scores, provenance=rated[0].provenance)
