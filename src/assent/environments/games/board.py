"""Tic-tac-toe: its rules, all its positions, and perfect play by exhaustive search.

A board is nine characters, row by row: X, O or a point. X begins. Squares are numbered from 0.

value(b) = max over moves of -value(b after the move)        for who is to move; 1: a won game, 0: a drawn one
"""

from __future__ import annotations

from functools import cache

EMPTY_BOARD = "." * 9
LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


def to_move(board: str) -> str:
    """Whose turn it is."""
    return "X" if board.count("X") == board.count("O") else "O"


def has_won(board: str, player: str) -> bool:
    """Whether three marks of a player stand in a line."""
    return any(all(board[square] == player for square in line) for line in LINES)


def is_over(board: str) -> bool:
    """Whether someone has won or no square is free."""
    return "." not in board or has_won(board, "X") or has_won(board, "O")


def free_squares(board: str) -> list[int]:
    """Where a mark can be made."""
    return [square for square, mark in enumerate(board) if mark == "."]


def moved(board: str, square: int) -> str:
    """The board after a move of the player whose turn it is."""
    return board[:square] + to_move(board) + board[square + 1 :]


@cache
def value(board: str) -> int:
    """What perfect play gives the player who is to move: 1, 0 or -1."""
    if is_over(board):  # whoever has won made the last move
        return -1 if has_won(board, "X") or has_won(board, "O") else 0
    return max(-value(moved(board, square)) for square in free_squares(board))


@cache
def best_moves(board: str) -> tuple[int, ...]:
    """The moves of perfect play."""
    return tuple(square for square in free_squares(board) if -value(moved(board, square)) == value(board))


@cache
def positions() -> tuple[str, ...]:
    """Every position that a game can come to, the ends among them, by their number of marks."""
    found = [EMPTY_BOARD]
    seen = set(found)
    for board in found:  # it grows
        after = [] if is_over(board) else [moved(board, square) for square in free_squares(board)]
        found += [one for one in dict.fromkeys(after) if one not in seen]
        seen.update(after)
    return tuple(found)


@cache
def open_positions() -> dict[str, int]:
    """The positions in which a move is to be made, with their numbers in this order."""
    return {board: number for number, board in enumerate(one for one in positions() if not is_over(one))}
