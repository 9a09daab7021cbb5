"""The suites by name. A suite is one file and one line here."""

from __future__ import annotations

from assent.evals.suites.bbq import BBQ
from assent.evals.suites.behaviours import BEHAVIOURS
from assent.evals.suites.crows_pairs import CROWS_PAIRS
from assent.evals.suites.gsm8k import GSM8K
from assent.evals.suites.hhh import HHH
from assent.evals.suites.pairs import HH, PANDALM
from assent.evals.suites.refusal import SIMPLE_SAFETY, XSTEST_SAFE, XSTEST_UNSAFE
from assent.evals.suites.reward_bench import REWARD_BENCH
from assent.evals.suites.reward_bench_2 import REWARD_BENCH_2
from assent.evals.suites.suite import Suite
from assent.evals.suites.toxicity import TOXICITY
from assent.evals.suites.truthfulqa import BINARY, MC1, MC2

SUITES: dict[str, Suite] = {
    one.name: one
    for one in (
        HHH, MC1, MC2, BINARY, XSTEST_SAFE, XSTEST_UNSAFE, SIMPLE_SAFETY, BBQ, CROWS_PAIRS, TOXICITY, GSM8K, BEHAVIOURS,
        REWARD_BENCH, REWARD_BENCH_2, PANDALM, HH,
    )
}  # fmt: skip
