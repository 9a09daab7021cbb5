"""What a command was asked for: its files, its settings and the flags that it alone has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assent.config import Chosen, parse
from assent.recipes.run.inputs import Files


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call of the command `name`, typed by a person or made by a pipeline or a round.

    `base` holds settings that lie below those of `settings_file` and of `overrides` (KEY=VALUE). `own` are the flags of
    single commands (--store, --port, ...) as the command line parsed them.
    """

    name: str = ""
    files: Files
    rewards: tuple[str, ...] = ()
    environment: str | None = None
    against: str | None = None
    base: Mapping[str, Any] = field(default_factory=dict)
    settings_file: Path | None = None
    overrides: tuple[str, ...] = ()
    own: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(flags: Mapping[str, Any]) -> Request:
        """The request of a parsed command line; flags that the command does not have are absent."""
        flags = {name: value for name, value in flags.items() if value is not None}
        reward = flags.get("reward", ())
        return Request(
            name=flags.get("command", ""),
            files=Files(
                model=flags.get("model", ""),
                out=Path(flags.get("out", "")),
                data=tuple(flags.get("data", ())),
                eval_data=tuple(flags.get("eval_data", ())),
                format=flags.get("format"),
                on_bad_row=flags.get("on_bad_row", "stop"),
                resume=flags.get("resume", False),
                overwrite=flags.get("overwrite", False),
                command=flags.get("typed", ""),
            ),
            rewards=(reward,) if isinstance(reward, str) else tuple(reward),
            environment=flags.get("environment"),
            against=flags.get("against"),
            settings_file=Path(flags["settings"]) if "settings" in flags else None,
            overrides=tuple(flags.get("set", ())),
            own=flags,
        )

    def settings(self, kind: type[Chosen], *, base: Mapping[str, Any] | None = None) -> Chosen:
        """The command's settings from `base`, --settings and --set; the later wins.

        Give `base` where a section's own defaults differ from its class's: setting one key must not reset the others.
        """
        return parse(kind, file=self.settings_file, overrides=self.overrides, base=base or self.base)

    def text(self, flag: str) -> str | None:
        """The value of a flag of this command alone."""
        value = self.own.get(flag)
        return None if value is None else str(value)
