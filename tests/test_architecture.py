"""The tree holds its shape: rooms and arrows, light imports, banned libraries, sizes, names. The tables are the rules.

A room is a top-level module or folder of `assent`; `ports`, `backends` and `feedback` are split into rooms too.
Modules may import rooms on lower levels and their own room, nothing else.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "assent"

LEVELS: dict[str, int] = {
    room: level
    for level, rooms in {
        0: "types errors metrics seeds",
        1: "losses durable interrupts config ports.sampling",
        2: "text model runs web feedback ports.generation ports.judging ports.environment",
        3: "world feedback.quality environments",
        4: "feedback.store active_learning",
        5: "feedback.exchange ports.learning",
        6: "data evals constitution studio serving",
        7: "algorithms backends.local backends.cluster",
        8: "recipes",
        9: "cli api",
    }.items()
    for room in rooms.split()
}
SPLIT_ROOMS = ("ports", "backends")
WITHOUT_TORCH = {
    "types", "errors", "metrics", "seeds", "config", "durable", "interrupts", "text", "world", "runs", "web",
    "ports.sampling", "ports.generation", "ports.judging", "ports.environment", "environments", "feedback",
    "feedback.store", "feedback.quality", "feedback.exchange", "studio", "serving", "constitution", "evals", "data",
}  # fmt: skip
ONLY_IN: dict[str, set[str]] = {  # library: the rooms that may import it
    "ray": {"backends.cluster"},
    "vllm": {"backends.cluster"},
    "sqlite3": {"feedback.store"},
    "sqlalchemy": {"feedback.store"},
    "starlette": {"studio", "serving", "web"},
    "fastapi": {"studio", "serving"},
    "uvicorn": {"studio", "serving", "web"},
    "flask": {"studio"},
    "aiohttp": {"studio"},
    "wandb": set(),  # through importlib in trackers, where it is there
    "trackio": set(),
}
BANNED = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
BANNED_CALLS = {"torch.load", "torch.save"}
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}
LAZY_IMPORT = (  # commands, optional extras, what is slow to import and seldom needed, a function that the user names
    "__init__.py",
    "cli.py",
    "data/hub.py",
    "runs/trackers.py",
    "recipes/run/terminal.py",
    "algorithms/methods.py",
    "recipes/run/user_code.py",
)
BROAD_EXCEPT = (
    "environments/sandbox.py",
    "environments/acting.py",  # whatever an environment raises fails its episode and no other
    "backends/cluster/supervisor.py",
    "studio/error_page.py",
    "serving/generation_queue.py",  # whatever a request does to the model is that request's error
    "recipes/run/reward_code.py",  # code that the user wrote may raise anything
)
FILE_LINES, FUNCTION_LINES, PARAMETERS, NESTING = 300, 50, 7, 3
NESTED = (ast.For, ast.AsyncFor, ast.While, ast.If, ast.Try, ast.With, ast.AsyncWith, ast.Match)
NOT_YET: dict[tuple[str, str], int] = {  # what is still larger, with the size that it may not exceed
}


@dataclass(frozen=True, slots=True)
class Module:
    """A source file: its dotted name, its path below the package, its tree."""

    name: str
    path: str
    tree: ast.Module
    lines: int

    @property
    def room(self) -> str:
        parts = self.name.split(".")[1:]
        return room_of(parts)


def room_of(parts: list[str]) -> str:
    if not parts:
        return ""
    inner = ".".join(parts[:2])
    return inner if inner in LEVELS or parts[0] in ("ports", "backends") else parts[0]


@cache
def modules() -> tuple[Module, ...]:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        inner = path.relative_to(SOURCE)
        parts = [*inner.parts[:-1]] + ([] if path.stem == "__init__" else [path.stem])
        text = path.read_text(encoding="utf-8")
        name = ".".join(["assent", *parts])
        found.append(Module(name, inner.as_posix(), ast.parse(text), len(text.splitlines())))
    return tuple(found)


def imports(tree: ast.AST, *, typing_too: bool = True) -> Iterator[tuple[str, int]]:
    """(dotted name, line) of everything imported; `from a import b` gives a and a.b."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield str(node.module), node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif typing_too or not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)):
            yield from imports(node, typing_too=typing_too)


@cache
def graph() -> dict[str, set[str]]:
    """Which module of ours imports which at run time."""
    names = {module.name for module in modules()}
    return {
        module.name: {name for name, _ in imports(module.tree, typing_too=False) if name in names and name != "assent"}
        for module in modules()
    }


