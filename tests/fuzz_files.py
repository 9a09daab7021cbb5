"""Random files against the importers: `python tests/fuzz_files.py --files 20000 --seed 0` prints what came of them.

A file has rows of one known format, each with the annotation that it holds. It is written in a random container, and
then nothing, some rows or some bytes are spoilt. What must hold: nothing but a DataError that names the file comes out;
and where a file is read, the annotations of all rows that were not spoilt are there, equal, and no spoilt row has gone
without a word (it is read, or set aside).
"""

from __future__ import annotations

import argparse
import copy
import csv
import gzip
import io
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from running import assent

from assent.data.load import (
    ReadOptions,
    load_comparisons,
    load_demonstrations,
    load_prompts,
    load_rankings,
    load_ratings,
    load_texts,
)
from assent.errors import DataError
from assent.feedback.store.store import FeedbackStore
from assent.recipes.annotation.feedback_reading import ImportFile, ImportJob, read_import

LOADERS = (load_comparisons, load_demonstrations, load_prompts, load_rankings, load_ratings, load_texts)
CONTAINERS = ("jsonl", "json", "data.json", "csv", "tsv", "parquet")
PIECES = (
    "word",
    "é",
    "日本",
    "🙂",
    "\u2028",
    "\u0085",
    '"',
    "'",
    ",",
    "\t",
    "\n",
    "\\n",
    "[1]",
    "{x}",
    "= 2",
    "</s>",
    "#",
)
JUNK = (
    None, True, "", " ", "x", 0, -1, 3.5, 10**400, -(10**30), float("nan"), float("inf"), "\ud800", "a\ud83d", "\0",
    [], {}, [[]], [None], {"role": "user"}, {"from": "x", "value": 1}, [{"role": "king", "content": "x"}], "[", "[{",
    "1e999", [1, "a", None], {"a": {"b": {"c": [1]}}}, "\n\nHuman:", [{"role": "user", "content": None}], "x" * 300_000,
)  # fmt: skip
_NAMES = ("label", "score", "chosen", "messages", "prompt", "response", "answers", "rank", "winner", "text", "data")

Answer = tuple[str, tuple[str, ...], str]
"""(kind of judgement, completions, payload as JSON)"""


@dataclass(frozen=True, slots=True)
class Row:
    """A valid row, the token that only its texts hold, and the annotations in it."""

    fields: dict[str, Any]
    token: str
    answers: tuple[Answer, ...]


