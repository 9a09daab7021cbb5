"""The command line. Starts without torch: what a command needs is loaded when it runs."""

from __future__ import annotations

import argparse
import difflib
import importlib
import re
import shlex
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from assent import __version__
from assent.errors import AssentError, ConfigError
from assent.recipes.command_flags import FLAGS
from assent.recipes.command_table import COMMANDS, GROUPS, Command, sections

_DESCRIPTION = "Align language models with human preferences: labels in, an aligned model and the evidence out."


class _Parser(argparse.ArgumentParser):
    """Errors in the house's form: what, and what now."""

    def error(self, message: str) -> Any:
        """Print one line and exit with code 2."""
        self.exit(2, f"assent: {message}. Try: {self.prog} --help\n")


class _Main(_Parser):
    """The list of commands in sections, and a suggestion for a command that there is not."""

    def format_help(self) -> str:
        """Usage, and the commands section by section."""
        told = {**{name: one.help for name, one in COMMANDS.items() if " " not in name}, **GROUPS}
        lines = [f"usage: {self.prog} [--version] COMMAND ...", "", *textwrap.wrap(_DESCRIPTION, 78)]
        for section, names in sections().items():
            lines += ["", f"{section}:"]
            for name in names:
                wrapped = textwrap.wrap(told[name], 61)
                lines += [f"  {name:<16}{wrapped[0]}", *(f"{'':<18}{rest}" for rest in wrapped[1:])]
        lines += ["", "`assent COMMAND --help` shows the flags of a command and an example.",
                  "`assent settings COMMAND` shows all of its settings."]  # fmt: skip
        return "\n".join(lines) + "\n"

    def error(self, message: str) -> Any:
        """With the command that was perhaps meant."""
        typed = re.match(r"argument COMMAND: invalid choice: '([^']*)'", message)
        if typed:
            known = [name.split()[0] for name in COMMANDS]
            close = difflib.get_close_matches(typed[1], known, n=1)
            meant = f'. Did you mean "{close[0]}"?' if close else ". `assent --help` lists the commands"
            self.exit(2, f'assent: there is no command "{typed[1]}"{meant}\n')
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Main(prog="assent", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"assent {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    groups: dict[str, Any] = {}
    for name, command in COMMANDS.items():
        group, _, action = name.rpartition(" ")
        if group and group not in groups:
            whole = commands.add_parser(group, help=GROUPS[group], description=f"{GROUPS[group].capitalize()}.")
            groups[group] = whole.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=_Parser)
        more = f"\n\nall settings for --set:\n  assent settings {name}" if command.settings else ""
        one = (groups[group] if group else commands).add_parser(
            action,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=f"example:\n  {command.example}{more}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        for flag in command.flags:
            name, options = FLAGS[flag]
            one.add_argument(name, **options)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; errors people can mend are one line on stderr, never a traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser()
    parsed, unknown = parser.parse_known_args(given)
    parsed.typed = shlex.join(["assent", *given])
    action = getattr(parsed, "action", None)
    name = f"{parsed.command} {action}" if action else parsed.command
    try:
        if unknown:
            _refuse(unknown, name)
        _enter(COMMANDS[name], parsed)
    except AssentError as error:
        print(f"assent: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("assent: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    return 0


def _refuse(unknown: Sequence[str], name: str) -> None:
    """Name an argument that the command does not take; if it is one of its settings, how that is set."""
    flag, _, value = unknown[0].partition("=")
    setting = flag.lstrip("-").replace("-", "_")
    if flag.startswith("--") and COMMANDS[name].settings:
        module = _imported("assent.recipes.settings_command")
        if close := module.setting_like(name, COMMANDS[name].settings, setting):
            given = value or next((one for one in unknown[1:2] if not one.startswith("--")), "VALUE")
            raise ConfigError(f"{flag} is no flag of this command", now=f"Write --set {close}={given}.")
    raise ConfigError(f"{unknown[0]} is no argument of this command", now=f"Try: assent {name} --help")


def _enter(command: Command, parsed: argparse.Namespace) -> None:
    module, function = command.entry.split(":")
    if command.door == "models":
        _imported("assent.recipes.run.terminal").run(module, function, parsed)
    elif command.door == "files":
        request = _imported("assent.recipes.run.request").Request.of(vars(parsed))
        getattr(_imported(module), function)(request, _imported("assent.recipes.run.progress").Display())
    else:
        keywords = {name: value for name, value in vars(parsed).items() if name not in ("command", "action", "typed")}
        getattr(_imported(module), function)(**keywords)


def _imported(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("assent"):
            raise
        now = 'Install the extra: pip install "assent[studio]".'
        raise ConfigError(f"the library {error.name} is not installed", now=now) from error


if __name__ == "__main__":
    sys.exit(main())