def none_of(problems: list[str]) -> None:
    assert not problems, "\n" + "\n".join(problems)


def test_every_room_has_a_level() -> None:
    rooms = {module.room for module in modules()} - {"", *SPLIT_ROOMS, "__main__"}
    none_of([f"the room {room!r} stands in no level of LEVELS" for room in sorted(rooms - set(LEVELS))])


def test_arrows_only_go_down() -> None:
    problems = []
    for module in modules():
        for name, line in imports(module.tree):
            parts = name.split(".")
            if parts[0] != "assent" or module.room in ("", "__main__"):
                continue
            room = room_of(parts[1:])
            if room in LEVELS and room != module.room and LEVELS[room] >= LEVELS.get(module.room, 99):
                problems.append(
                    f"{module.path}:{line}: {module.room} (level {LEVELS[module.room]}) imports {name} "
                    f"(level {LEVELS[room]}); arrows only go down"
                )
    none_of(sorted(set(problems)))


def test_the_page_about_the_architecture_has_the_same_levels_and_rooms() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = {room: int(level) for level, rooms in re.findall(r"^ (\d)  (.+)$", page, re.MULTILINE)
             for room in rooms.split()}  # fmt: skip
    assert drawn == LEVELS
    tree = page.split("\nsrc/assent/\n", 1)[1].split("```", 1)[0]
    rooms = {path.name for path in SOURCE.iterdir() if path.suffix == ".py" or path.is_dir()}
    none_of([f"docs/architecture.md does not show {room}" for room in sorted(rooms) if room not in tree
             and not room.startswith("__")])  # fmt: skip


def test_no_module_imports_itself_through_others() -> None:
    edges, seen, path = graph(), set(), []
    problems = []

    def walk(name: str) -> None:
        if name in path:
            problems.append("cycle: " + " -> ".join([*path[path.index(name) :], name]))
            return
        if name in seen:
            return
        seen.add(name)
        path.append(name)
        for other in sorted(edges.get(name, ())):
            walk(other)
        path.pop()

    for name in sorted(edges):
        walk(name)
    none_of(problems)


def test_light_rooms_never_reach_torch() -> None:
    edges = graph()
    direct = {
        module.name
        for module in modules()
        if any(name.split(".")[0] == "torch" for name, _ in imports(module.tree, typing_too=False))
    }
    problems = []
    for module in modules():
        if module.room not in WITHOUT_TORCH:
            continue
        reached, waiting = set(), [(module.name,)]
        while waiting:
            way = waiting.pop()
            if way[-1] in direct:
                problems.append(f"{module.path} reaches torch: " + " -> ".join([*way, "torch"]))
                break
            for other in edges.get(way[-1], set()) - reached:
                reached.add(other)
                waiting.append((*way, other))
    none_of(problems)


@pytest.mark.parametrize(
    "name",
    [
        "assent",
        "assent.cli",
        "assent.text.template",
        "assent.types",
        "assent.evals.report",
        "assent.recipes.annotation.feedback_commands",
        "assent.recipes.annotation.studio_command",
    ],
)
def test_importing_it_loads_no_torch(name: str) -> None:
    if not any(module.name == name for module in modules()):
        pytest.skip(f"{name} does not exist")
    code = f"import sys, {name}; sys.exit('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE.parent)}, check=False)
    assert result.returncode == 0, f"importing {name} loads torch"


def test_libraries_stay_in_their_rooms() -> None:
    problems = []
    for module in modules():
        for name, line in imports(module.tree):
            library = name.split(".")[0]
            if library in BANNED:
                problems.append(f"{module.path}:{line}: {library} runs code or is not ours to read")
            if library in ONLY_IN and module.room not in ONLY_IN[library]:
                problems.append(f"{module.path}:{line}: {library} belongs to {sorted(ONLY_IN[library]) or 'nobody'}")
    none_of(problems)


def test_nothing_is_unpickled_and_no_remote_code_is_trusted() -> None:
    problems = []
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in BANNED_CALLS:
                problems.append(f"{module.path}:{node.lineno}: {ast.unparse(node)} is pickle")
            risky = isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle")
            if risky and ast.unparse(node.value) != "False":
                problems.append(f"{module.path}:{node.value.lineno}: {node.arg} may only be False")
            if isinstance(node, ast.Constant) and node.value in ("trust_remote_code", "allow_pickle"):
                problems.append(f"{module.path}:{node.lineno}: {node.value} as text could become a keyword")
    none_of(problems)


