"""One small family of errors. Every message says what is wrong, where, and what to do now."""

from __future__ import annotations


class AssentError(Exception):
    """Base of all errors a user may see; the command line prints `str(error)` and exits with `exit_code`."""

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, now: str | None = None) -> None:
        self.what, self.where, self.now = _printable(what).rstrip("."), where and _printable(where), now
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        if "\n" in self.what:  # a list: the advice goes below it
            return f"{place}{self.what}" + (f"\n{self.now}" if self.now else "")
        end = "" if self.what.endswith(("?", "!")) else "."
        return f"{place}{self.what}{end}" + (f" {self.now}" if self.now else "")


def _printable(text: str) -> str:
    """Text for any terminal and log: half of a surrogate pair, quoted from user input, is escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


class ConfigError(AssentError):
    """A setting, a path, a model or a tokenizer that cannot be used."""


class DataError(AssentError):
    """A file, row or field that cannot be read."""


class StoreError(AssentError):
    """The feedback store refused or failed."""


class BackendError(AssentError):
    """The machine (device, memory, worker) could not do the work."""

    exit_code = 1


class RunError(AssentError):
    """A run cannot be started, continued or saved."""


class Interrupted(AssentError):
    """A signal asked the run to stop; its state is saved and it can be resumed."""

    exit_code = 143
