"""Where learning the game begins: a small model of random weights that has seen random legal games, and nothing else.

It knows how a move is written and which squares are free. It knows of no good move.
"""

from __future__ import annotations

from random import Random

import torch

from assent.algorithms.loop import Task
from assent.algorithms.sft import SFT, SFTSettings
from assent.environments.games.board import is_over, moved, open_positions
from assent.environments.games.tictactoe import OPENINGS, SQUARES, describe, plays_at_random
from assent.model.body import Body
from assent.model.fresh import ModelShape, new_causal_lm
from assent.model.roles import LanguageRole
from assent.recipes.run.models import LanguageModel
from assent.recipes.training.prepare import Prepared, prepare_offline
from assent.seeds import python_rng
from assent.text.template import ChatTemplate
from assent.text.tokenizer import train_tokenizer
from assent.types import Conversation, Demonstration, Message, Role
from assent.world.corpus import CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS

SHAPE = ModelShape(vocabulary_size=320, hidden_size=64, layers=2, heads=4, intermediate_size=256, context=96)
SETTINGS = SFTSettings(epochs=4, batch_size=64, learning_rate=3e-3)
_GAMES = 8_192


def fresh_model(*, seed: int, shape: ModelShape = SHAPE) -> LanguageModel:
    """A model of random weights whose tokenizer writes a square as one token."""
    texts = [describe(board) for board in open_positions()]
    tokenizer = train_tokenizer(
        texts, vocabulary_size=shape.vocabulary_size, special_tokens=SPECIAL_TOKENS, end=END, pad=PAD,
        chat_template=CHAT_TEMPLATE,
    )  # fmt: skip
    template = ChatTemplate(tokenizer)
    network = new_causal_lm(
        shape, vocabulary=template.vocabulary_size, end_id=template.end_id, pad_id=template.pad_id, seed=seed
    )
    return LanguageModel(
        role=LanguageRole(Body(network, device=torch.device("cpu"), precision="fp32")), template=template, path=""
    )


def random_games(count: int, *, seed: int) -> list[Demonstration]:
    """Games from openings and other positions, in which both sides take any free square."""
    every = list(open_positions())
    return [
        Demonstration(conversation=_game(rng.choice(every if number % 2 else OPENINGS), rng))
        for number, rng in ((number, python_rng(seed, "game", number)) for number in range(count))
    ]


def _game(board: str, rng: Random) -> Conversation:
    messages: list[Message] = []
    while not is_over(board):
        square = plays_at_random(board, rng)
        messages.append(Message(role=Role.USER, content=describe(board)))
        messages.append(Message(role=Role.ASSISTANT, content=SQUARES[square]))
        board = moved(board, square)
        if not is_over(board):
            board = moved(board, plays_at_random(board, rng))
    return Conversation(messages=tuple(messages))


def prepare_novice(
    model: LanguageModel, *, seed: int, games: int = _GAMES, settings: SFTSettings = SETTINGS
) -> Prepared[Task]:
    """The training of a fresh model on random games."""
    return prepare_offline(SFT, model, random_games(games, seed=seed), settings, seed=seed)
