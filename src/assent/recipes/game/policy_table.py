"""What a policy does in every open position of the game, read from its weights in a few passes."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from assent.data.order import token_budget_batches
from assent.environments.games.board import free_squares, open_positions
from assent.environments.games.tictactoe import SQUARES, describe
from assent.model.flat import flatten
from assent.recipes.run.models import LanguageModel
from assent.types import Completion, Conversation

PolicyTable = Mapping[str, tuple[float, ...]]
"""For every open position the probability of each of the nine squares. What is missing to 1 is no square at all."""


@torch.no_grad()
def policy_table(model: LanguageModel) -> PolicyTable:
    """The probabilities of the first word of the answer, where the position is the whole prompt."""
    role, boards = model.role, list(open_positions())
    prompts = model.template.encode_prompts([Conversation.of_user(describe(board)) for board in boards])
    start = Conversation.of_user(describe(boards[0]))
    words = [model.template.encode_completion(start, Completion(text=letter)).ids[-2] for letter in SQUARES]
    role.body.model.eval()
    found: list[list[float]] = []
    for part in token_budget_batches([len(ids) for ids in prompts], role.body.read_at_once):
        batch = flatten([prompts[place] for place in part]).to(role.body.device)
        hidden_BH = role.body.hidden(batch, batch.last_B, adapter=role.adapter)
        found += torch.softmax(role.head.logits(hidden_BH).float(), -1)[:, words].tolist()
    return {board: tuple(row) for board, row in zip(boards, found, strict=True)}


def legal_share(table: PolicyTable) -> float:
    """The mean probability of a legal move over all open positions."""
    return sum(sum(row[square] for square in free_squares(board)) for board, row in table.items()) / len(table)
