"""Tic-tac-toe as text: the board is shown, the policy names a square, its opponent answers.

state       the board in the last message: the squares a to i, with the mark before the letter of those that are taken
action      the policy's answer: the letter of a free square
reward      at the end 1 for a game won, 0 for a draw, -1 for one lost, by a move that is none as well
trajectory  the conversation

An episode begins in the position of its prompt. Its opponent is drawn by lot: one that moves at random, one that plays
perfectly, or an earlier policy (self-play), which the environment meets every so many iterations.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from random import Random

from assent.environments.games.board import (
    EMPTY_BOARD,
    best_moves,
    free_squares,
    has_won,
    is_over,
    moved,
    open_positions,
    to_move,
)
from assent.ports.environment import StepResult
from assent.ports.sampling import Sampler, SamplingParams
from assent.seeds import python_rng
from assent.types import Completion, Conversation, Message, Role, StopReason

Opponent = Callable[[str, Random], int]
"""(board, what draws by lot): the square that it takes."""

SQUARES = "abcdefghi"
OPENINGS = (EMPTY_BOARD, *(moved(EMPTY_BOARD, square) for square in range(9)))
_MEET_EVERY = 20  # iterations
_SHARES = (0.4, 0.3, 0.3)  # of the episodes: against random play, perfect play, earlier policies


def plays_at_random(board: str, rng: Random) -> int:
    """Any free square."""
    return rng.choice(free_squares(board))


def plays_perfectly(board: str, rng: Random) -> int:
    """Any of the moves of perfect play."""
    return rng.choice(best_moves(board))


def describe(board: str) -> str:
    """The state as the policy reads it. A square is one word whatever stands on it, so no word depends on its place."""
    squares = [letter if mark == "." else mark + letter for letter, mark in zip(SQUARES, board, strict=True)]
    return "\n".join(" ".join(["", *squares[first : first + 3]]) for first in (0, 3, 6))


def read_board(text: str) -> str:
    """The reverse of `describe`. Raises ValueError for what is no open position."""
    board = "".join(word[0] if len(word) == 2 else "." for word in text.split())
    if board not in open_positions() or describe(board) != text:
        raise ValueError(f"no open position of tic-tac-toe: {text[:60]!r}")
    return board


def read_move(completion: Completion, board: str) -> int | None:
    """The square that the policy names, or None for what is no move here."""
    free = {SQUARES[square]: square for square in free_squares(board)}
    return free.get(completion.text.strip()) if completion.stop is StopReason.END else None


@dataclass(slots=True)
class TicTacToe:
    """Games from every position, half of them from an opening; `opponents` may replace the lot of three."""

    opponents: Mapping[str, Opponent] = field(default_factory=dict)
    earlier: list[str] = field(default_factory=list)  # for each earlier policy its move in every open position

    @property
    def prompts(self) -> tuple[Conversation, ...]:
        """As many openings as positions."""
        return _prompts()

    def reset(self, prompt: Conversation, *, seed: int) -> Game:
        """A game from the position that the prompt shows."""
        rng = python_rng(seed, "game")
        return Game(prompt=prompt, board=read_board(prompt.last_user_text), opponent=self._opponent(rng), rng=rng)

    def _opponent(self, rng: Random) -> Opponent:
        if self.opponents:
            return rng.choice(list(self.opponents.values()))
        random, perfect, _ = _SHARES
        drawn = rng.random() * (1.0 if self.earlier else random + perfect)
        if drawn < random:
            return plays_at_random
        return plays_perfectly if drawn < random + perfect else _plays_as(rng.choice(self.earlier))

    def meet(self, sampler: Sampler, *, iteration: int, seed: int) -> None:
        """Ask the policy what it does in every position, every so many iterations."""
        if iteration == 0 or iteration % _MEET_EVERY:
            return
        asked = [Conversation.of_user(describe(board)) for board in open_positions()]
        turns = sampler.sample(asked, sampling=SamplingParams(max_tokens=2), seed=seed)
        moves = [read_move(turn.completion, board) for turn, board in zip(turns, open_positions(), strict=True)]
        self.earlier.append("".join("?" if move is None else str(move) for move in moves))

    def save(self) -> str:
        """The earlier policies."""
        return json.dumps(self.earlier)

    def load(self, state: str) -> None:
        """The reverse of `save`."""
        self.earlier = json.loads(state)


@dataclass(slots=True, kw_only=True)
class Game:
    """A game under way; on the board it is the policy's turn."""

    prompt: Conversation
    board: str
    opponent: Opponent
    rng: Random

    def step(self, completion: Completion) -> StepResult:
        """The policy's move, then its opponent's."""
        player, move = to_move(self.board), read_move(completion, self.board)
        if move is None:
            return StepResult(stop=StopReason.END, reward=-1.0)
        self.board = moved(self.board, move)
        if not is_over(self.board):
            self.board = moved(self.board, self.opponent(self.board, self.rng))
        if is_over(self.board):
            won, lost = has_won(self.board, player), has_won(self.board, "XO"[player == "X"])
            return StepResult(stop=StopReason.END, reward=float(won - lost))
        return StepResult(messages=(Message(role=Role.USER, content=describe(self.board)),))


@cache
def _prompts() -> tuple[Conversation, ...]:
    every = open_positions()
    openings = [OPENINGS[0 if place % 2 else 1 + place // 2 % 9] for place in range(len(every))]
    return tuple(Conversation.of_user(describe(board)) for board in (*openings, *every))


def _plays_as(moves: str) -> Opponent:
    """An earlier policy; where it knew no move, any."""

    def play(board: str, rng: Random) -> int:
        move = moves[open_positions()[board]]
        return plays_at_random(board, rng) if move == "?" else int(move)

    return play
