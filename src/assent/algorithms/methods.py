"""The table of methods: what everybody but a method's own file knows of it. A new method is a file and an entry here.

The command line, `assent run`, rounds, the Python API, model cards and the report read this table. They start without
torch, so what is heavy is named as MODULE:NAME and loaded at first use.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

Reads = Literal["texts", "demonstrations", "preferences", "comparisons", "rankings", "labels", "dialogues", "prompts"]
"""What a method learns from. It decides what is trained: from texts a new model, from preferences (comparisons,
rankings or labels, whichever there are) a reward model, from everything else a policy; a method that reads prompts is
on-policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method of training, by everything that others need of it.

    `name` is what pages and progress bars call it, `help` and `example` are for the command line, `function` is its
    name in Python (empty: it has none). `settings` is its class of settings, `algorithm` its `OnPolicyMethod` if it
    reads prompts, or else its `OfflineMethod`; with `needs_cost` it is given a cost beside the reward. The report draws
    `curves` and folds `folded` away; the first of them is what training is about, the first three stand on the model
    card, whose first sentence is `card`. `then` is the method that people want next (empty: a chat or an evaluation).
    """

    name: str
    help: str
    example: str
    reads: Reads
    settings: str
    algorithm: str = ""
    needs_reward: bool = False
    needs_cost: bool = False
    function: str = ""
    curves: tuple[str, ...] = ("loss", "accuracy", "margin")
    folded: tuple[str, ...] = ()
    card: str
    then: str = ""

    @property
    def tags(self) -> tuple[str, ...]:
        """What the hub sorts its models by."""
        return () if self.reads in ("texts", "demonstrations") else ("rlhf",)

    @property
    def unit(self) -> str:
        """What people count its progress in."""
        return "iterations" if self.reads == "prompts" else "steps"

    @property
    def makes(self) -> Literal["model", "reward model", "policy"]:
        """What is trained."""
        return "model" if self.reads == "texts" else "reward model" if self.reads == "preferences" else "policy"


def load_named(name: str) -> Any:
    """What is named as MODULE:NAME."""
    module, attribute = name.split(":")
    return getattr(importlib.import_module(module), attribute)


ROLLOUT_CURVES = (  # what every on-policy method can show
    "reward", "gold", "kl", "kl_penalty", "penalty_share", "entropy", "length", "truncated_fraction", "clip_fraction",
)  # fmt: skip
ROLLOUT_FOLDED = (
    "held_out_reward", "eval_repetition", "eval_distinct_2",
    "policy_loss", "reward_normalised", "kl_coef", "reward_std", "ptx_loss",
)  # fmt: skip

GROUP_CURVES = ("groups_without_spread", "groups_dropped")
_WRITTEN_CURVES = (*(name for name in ROLLOUT_CURVES if name != "clip_fraction"), *GROUP_CURVES)


def _without_critic(name: str, file: str, settings: str, *, purpose: str) -> Method:
    """An on-policy method that has neither a critic nor files of its own."""
    return Method(
        name=name,
        help=purpose,
        example=f"assent {file} --model runs/sft --reward runs/reward --data prompts.jsonl --out runs/{file}",
        reads="prompts",
        settings=f"assent.algorithms.{file}:{settings}",
        algorithm=f"assent.algorithms.{file}:{file.upper()}",
        needs_reward=True,
        function=file,
        curves=(*ROLLOUT_CURVES, *GROUP_CURVES),
        folded=ROLLOUT_FOLDED,
        card=f"A language model trained by {name} against a reward, held near its reference by a KL penalty.",
    )


PAIR_CURVES = ("loss", "chosen_logp", "rejected_logp", "accuracy", "margin")
PAIR_FOLDED = ("chosen_reward", "rejected_reward")


def _on_pairs(name: str, *, purpose: str, card: str, start: str = "runs/sft") -> Method:
    """A method that learns a policy from comparisons, without a reward model."""
    file = name.lower()
    return Method(
        name=name,
        help=purpose,
        example=f"assent {file} --model {start} --data preferences.jsonl --out runs/{file}",
        reads="comparisons",
        settings=f"assent.algorithms.{file}:{name}Settings",
        algorithm=f"assent.algorithms.{file}:{file.upper()}",
        function=file,
        curves=PAIR_CURVES,
        folded=PAIR_FOLDED,
        card=f"A language model trained on preference pairs by {card}.",
    )


METHODS: dict[str, Method] = {
    "pretrain": Method(
        name="Pretraining",
        help="train a small language model from random weights",
        example="assent pretrain --data notes.txt --out runs/base --set steps=500",
        reads="texts",
        settings="assent.algorithms.pretrain:PretrainSettings",
        card="A language model pretrained from random weights.",
        then="sft",
    ),
    "sft": Method(
        name="SFT",
        help="fine-tune on demonstrations, with the loss on the assistant's words only",
        example="assent sft --model runs/base --data demonstrations.jsonl --out runs/sft",
        reads="demonstrations",
        settings="assent.algorithms.sft:SFTSettings",
        algorithm="assent.algorithms.sft:SFT",
        function="sft",
        card="A language model fine-tuned on demonstrations, with the loss on the assistant's words only.",
    ),
    "reward": Method(
        name="Reward model",
        help="train a reward model on comparisons, rankings or labels",
        example="assent reward --model runs/sft --data preferences.jsonl --eval-data held-out.jsonl --out runs/reward",
        reads="preferences",
        settings="assent.algorithms.reward:RewardSettings",
        algorithm="assent.algorithms.reward:REWARD_MODEL",
        function="train_reward",
        card="A reward model: one number per conversation, higher where the annotators would prefer the last answer.",
        then="ppo",
    ),
    "ppo": Method(
        name="PPO",
        help="train the policy against a reward, with a KL penalty to its reference",
        example="assent ppo --model runs/sft --reward runs/reward --data preferences.jsonl --out runs/ppo",
        reads="prompts",
        settings="assent.algorithms.ppo:PPOSettings",
        algorithm="assent.algorithms.ppo:PPO",
        needs_reward=True,
        function="ppo",
        curves=(*ROLLOUT_CURVES, "value_loss"),
        folded=(*ROLLOUT_FOLDED, "explained_variance"),
        card="A language model trained by PPO against a reward, held near its reference by a KL penalty.",
    ),
    "grpo": _without_critic(
        "GRPO",
        "grpo",
        "GRPOSettings",
        purpose="train the policy against a reward, comparing completions of one prompt; also Dr. GRPO and DAPO",
    ),
    "gspo": _without_critic(
        "GSPO",
        "gspo",
        "GSPOSettings",
        purpose="train the policy as GRPO does, with one ratio for a whole completion",
    ),
    "cispo": _without_critic(
        "CISPO",
        "cispo",
        "CISPOSettings",
        purpose="train the policy as GRPO does, with capped importance weights instead of a clip",
    ),
    "rloo": _without_critic(
        "RLOO",
        "rloo",
        "RLOOSettings",
        purpose="train the policy against a reward, with the other completions of a prompt as baseline",
    ),
    "reinforce": _without_critic(
        "REINFORCE",
        "reinforce",
        "ReinforceSettings",
        purpose="train the policy against a reward, with the mean reward as baseline",
    ),
    "reinforce_pp": _without_critic(
        "REINFORCE++",
        "reinforce_pp",
        "ReinforcePPSettings",
        purpose="train the policy against a reward, clipped as PPO and white over all tokens, without a critic",
    ),
    "raft": Method(
        name="RAFT",
        help="imitate the best of what the policy writes: rejection sampling, expert iteration",
        example="assent raft --model runs/sft --reward runs/reward --data prompts.jsonl --out runs/raft",
        reads="prompts",
        settings="assent.algorithms.raft:RAFTSettings",
        algorithm="assent.algorithms.raft:RAFT",
        needs_reward=True,
        function="raft",
        curves=(*_WRITTEN_CURVES, "learned_fraction"),
        folded=ROLLOUT_FOLDED,
        card="A language model trained by RAFT: it imitates the best of its own answers by a reward.",
    ),
    "online_dpo": Method(
        name="Online DPO",
        help="train the policy by DPO on pairs that it has just written, labelled by a reward",
        example="assent online_dpo --model runs/sft --reward runs/reward --data prompts.jsonl --out runs/online_dpo",
        reads="prompts",
        settings="assent.algorithms.online_dpo:OnlineDPOSettings",
        algorithm="assent.algorithms.online_dpo:ONLINE_DPO",
        needs_reward=True,
        function="online_dpo",
        curves=(*_WRITTEN_CURVES, *PAIR_CURVES, "learned_fraction"),
        folded=(*PAIR_FOLDED, "reward_normalised", "reward_std", "ptx_loss"),
        card="A language model trained by direct preference optimisation on its own answers, compared by a reward.",
    ),
    "ppo_lagrangian": Method(
        name="PPO-Lagrangian",
        help="train the policy by PPO against a reward, with a cost held under a budget (safe RLHF)",
        example="assent ppo_lagrangian --model runs/sft --reward runs/reward --cost runs/cost --data prompts.jsonl "
        "--out runs/safe",
        reads="prompts",
        settings="assent.algorithms.ppo_lagrangian:PPOLagrangianSettings",
        algorithm="assent.algorithms.ppo_lagrangian:PPO_LAGRANGIAN",
        needs_reward=True,
        needs_cost=True,
        function="ppo_lagrangian",
        curves=("reward", "cost", "multiplier", *ROLLOUT_CURVES[1:], "value_loss", "cost_value_loss"),
        folded=(*ROLLOUT_FOLDED, "explained_variance"),
        card="A language model trained by PPO against a reward, with the expected cost of its answers under a budget.",
    ),
    "dpo": _on_pairs(
        "DPO",
        purpose="train the policy on comparisons directly, without a reward model",
        card="direct preference optimisation",
    ),
    "dpo_pl": Method(
        name="DPO on rankings",
        help="train the policy on whole rankings directly, without a reward model",
        example="assent dpo_pl --model runs/sft --data preferences.jsonl --out runs/dpo_pl",
        reads="rankings",
        settings="assent.algorithms.dpo_pl:DPOPLSettings",
        algorithm="assent.algorithms.dpo_pl:DPO_PL",
        function="dpo_pl",
        curves=("loss", "chosen_logp", "rejected_logp", "accuracy"),
        card="A language model trained on rankings by direct preference optimisation under the Plackett-Luce model.",
    ),
    "kto": Method(
        name="KTO",
        help="train the policy on single answers labelled good or bad",
        example="assent kto --model runs/sft --data labels.jsonl --out runs/kto",
        reads="labels",
        settings="assent.algorithms.kto:KTOSettings",
        algorithm="assent.algorithms.kto:KTO",
        function="kto",
        curves=("loss", "chosen_logp", "rejected_logp", "accuracy", "reference_point"),
        folded=PAIR_FOLDED,
        card="A language model trained by KTO on single answers labelled good or bad.",
    ),
    "orpo": _on_pairs(
        "ORPO",
        purpose="fine-tune on the better answers of comparisons, with an odds ratio against the worse",
        card="ORPO, without a reference",
        start="runs/base",
    ),
    "simpo": _on_pairs(
        "SimPO",
        purpose="train the policy on comparisons by mean log-probabilities, without a reference",
        card="SimPO, without a reference",
    ),
    "cpo": _on_pairs(
        "CPO",
        purpose="train the policy on comparisons and imitate the better answers, without a reference",
        card="CPO, without a reference",
    ),
    "ilql": Method(
        name="ILQL",
        help="learn action values from logged dialogues with rewards, and write by them",
        example="assent ilql --model runs/sft --data dialogues.jsonl --out runs/ilql",
        reads="dialogues",
        settings="assent.algorithms.ilql:ILQLSettings",
        algorithm="assent.algorithms.ilql:ILQL",
        function="ilql",
        curves=("loss", "q_loss", "v_loss", "q", "advantage"),
        folded=("cql_loss", "behaviour_loss"),
        card="The behaviour policy of logged dialogues, and action values by which Assent writes (ILQL); other "
        "programs see the behaviour policy alone.",
    ),
}
REWARD_METHOD, POLICY_METHOD = "reward", "ppo"  # what a round trains with, the second unless its settings say otherwise
FUNCTIONS = {method.function: name for name, method in METHODS.items() if method.function}  # of the Python API
