"""Games against perfect and against random play: how many are won, drawn and lost on either side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from assent.environments.acting import Actor
from assent.environments.games.tictactoe import (
    OPENINGS,
    Opponent,
    TicTacToe,
    describe,
    plays_at_random,
    plays_perfectly,
)
from assent.ports.sampling import Sampler, SamplingParams
from assent.types import Conversation

OPPONENTS: Mapping[str, Opponent] = {"perfect play": plays_perfectly, "random play": plays_at_random}
SIDES = {"X": OPENINGS[:1], "O": OPENINGS[1:]}


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchResult:
    """Games of the policy as one side against one opponent."""

    opponent: str
    side: str
    won: int
    drawn: int
    lost: int

    @property
    def games(self) -> int:
        """All of them."""
        return self.won + self.drawn + self.lost

    def told(self) -> str:
        """In a line."""
        shares = (
            f"{self.won / self.games:.1%} won, {self.drawn / self.games:.1%} drawn, {self.lost / self.games:.1%} lost"
        )
        return f"{self.side} against {self.opponent}: {shares} ({self.games} games)"


def play_matches(sampler: Sampler, *, games: int, temperature: float, seed: int) -> list[MatchResult]:
    """`games` games (a multiple of 9) on each side against each opponent, in the environment the policy learned in.

    As O it meets every opening equally often. A move that is none loses.
    """
    results = []
    for opponent, plays in OPPONENTS.items():
        actor = Actor(
            sampler=sampler, sampling=SamplingParams(max_tokens=2, temperature=temperature),
            environment=TicTacToe(opponents={opponent: plays}),
        )  # fmt: skip
        for side, boards in SIDES.items():
            starts = [Conversation.of_user(describe(board)) for board in boards] * (games // len(boards))
            rewards = [episode.completion.reward for episode in actor.play(starts, seed=seed)]
            won, drawn, lost = (rewards.count(reward) for reward in (1.0, 0.0, -1.0))
            results.append(MatchResult(opponent=opponent, side=side, won=won, drawn=drawn, lost=lost))
    return results
