"""What a command was asked for: its flags, its files and its settings."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assent.config import Chosen, parse
from assent.recipes.run.inputs import Files


class Request:
    """The flags of one command; flags that the command does not have read as empty."""

    def __init__(self, parsed: argparse.Namespace, *, base: Mapping[str, Any] | None = None) -> None:
        self._parsed, self._base = parsed, base

    def settings(self, kind: type[Chosen], *, base: Mapping[str, Any] | None = None) -> Chosen:
        """The command's settings from `base`, --settings and --set; the later wins.

        Give `base` where a section's own defaults differ from its class's: setting one key must not reset the others.
        """
        file = self.text("settings")
        return parse(kind, file=Path(file) if file else None, overrides=self.texts("set"), base=base or self._base)

    @property
    def files(self) -> Files:
        """Models, data and output."""
        return Files(
            model=self.text("model") or "",
            out=Path(self.text("out") or ""),
            data=tuple(self.texts("data")),
            eval_data=tuple(self.texts("eval_data")),
            format=self.text("format"),
            on_bad_row=self.text("on_bad_row") or "stop",
            resume=bool(getattr(self._parsed, "resume", False)),
            overwrite=bool(getattr(self._parsed, "overwrite", False)),
            command=self.text("typed") or "",
        )

    def text(self, flag: str) -> str | None:
        """The value of one flag."""
        value = getattr(self._parsed, flag, None)
        return None if value is None else str(value)

    def texts(self, flag: str) -> list[str]:
        """The values of a flag that may be given several times (or were given once, as text)."""
        value = getattr(self._parsed, flag, None) or []
        return [value] if isinstance(value, str) else [str(one) for one in value]
