"""The game against what is known of it, and the game as an environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from fakes import WordSampler

from assent.environments.games.board import (
    EMPTY_BOARD,
    best_moves,
    free_squares,
    has_won,
    is_over,
    moved,
    open_positions,
    positions,
    to_move,
    value,
)
from assent.environments.games.tictactoe import (
    OPENINGS,
    SQUARES,
    Opponent,
    TicTacToe,
    describe,
    plays_at_random,
    plays_perfectly,
    read_board,
    read_move,
)
from assent.environments.playing import play
from assent.text.template import ChatTemplate
from assent.types import Completion, Conversation, StopReason


def games(board: str = EMPTY_BOARD) -> int:
    """Counted one by one."""
    return 1 if is_over(board) else sum(games(moved(board, square)) for square in free_squares(board))


def test_positions_are_as_many_as_the_literature_counts() -> None:
    """5,478 positions, 958 of them ends: 626 won by X, 316 by O, 16 drawn."""
    ends = [board for board in positions() if is_over(board)]
    assert len(positions()) == len(set(positions())) == 5478 and len(open_positions()) == 4520
    won = [sum(has_won(board, player) for board in ends) for player in "XO"]
    assert (len(ends), *won) == (958, 626, 316) and len(ends) - sum(won) == 16


@pytest.mark.slow
def test_games_are_as_many_as_the_literature_counts() -> None:
    assert games() == 255_168


def test_the_search_finds_what_is_known() -> None:
    assert value(EMPTY_BOARD) == 0 and len(best_moves(EMPTY_BOARD)) == 9, "every opening draws"
    assert best_moves("X........") == (4,), "a corner is answered in the centre"
    assert set(best_moves("....X....")) == {0, 2, 6, 8}, "the centre in a corner"
    assert best_moves("XX.OO....") == (2,) and value("XX.OO....") == 1, "a win is taken"
    assert best_moves("XX..O....") == (2,) and value("XX..O....") == 0, "and one of the other side is stopped"
    assert all(value(board) == max(-value(moved(board, s)) for s in free_squares(board)) for board in open_positions())


def test_a_board_reads_back_and_nothing_else_is_one() -> None:
    assert describe("X...O....") == " Xa b c\n d Oe f\n g h i"
    assert [read_board(describe(board)) for board in open_positions()] == list(open_positions())
    for text in ("", " a b c", describe("XXX.OO..."), describe("XX......."), describe(EMPTY_BOARD).strip()):
        with pytest.raises(ValueError, match="no open position"):
            read_board(text)


def test_a_move_is_the_letter_of_a_free_square_and_nothing_more() -> None:
    board = "X...O...."
    assert [read_move(Completion(text=text), board) for text in ("b", " i ", "a", "e", "", "bc", "B", "j")] == [
        1, 8, None, None, None, None, None, None,
    ]  # fmt: skip
    assert read_move(Completion(text="b", stop=StopReason.LENGTH), board) is None


def as_policy(plays: Opponent, rng: Random) -> Callable[[Conversation], Completion]:
    return lambda talk: Completion(text=SQUARES[plays(read_board(talk.last_user_text), rng)])


def rewards(policy: Opponent, opponent: Opponent, openings: tuple[str, ...]) -> list[float]:
    environment, rng = TicTacToe(opponents={"only": opponent}), Random(1)
    starts = [Conversation.of_user(describe(board)) for board in openings] * 9
    played = [play(environment, start, as_policy(policy, rng), seed=seed) for seed, start in enumerate(starts)]
    assert all(one.stop is StopReason.END for one in played)
    return [one.reward for one in played if one.reward is not None]


def test_rewards_are_those_of_the_policys_own_side() -> None:
    for openings in (OPENINGS[:1], OPENINGS[1:]):
        assert set(rewards(plays_perfectly, plays_perfectly, openings)) == {0.0}
        strong, weak = (rewards(a, b, openings) for a, b in ((plays_perfectly, plays_at_random),
                                                            (plays_at_random, plays_perfectly)))  # fmt: skip
        assert min(strong) >= 0 and max(weak) <= 0 and 1.0 in strong and -1.0 in weak


def test_a_move_that_is_none_loses_at_once() -> None:
    for text, stop in (("a", StopReason.END), ("hello", StopReason.END), ("b", StopReason.LENGTH)):
        start = Conversation.of_user(describe("X........"))
        played = play(TicTacToe(), start, lambda _, t=text, s=stop: Completion(text=t, stop=s), seed=1)  # type: ignore[misc]
        assert (played.stop, played.reward, len(played.conversation.messages)) == (StopReason.END, -1.0, 2)


def test_prompts_are_openings_and_all_positions() -> None:
    boards = [read_board(prompt.last_user_text) for prompt in TicTacToe().prompts]
    half = len(boards) // 2
    assert boards[half:] == list(open_positions()) and set(boards[:half]) == set(OPENINGS)
    assert sum(to_move(board) == "X" for board in boards[:half]) == half // 2


def test_all_three_kinds_of_opponents_are_met_and_follow_from_the_seed() -> None:
    environment, start = TicTacToe(earlier=["?" * 4520]), TicTacToe().prompts[0]
    met = [environment.reset(start, seed=seed).opponent for seed in range(400)]
    shares = [sum(one is kind for one in met) / 400 for kind in (plays_at_random, plays_perfectly)]
    assert shares == pytest.approx([0.4, 0.3], abs=0.07)
    alone = [TicTacToe().reset(start, seed=seed).opponent for seed in range(400)]
    assert {*alone} == {plays_at_random, plays_perfectly}
    again = [environment.reset(start, seed=seed).opponent for seed in range(400)]
    assert [one is plays_perfectly for one in met] == [one is plays_perfectly for one in again]


def test_an_earlier_policy_is_asked_for_every_position_and_plays_what_it_said(template: ChatTemplate) -> None:
    class Saying(WordSampler):
        def sample(self, prompts, **given):  # type: ignore[no-untyped-def]
            first = [next(letter for letter in prompt.last_user_text.split() if len(letter) == 1) for prompt in prompts]
            turn = super().sample([Conversation.of_user("red")], **given)[0]
            return [replace(turn, completion=Completion(text=letter)) for letter in first]

    environment = TicTacToe()
    for iteration in range(41):
        environment.meet(Saying(template), iteration=iteration, seed=iteration)
    assert len(environment.earlier) == 2
    other = TicTacToe()
    other.load(environment.save())
    assert other.earlier == environment.earlier
    earlier = [one for seed in range(99) if (one := other.reset(other.prompts[0], seed=seed).opponent)
               not in (plays_at_random, plays_perfectly)]  # fmt: skip
    assert earlier and all(earlier[0](board, Random(0)) == free_squares(board)[0] for board in open_positions())