def test_imports_stand_at_the_top() -> None:
    problems = []
    for module in modules():
        for function in ast.walk(module.tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                problems += [f"{module.path}:{line}: {name} is imported inside {function.name}"
                             for name, line in imports(function)]  # fmt: skip
        lazy = module.path in LAZY_IMPORT
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and node.attr == "import_module" and not lazy:
                problems.append(f"{module.path}:{node.lineno}: importlib loads a module by name")
    none_of(problems)


def test_no_except_is_broad_unless_it_cleans_up_and_raises() -> None:
    problems = []
    for module in modules():
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ExceptHandler) or module.path in BROAD_EXCEPT:
                continue
            broad = node.type is None or any(
                isinstance(part, ast.Name) and part.id in ("Exception", "BaseException") for part in ast.walk(node.type)
            )
            last = node.body[-1]
            if broad and not (isinstance(last, ast.Raise) and last.exc is None):
                problems.append(f"{module.path}:{node.lineno}: catches everything and goes on")
    none_of(problems)


def nesting(node: ast.AST, depth: int = 0) -> int:
    """How many blocks stand inside each other; `elif` opens none, and an inner function is measured by itself."""
    deepest = depth
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        deepest = max(deepest, nesting(child, depth + (isinstance(child, NESTED) and not is_elif)))
    return deepest


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """All of them: `self`, keyword-only ones, `*args` and `**kwargs` too."""
    given = function.args
    return len([*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))])


def sizes(module: Module) -> Iterator[tuple[str, str, int, int]]:
    """(place, what is measured, its size, the limit) of a file and of its functions."""
    yield module.path, "lines", module.lines, FILE_LINES
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            place = f"{module.path}:{node.name}"
            yield place, "lines", (node.end_lineno or node.lineno) - node.lineno + 1, FUNCTION_LINES
            yield place, "parameters", parameters(node), PARAMETERS
            yield place, "nested blocks", nesting(node), NESTING


def test_files_and_functions_are_small() -> None:
    over, problems = set(), []
    for place, what, size, limit in (one for module in modules() for one in sizes(module)):
        if size > limit:
            over.add((place, what))
            if size > (allowed := NOT_YET.get((place, what), limit)):
                problems.append(f"{place}: {size} {what}, at most {allowed}")
    none_of([*problems, *(f"{place}: no longer needed in NOT_YET ({what})" for place, what in NOT_YET.keys() - over)])


def test_names_say_something() -> None:
    paths = [path for folder in ("src", "tests") for path in (ROOT / folder).rglob("*.py")]
    none_of([f"{path.relative_to(ROOT)}: a name that says nothing" for path in paths if path.stem in BANNED_NAMES])


def test_packages_run_nothing_when_imported() -> None:
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef)
    problems = []
    for module in modules():
        if not module.path.endswith("__init__.py"):
            continue
        for node in module.tree.body:
            text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            lazy = not isinstance(node, ast.FunctionDef) or node.name in ("__getattr__", "__dir__")
            typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            if not text and not typing and not (isinstance(node, allowed) and lazy):
                problems.append(f"{module.path}:{node.lineno}: more than a list of names")
        if module.lines > 40:
            problems.append(f"{module.path}: {module.lines} lines; a short list of names at most")
    none_of(problems)


def test_imports_are_seen_wherever_they_stand() -> None:
    tree = ast.parse("if TYPE_CHECKING:\n    import a\ndef f():\n    from b import c\n")
    assert list(imports(tree)) == [("a", 2), ("b", 4), ("b.c", 4)]
    assert list(imports(tree, typing_too=False)) == [("b", 4), ("b.c", 4)]
    assert room_of(["ports", "learning"]) == "ports.learning" and room_of(["model", "flat"]) == "model"


def test_sizes_are_measured_as_the_style_counts_them() -> None:
    code = """
class A:
    def f(self, a, /, b, *rest, c, **more):
        if a:
            pass
        elif b:
            for _ in rest:
                with c:
                    pass
        def g():
            while True:
                pass
"""
    tree = ast.parse(code)
    measured = {(place, what): size for place, what, size, _ in sizes(Module("assent.a", "a.py", tree, 13))}
    assert measured == {
        ("a.py", "lines"): 13,
        ("a.py:f", "lines"): 10, ("a.py:f", "parameters"): 6, ("a.py:f", "nested blocks"): 3,
        ("a.py:g", "lines"): 3, ("a.py:g", "parameters"): 0, ("a.py:g", "nested blocks"): 1,
    }  # fmt: skip
