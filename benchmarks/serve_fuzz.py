"""Strange requests against real `assent serve` processes: each gets a valid answer, and the server lives.

    python -m benchmarks.serve_fuzz [--requests 20000] [--seed 0] [--clients 12] [--families chatml,thoughts]

One tiny random model per family of chat templates. What must hold: every answer is valid HTTP with status 2xx or 4xx in
the interface's own form, a plain request is answered after every hundred strange ones, memory does not grow without
end, the process stays and ends with 0 on SIGTERM, its log has no traceback. The requests are in `serve_requests`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers

from assent.text.tokenizer import train_tokenizer
from benchmarks.serve_requests import NAME, Case, Connection, Wrong, case, plain

CONTEXT, END, PAD = 256, "<|end|>", "<|pad|>"
_OPEN = "{% if add_generation_prompt %}"
FAMILIES = {
    "plain": "",  # none: the default is used
    "chatml": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    + _OPEN + "<|im_start|>assistant\n{% endif %}",
    "tags": "{% for m in messages %}{% if m.role == 'assistant' %}<|a|>{% generation %}{{ m.content + eos_token }}"
    "{% endgeneration %}{% else %}<|u|>{{ m.content }}{% endif %}{% endfor %}" + _OPEN + "<|a|>{% endif %}",
    "thoughts": "{% for m in messages %}{% if m.role == 'assistant' %}<|a|>{{ m.content.split('</think>')[-1] }}"
    + END + "{% else %}<|u|>{{ m.content }}{% endif %}{% endfor %}" + _OPEN + "<|a|><think>\n{% endif %}",
    "strict": "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('the roles must alternate') }}{% endif %}[{{ m.role }}] {{ m.content | trim }}" + END
    + "{% endfor %}" + _OPEN + "[assistant]{% endif %}",
    "headers": "{% for m in messages %}## {{ m.role }}\n{{ m.content | trim }}\n\n{% endfor %}" + _OPEN
    + "## assistant\n{% endif %}",
    "channel": "{% for m in messages %}<|u|>{{ m.role }}{% if m.role == 'assistant' %}<|a|>final{% endif %}"
    "<|im_start|>{{ m.content }}" + END + "{% endfor %}" + _OPEN + "<|u|>assistant{% endif %}",
    "fragile": "{% for m in messages %}{{ m.content[0] }}{{ m.content[1:] }}{{ 1 // (m.content | length - 7) }}"
    + END + "{% endfor %}" + _OPEN + ">{% endif %}",
}  # fmt: skip


@dataclass(slots=True)
class Outcome:
    """Answers by family and status; what must not be."""

    statuses: dict[str, Counter[str]] = field(default_factory=dict)
    memory_mb: dict[str, list[int]] = field(default_factory=dict)  # after every 200 requests
    wrong: list[str] = field(default_factory=list)


def make_model(folder: Path, family: str) -> None:
    """A random model of two layers with the family's template."""
    special = [END, PAD, "<|im_start|>", "<|im_end|>", "<|a|>", "<|u|>"]
    text = ["what is red ? yes no maybe <think> </think> assistant user system", "one two three four 1 2 3"]
    tokenizer = train_tokenizer(
        text, vocabulary_size=400, special_tokens=special, end=END, pad=PAD, chat_template=FAMILIES[family]
    )
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, bos_token_id=None, eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def serving(folder: Path, log: Path, *more: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`assent serve` on a free port, and the port."""
    command = [sys.executable, "-m", "assent.cli", "serve", str(folder), "--port", "0", "--name", NAME]
    command += ["--set", "machine.threads=1", "--set", "machine.device=cpu", *more]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
    try:
        while (found := re.search(r"serving .*:(\d+)/v1", log.read_text())) is None:
            if process.poll() is not None:
                raise RuntimeError(log.read_text())
            with_patience(process)
        yield process, int(found[1])
    finally:
        process.kill()
        process.wait()


def with_patience(process: subprocess.Popen[bytes]) -> None:
    """A moment, or less if the process ends."""
    try:
        process.wait(0.1)
    except subprocess.TimeoutExpired:
        return


def run(requests: int, *, seed: int, clients: int, families: Sequence[str], folder: Path) -> Outcome:
    """Serve each family in turn and send it its share of the requests."""
    outcome = Outcome()
    share = -(-requests // len(families))
    for family in families:
        make_model(folder / family, family)
        log = folder / f"{family}.log"
        with serving(folder / family, log) as (process, port):
            told = outcome.statuses[family] = Counter()
            memory = outcome.memory_mb[family] = []
            for start in range(0, share, 200):
                cases = [case(seed, family, number) for number in range(start, min(share, start + 200))]
                _send(outcome, told, cases, port, clients)
                if process.poll() is not None:
                    outcome.wrong.append(f"{family}: the process is gone after {start} requests")
                    break
                memory.append(memory_mb(process.pid))
            process.send_signal(signal.SIGTERM)
            if (code := process.wait(60)) != 0:
                outcome.wrong.append(f"{family}: exit code {code}")
        if "Traceback" in (said := log.read_text(errors="replace")):
            outcome.wrong.append(f"{family}: the log has a traceback: {said[said.index('Traceback') :][:3000]}")
    return outcome


def _send(outcome: Outcome, told: Counter[str], cases: Sequence[Case], port: int, clients: int) -> None:
    def tried(one: Case) -> list[str]:
        try:
            return one.send(port)
        except (Wrong, OSError) as error:
            return [f"wrong: {one.about}: {type(error).__name__}: {error}"[:800]]

    with ThreadPoolExecutor(clients) as threads:
        for results in threads.map(tried, cases):
            outcome.wrong += [one for one in results if one.startswith("wrong")]
            told.update(one if one.isdecimal() or one == "left" else "wrong" for one in results)
    try:
        with Connection(port) as connection:
            connection.send(plain())
            status = connection.answer("POST", kind="chat")
            health = Connection.once(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "GET", kind="health")
        if (status, health) != (200, 200):
            outcome.wrong.append(f"a plain request gets {status}, the health is {health}")
    except (Wrong, OSError) as error:
        outcome.wrong.append(f"a plain request gets no answer: {error}")


def memory_mb(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1_000_000


def main() -> int:
    """From the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--families", default=",".join(FAMILIES))
    given = parser.parse_args()
    families = given.families.split(",")
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(given.requests, seed=given.seed, clients=given.clients, families=families, folder=Path(folder))
    for one in outcome.wrong[:40]:
        print(one)
    total: Counter[str] = sum(outcome.statuses.values(), Counter())
    told = {name: dict(sorted(counts.items())) for name, counts in outcome.statuses.items()}
    row = {"total": dict(sorted(total.items())), "families": told, "memory_mb": outcome.memory_mb}
    print("RESULT", json.dumps(row | {"wrong": len(outcome.wrong)}))
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
