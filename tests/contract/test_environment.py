"""What every Environment promises: episodes that do not touch each other, follow from their seed and come to an end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fakes import GuessingGame, Quoting

from assent.environments.playing import play
from assent.environments.single_turn import SingleTurn
from assent.ports.environment import Environment, StepResult
from assent.types import Completion, Conversation, Message, Role, StopReason

PROMPT = Conversation.of_user("Guess my number from 0 to 15.")
ENVIRONMENTS: dict[str, Callable[[], Environment]] = {
    "single turn": SingleTurn, "guessing game": GuessingGame, "quoting": Quoting,
}  # fmt: skip
every_environment = pytest.mark.parametrize("name", ENVIRONMENTS)


def halving(conversation: Conversation) -> Completion:
    """Guesses the middle of what is left."""
    low, high, said = 0, 15, ""
    for message in conversation.messages:
        if message.role is Role.ASSISTANT:
            said = message.content
        elif message.content == "higher":
            low = int(said) + 1
        elif message.content == "lower":
            high = int(said) - 1
    return Completion(text=str((low + high) // 2))


@every_environment
def test_an_episode_goes_on_with_messages_for_the_policy_or_stops(name: str) -> None:
    episode = ENVIRONMENTS[name]().reset(PROMPT, seed=1)
    conversation = episode.prompt
    for _ in range(20):
        completion = halving(conversation)
        result = episode.step(completion)
        if result.stop is not None:
            assert not result.messages
            return
        assert result.messages and result.messages[-1].role is not Role.ASSISTANT
        said = Message(role=Role.ASSISTANT, content=completion.text)
        conversation = Conversation(messages=(*conversation.messages, said, *result.messages))
    pytest.fail("the episode does not end")


@every_environment
def test_episodes_side_by_side_are_those_of_each_alone_and_follow_from_the_seed(name: str) -> None:
    environment = ENVIRONMENTS[name]()
    alone = [play(environment, PROMPT, halving, seed=seed) for seed in range(6)]
    assert alone == [play(environment, PROMPT, halving, seed=seed) for seed in range(6)]
    episodes = [environment.reset(PROMPT, seed=seed) for seed in range(6)]
    first = [episode.step(halving(episode.prompt)) for episode in episodes]
    for one, played in zip(first, alone, strict=True):
        assert played.conversation.messages[2 : 2 + len(one.messages)] == one.messages


@every_environment
def test_a_turn_that_was_cut_ends_the_episode_without_success(name: str) -> None:
    cut = play(ENVIRONMENTS[name](), PROMPT, lambda _: Completion(text="7", stop=StopReason.LENGTH), seed=1)
    assert cut.stop is StopReason.LENGTH and cut.reward in (None, 0.0)


@every_environment
def test_a_failed_turn_is_a_failed_episode(name: str) -> None:
    failed = play(ENVIRONMENTS[name](), PROMPT, lambda _: Completion(text="", stop=StopReason.ERROR), seed=1)
    assert failed.stop is StopReason.ERROR and failed.reward is None


def test_the_single_turn_is_prompt_and_answer() -> None:
    played = play(SingleTurn(), PROMPT, lambda _: Completion(text="seven"), seed=0)
    assert played.conversation == PROMPT.then("seven")
    assert (played.stop, played.reward) == (StopReason.END, None)


def test_a_game_is_won_by_playing_and_nonsense_is_an_error_and_not_a_success() -> None:
    won = [play(GuessingGame(), PROMPT, halving, seed=seed) for seed in range(16)]
    assert all((one.stop, one.reward) == (StopReason.END, 1.0) for one in won)
    assert len({one.conversation.messages[-1].content for one in won}) > 4
    broken = play(GuessingGame(), PROMPT, lambda _: Completion(text="banana"), seed=0)
    assert (broken.stop, broken.reward) == (StopReason.ERROR, None)
    endless = play(GuessingGame(), PROMPT, lambda _: Completion(text="16"), seed=0, most_turns=5)
    assert (endless.stop, endless.reward, len(endless.conversation.messages)) == (StopReason.TURNS, None, 11)


def test_a_failed_or_unfinished_episode_cannot_be_rewarded() -> None:
    question = (Message(role=Role.USER, content="and?"),)
    for given in ({"stop": StopReason.ERROR, "reward": 1.0}, {"messages": question, "reward": 1.0}, {},
                  {"messages": question, "stop": StopReason.END}):  # fmt: skip
        with pytest.raises(AssertionError):
            StepResult(**given)