@dataclass(slots=True)
class Outcomes:
    """Counts of what came of the files, and what was wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def text(rng: random.Random, token: str) -> str:
    """A text that holds the token and begins and ends with letters."""
    told = "".join(rng.choice(PIECES) + rng.choice(("", " ")) for _ in range(rng.randrange(6)))
    return f"a{token} {told}z{rng.randrange(10**6)}"


def answer(kind: str, completions: tuple[str, ...], payload: dict[str, Any]) -> Answer:
    return (kind, completions, json.dumps(payload, sort_keys=True))


def pair(first: str, second: str, strength: int = -3) -> tuple[Answer, ...]:
    return (answer("pairwise", (first, second), {"strength": strength}),)


def said(role: str, told: str) -> dict[str, str]:
    return {"role": role, "content": told}


def comparison(rng: random.Random, token: str) -> Row:
    """chosen and rejected in one of their forms."""
    asked, good, bad = (text(rng, token) for _ in range(3))
    user, better, worse = said("user", asked), said("assistant", good), said("assistant", bad)
    call, result = said("assistant", "call"), said("tool", "result")
    forms: list[dict[str, Any]] = [
        {"prompt": asked, "chosen": good, "rejected": bad},
        {"question": asked, "chosen": good, "rejected": bad, "system": "be kind"},
        {"prompt": [user], "chosen": [better], "rejected": [worse]},
        {"chosen": [user, better], "rejected": [user, worse]},
        {"prompt": asked, "chosen": [user, better], "rejected": [user, worse]},
        {"prompt": [user], "chosen": [call, result, better], "rejected": [call, result, worse]},
        {"prompt": asked, "chosen": [good], "rejected": [bad]},
        {"question": asked, "response_j": good, "response_k": bad},
        {"conversations": [{"from": "human", "value": asked}], "chosen": {"from": "gpt", "value": good},
         "rejected": {"from": "gpt", "value": bad}},
    ]  # fmt: skip
    return Row(rng.choice(forms), token, pair(good, bad))


def transcript(rng: random.Random, token: str) -> Row:
    asked, good, bad = (f"a{token} {rng.randrange(10**6)}" for _ in range(3))
    good, bad = good + "g", bad + "b"
    begun = f"\n\nHuman: {asked}\n\nAssistant: "
    return Row({"chosen": begun + good, "rejected": begun + bad}, token, pair(good, bad))


def two_answers(rng: random.Random, token: str) -> Row:
    asked, good, bad = (text(rng, token) for _ in range(3))
    names, judged = rng.choice(
        [
            (("response_0", "response_1"), ("better_response_id", 0, 1)),
            (("response_a", "response_b"), ("winner", "model_a", "model_b")),
            (("answer_1", "answer_2"), ("preference_strength", -2, 1)),
            (("human_ref_A", "human_ref_B"), ("labels", 1, 0)),
            (("completion_1", "completion_2"), ("label", "completion_1", "2")),
        ]
    )
    second = rng.random() < 0.5
    answers = (bad, good) if second else (good, bad)
    fields = {"prompt": asked, **dict(zip(names, answers, strict=True)), judged[0]: judged[1 + second]}
    return Row(fields, token, pair(good, bad))


def ranking(rng: random.Random, token: str) -> Row:
    asked = text(rng, token)
    texts = tuple(text(rng, f"{token}x{place}") for place in range(rng.randrange(2, 6)))
    order = rng.sample(range(1, len(texts) + 1), len(texts))
    scores = [float(10 - rank) for rank in order]
    forms: list[dict[str, Any]] = [
        {"prompt": asked, "completions": list(texts), "ranks": order},
        {"instruction": asked, "responses": list(texts), "scores": scores},
        {"prompt": asked, "answers": [{"answer": one, "rank": float(n)} for one, n in zip(texts, order, strict=True)]},
        {"instruction": asked,
         "completions": [{"response": one, "overall_score": n} for one, n in zip(texts, scores, strict=True)]},
        {"prompt": {"role": "prompter", "text": asked, "replies": [
            {"role": "assistant", "text": one, "rank": n - 1, "replies": []}
            for one, n in zip(texts, order, strict=True)]}},
    ]  # fmt: skip
    return Row(rng.choice(forms), token, (answer("ranking", texts, {"ranks": order}),))


def labelled(rng: random.Random, token: str) -> Row:
    asked, told, good = text(rng, token), text(rng, token), rng.random() < 0.5
    forms: list[dict[str, Any]] = [
        {"prompt": asked, "completion": told, "label": good},
        {"prompt": [said("user", asked)], "completion": [said("assistant", told)], "label": good},
        {"prompt": asked, "response": told, "is_safe": good},
        {"messages": [said("user", asked), said("assistant", told)], "label": good},
    ]
    return Row(rng.choice(forms), token, (answer("good_bad", (told,), {"good": [good], "reasons": [""]}),))


def rated(rng: random.Random, token: str) -> Row:
    asked, told, score = text(rng, token), text(rng, token), rng.randrange(2, 8)
    forms = [
        {"prompt": asked, "completion": told, "score": score},
        {"instruction": asked, "output": told, "rating": score},
    ]
    return Row(rng.choice(forms), token, (answer("rating", (told,), {"ratings": {"helpful": [score]}}),))


def demonstration(rng: random.Random, token: str) -> Row:
    asked, told = text(rng, token), text(rng, token)
    user, assistant = said("user", asked), said("assistant", told)
    forms: list[dict[str, Any]] = [
        {"messages": [user, assistant]},
        {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": told}]},
        {"conversation": [{"input": asked, "output": told}]},
        {"instruction": asked, "input": "", "output": told},
        {"instruction": "do", "context": asked, "response": told},
        {"prompt": [user], "completion": [said("assistant", "call"), said("tool", "result"), assistant]},
        {"prompt": asked, "completion": told},
    ]
    return Row(rng.choice(forms), token, (answer("demonstration", (), {"text": told}),))


def item(rng: random.Random, token: str) -> Row:
    fields: dict[str, Any] = {"prompt": text(rng, token), "completions": [text(rng, token), text(rng, token)]}
    return Row(fields | rng.choice(({}, {"topic": "t"}, {"models": ["m", "n"]}, {"overlap": 2})), token, ())


def argilla(rng: random.Random, token: str) -> Row:
    asked, first, second = (text(rng, token) for _ in range(3))
    told = {"prompt": asked, "response-1": first, "response-2": second}
    ranked = {"value": ["response-2", "response-1"], "user_id": "u", "status": "submitted"}
    forms: list[dict[str, Any]] = [
        {"fields": told, "responses": {"better": [ranked]}},
        told | {"better.responses": [ranked["value"]], "better.responses.users": ["u"]},
        told | {"better": [ranked]},
    ]
    return Row(rng.choice(forms), token, (answer("ranking", (first, second), {"ranks": [2, 1]}),))


def label_studio(rng: random.Random, token: str) -> Row:
    asked, first, second = (text(rng, token) for _ in range(3))
    result = {"type": "pairwise", "to_name": "answer1,answer2", "value": {"selected": "right"}}
    fields = {
        "data": {"prompt": asked, "answer1": first, "answer2": second},
        "annotations": [{"completed_by": 1, "result": [result]}],
    }
    return Row(fields, token, (answer("ranking", (first, second), {"ranks": [2, 1]}),))


MAKERS: tuple[Callable[[random.Random, str], Row], ...] = (
    comparison, transcript, two_answers, ranking, labelled, rated, demonstration, item, argilla, label_studio,
)  # fmt: skip
NESTED = (argilla, label_studio)  # no tool writes these as tables


def rows_of(rng: random.Random) -> tuple[list[Row], bool]:
    """One to eight rows of one form, and whether a table can hold them."""
    maker, seed = rng.choice(MAKERS), rng.getrandbits(64)
    rows: list[Row] = []
    for number in range(rng.randrange(1, 9)):
        token = f"t{rng.getrandbits(40):x}n{number}"
        for _ in range(200):  # until the form is that of the first row
            row = maker(rng, token)
            if not rows or (list(row.fields), _shape(row.fields)) == (list(rows[0].fields), _shape(rows[0].fields)):
                rows.append(row)
                break
    del seed
    return rows, maker not in NESTED


def _shape(fields: dict[str, Any]) -> list[object]:
    return [
        (type(value).__name__, len(value) if isinstance(value, list) and name != "completions" else 0,
         sorted(value[0]) if isinstance(value, list) and value and isinstance(value[0], dict) else "")
        for name, value in fields.items() if name not in ("answers", "responses", "ranks", "scores", "completions")
    ]  # fmt: skip


def spoilt(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    """The row with one to three places of it changed: other values, names or types, things lost, added or moved."""
    changed = copy.deepcopy(fields)
    for _ in range(rng.randrange(1, 4)):
        node: Any = changed
        name: Any = rng.choice(list(changed) or [""])
        while isinstance(node.get(name) if isinstance(node, dict) else node[name], dict | list) and rng.random() < 0.6:
            inner = node[name]
            places = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
            if not places:
                break
            node, name = inner, rng.choice(places)
        match rng.randrange(5):
            case 0 if isinstance(node, dict):
                node.pop(name, None)
            case 1 if isinstance(node, dict):
                node[rng.choice(_NAMES)] = node.pop(name, None)
            case 2 if isinstance(node, dict):
                node[rng.choice(_NAMES)] = copy.deepcopy(rng.choice(JUNK))
            case 3 if isinstance(node, list):
                node.append(copy.deepcopy(rng.choice(JUNK)))
            case _:
                node[name] = copy.deepcopy(rng.choice(JUNK))
        if not changed:
            break
    return changed


def written(rng: random.Random, rows: list[dict[str, Any]], container: str) -> tuple[str, bytes]:
    """The name and the bytes of a file with these rows."""
    end = rng.choice(("\n", "\n", "\r\n", "\r"))
    if container == "parquet":
        out = io.BytesIO()
        whole = [dict.fromkeys(name for row in rows for name in row) | row for row in rows]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(whole), out)
        content = out.getvalue()
    elif container in ("csv", "tsv"):
        spelt = rng.choice((json.dumps, repr))
        names = list(dict.fromkeys(name for row in rows for name in row))
        table = io.StringIO()
        writer = csv.writer(table, delimiter="\t" if container == "tsv" else ",", lineterminator=end,
                            quoting=csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL)  # fmt: skip
        writer.writerow(names)
        for row in rows:
            cells = [row.get(name) for name in names]
            writer.writerow([spelt(cell) if isinstance(cell, list | dict) else cell for cell in cells])
        content = table.getvalue().encode("utf-8", "surrogatepass")
    else:
        ascii_ = rng.random() < 0.5
        told = [json.dumps(row, ensure_ascii=ascii_) for row in rows]
        if container == "jsonl":
            joined = end.join(told) + rng.choice(("", end, end * 3))
        else:
            joined = json.dumps(
                rows if container == "json" else {"data": rows}, ensure_ascii=ascii_, indent=rng.choice((None, 1))
            ).replace("\n", end)
        content = joined.encode("utf-8", "surrogatepass")
    if container != "parquet" and rng.random() < 0.2:
        content = b"\xef\xbb\xbf" + content
    name = f"rows.{container.removeprefix('data.')}"
    return (f"{name}.gz", gzip.compress(content, 1)) if rng.random() < 0.2 else (name, content)


def with_other_bytes(rng: random.Random, content: bytes) -> bytes:
    """The bytes with some lost, changed, added or moved, cut short, or in another encoding."""
    match rng.randrange(6):
        case 0:
            return content[: rng.randrange(len(content) + 1)]
        case 1:
            return content.decode("utf-8", "replace").encode(
                rng.choice(("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-7", "cp500")), "replace"
            )
        case _:
            changed = bytearray(content)
            for _ in range(rng.randrange(1, 8)):
                at = rng.randrange(len(changed) + 1)
                changed[at : at + rng.randrange(4)] = rng.choice(
                    (rng.randbytes(rng.randrange(5)), b"\0", b'"', b"\xed\xa0\x80", b"\n", b"[" * 50, b",")
                )
            return bytes(changed)


def answers_of(found: ImportFile) -> Counter[Answer]:
    return Counter(
        answer(str(one.kind), tuple(candidate.text for candidate in item_.item.candidates), dict(one.payload))
        for item_ in found.imported
        for one in item_.answers
    )


def tried(call: Callable[[], Any], path: Path, outcomes: Outcomes, told: str) -> Any:
    """What the call gives, or None after a DataError; anything else is wrong."""
    try:
        return call()
    except DataError as error:
        if path.name not in str(error):
            outcomes.wrong.append(f"{told}: the error does not name the file: {error}")
        return None
    except Exception as error:  # noqa: BLE001 - that there is none is what is tried
        outcomes.wrong.append(f"{told}: {type(error).__name__}: {error}"[:400])
        return None


def into_a_store(path: Path, count: int, outcomes: Outcomes, told: str) -> None:
    """The same by the command line: exit code 0 and as many answers in the store, or 2 and no store."""
    store = path.with_name("judged.db")
    ran = assent(
        "feedback", "import", "--store", store, "--project", "p", "--data", path, "--on-bad-row", "skip", "--set",
        'criteria=["helpful", "helpfulness", "quality"]',
    )  # fmt: skip
    outcomes.counts[f"by the command line: exit code {ran.code}"] += 1
    if ran.code == 0:
        with FeedbackStore.open(str(store), read_only=True) as opened:
            kept = len(opened.events(limit=10_000))
        if kept != count:
            outcomes.wrong.append(f"{told}: {kept} answers in the store, {count} were read")
    elif ran.code != 2 or "Traceback" in ran.err:
        outcomes.wrong.append(f"{told}: exit code {ran.code}: {ran.err[-300:]}")
    for left in store.parent.glob("judged.db*"):
        left.unlink()


def one_file(seed: int, folder: Path, outcomes: Outcomes) -> None:
    """Make, read and judge the file of this seed."""
    rng = random.Random(seed)
    rows, flat = rows_of(rng)
    kind = rng.choice(("whole", "rows", "rows", "bytes"))
    container = rng.choice(CONTAINERS if flat else ("jsonl", "json"))
    bad = set(rng.sample(range(len(rows)), rng.randrange(1, len(rows) + 1))) if kind == "rows" else set()
    fields = [spoilt(rng, row.fields) if place in bad else row.fields for place, row in enumerate(rows)]
    try:
        name, content = written(rng, fields, container)
    except (pyarrow.ArrowException, OverflowError, UnicodeError, csv.Error, ValueError, TypeError):
        container = "jsonl"  # a table cannot hold such a row
        name, content = written(rng, fields, container)
    if kind == "bytes":
        content = with_other_bytes(rng, content)
    path = folder / name
    path.write_bytes(content)
    told = f"seed {seed}, {kind}, {name}"
    found = tried(lambda: read_import(path, ImportJob(), skip=True), path, outcomes, told)
    tried(lambda: read_import(path, ImportJob(answers="drop")), path, outcomes, told)
    load = rng.choice(LOADERS)
    tried(lambda: load(path, ReadOptions(on_bad_row="skip")), path, outcomes, f"{told}, {load.__name__}")
    outcomes.counts[f"{kind}: {'read' if found else 'refused'}"] += 1
    if found is not None and rng.random() < 0.01:
        into_a_store(path, sum(answers_of(found).values()), outcomes, told)
    path.unlink()
    if kind == "bytes":
        return
    wanted = Counter(one for place, row in enumerate(rows) if place not in bad for one in row.answers)
    if found is None:
        if kind == "whole":
            outcomes.wrong.append(f"{told}: a good file was refused")
        return
    answers = answers_of(found)
    aside = str([row.fields for row, _ in found.bad])  # a good row beside a column that a spoilt one brought
    for place, row in enumerate(rows):
        if place not in bad and Counter(row.answers) - answers and row.token not in aside:
            outcomes.wrong.append(f"{told}: the annotation of row {place + 1} is gone")
        outcomes.counts["good rows set aside"] += place not in bad and row.token in aside
    if kind == "whole" and answers != wanted:
        outcomes.wrong.append(f"{told}: {sum(answers.values())} annotations, {sum(wanted.values())} were written")
    known = aside + str(found.imported) + str(found.bad)
    for place in bad:
        token = rows[place].token
        if any(row.problem for row, _ in found.bad) or len(found.imported) + len(found.bad) >= len(rows):
            continue  # what could not be parsed is set aside by its line alone; or the token stood in another column
        named = {name for note in found.notes for name in fields[place] if name in note}  # as not used
        rest = {name: value for name, value in fields[place].items() if name not in named}
        if token in json.dumps(rest) and token not in known:
            outcomes.wrong.append(f"{told}: row {place + 1} is neither read nor set aside")
    outcomes.counts["annotations kept"] += sum(answers.values())
    outcomes.counts["rows set aside"] += len(found.bad)


def fuzz(count: int, *, seed: int, folder: Path) -> Outcomes:
    """`count` files."""
    outcomes = Outcomes()
    for number in range(count):
        one_file(seed * 10_000_000 + number, folder, outcomes)
    return outcomes


def main() -> int:
    """Run as many files as asked for and print the counts; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        outcomes = fuzz(asked.files, seed=asked.seed, folder=Path(folder))
    print(f"{asked.files:,} files in {time.monotonic() - began:.0f} s")
    for name, count in sorted(outcomes.counts.items()):
        print(f"  {count:>8,} {name}")
    print(f"  {len(outcomes.wrong):>8,} wrong")
    print("\n".join(outcomes.wrong[:40]))
    return 1 if outcomes.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
