"""The padded loop that one writes with plain transformers: fp32 weights under bf16 autocast, SDPA, fused AdamW.

Every function gives a step: a call that does one optimiser step (of PPO: one iteration) on the next batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

Step = Callable[[], object]
Ids = Sequence[int]
PAD, BETA, CLIP = 0, 0.1, 0.2


def causal(config: LlamaConfig, device: torch.device, *, lora: bool = False) -> Any:
    """A policy; with `lora` an adapter on all linear layers."""
    model = _made(LlamaForCausalLM, config, device)
    if not lora:
        return model
    return get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))


def classifier(config: LlamaConfig, device: torch.device) -> Any:
    """A reward model."""
    return _made(LlamaForSequenceClassification, config, device)


def _made(kind: Any, config: LlamaConfig, device: torch.device) -> Any:
    torch.manual_seed(0)
    with device:
        model = kind._from_config(config, attn_implementation="sdpa")
    return model.to(device)


def padded(rows: Sequence[Ids], device: torch.device, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Ids and mask, as long as the longest row."""
    longest = max(map(len, rows))
    gaps = [[PAD] * (longest - len(row)) for row in rows]
    ids = [[*gap, *row] if left else [*row, *gap] for row, gap in zip(rows, gaps, strict=True)]
    lengths = torch.tensor([len(row) for row in rows], device=device)[:, None]
    place = torch.arange(longest, device=device)
    mask = place >= longest - lengths if left else place < lengths
    return torch.tensor(ids, device=device), mask.long()


def _batches(rows: Sequence[Any], size: int) -> Callable[[], Sequence[Any]]:
    places = count()
    return lambda: [rows[(next(places)) % len(rows)] for _ in range(size)]


def _optimiser(model: Any, rate: float) -> Callable[[Tensor], None]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    adamw = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)

    def step(loss: Tensor) -> None:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        adamw.step()
        adamw.zero_grad(set_to_none=True)

    return step


def _autocast(model: Any) -> torch.autocast:
    return torch.autocast(model.device.type, dtype=torch.bfloat16)


def sft(model: Any, documents: Sequence[Ids], size: int) -> Step:
    """All tokens are learned."""
    draw, update = _batches(documents, size), _optimiser(model, 2e-5)

    def step() -> None:
        ids, mask = padded(draw(), model.device)
        with _autocast(model):
            loss = model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss
        update(loss)
        loss.item()

    return step


def reward(model: Any, pairs: Sequence[tuple[Ids, Ids]], size: int) -> Step:
    """Bradley-Terry."""
    draw, update = _batches(pairs, size), _optimiser(model, 2e-5)
    model.config.pad_token_id = PAD

    def step() -> None:
        rows = draw()
        ids, mask = padded([*(one[0] for one in rows), *(one[1] for one in rows)], model.device)
        with _autocast(model):
            score_B = model(input_ids=ids, attention_mask=mask).logits[:, 0].float()
        loss = -logsigmoid(score_B[:size] - score_B[size:]).mean()
        update(loss)
        loss.item()

    return step


def token_logps(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """Log-probability of every token but the first."""
    with _autocast(model):
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    return logits.float().log_softmax(-1).gather(2, ids[:, 1:, None])[:, :, 0]


def dpo(model: Any, reference: Any, pairs: Sequence[tuple[Ids, Ids]], prompts: Sequence[int], size: int) -> Step:
    """Both log-probabilities of both sides, the reference's in every step."""
    update = _optimiser(model, 2e-5)
    draw = _batches(list(zip(pairs, prompts, strict=True)), size)

    def step() -> None:
        rows = draw()
        ids, mask = padded([side for place in (0, 1) for side in (one[0][place] for one in rows)], model.device)
        start = torch.tensor([one[1] for one in rows] * 2, device=model.device)[:, None]
        said = mask[:, 1:].bool() & (torch.arange(1, ids.shape[1], device=model.device) >= start)
        with torch.no_grad():
            before = token_logps(reference, ids, mask)
        gain_B = ((token_logps(model, ids, mask) - before) * said).sum(1)
        loss = -logsigmoid(BETA * (gain_B[:size] - gain_B[size:])).mean()
        update(loss)
        loss.item()

    return step


def decode(model: Any, prompts: Sequence[Ids], tokens: int, *, autocast: bool) -> Callable[[], Tensor]:
    """Sampled at temperature 1 to the limit."""
    ids, mask = padded(prompts, model.device, left=True)

    @torch.no_grad()
    def step() -> Tensor:
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=autocast):
            found = model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=True,
                temperature=1.0, top_k=0, top_p=1.0, pad_token_id=PAD,
            )  # fmt: skip
        assert isinstance(found, Tensor)
        return found

    return step


def ppo(model: Any, reference: Any, judge: Any, prompts: Sequence[Ids], tokens: int, passes: int, parts: int) -> Step:
    """Rollout, scores, then `passes` x `parts` updates of policy and a value head on the policy's trunk.

    `reference` None takes the model without its adapter. A reward for each sequence stands for the advantage: the
    forward and backward passes are PPO's.
    """
    head = torch.nn.Linear(model.config.hidden_size, 1, bias=False, device=model.device)
    update = _optimiser(torch.nn.ModuleList([model, head]), 1e-6)
    draw = _batches(prompts, len(prompts))

    def passed(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        with _autocast(model):
            found = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
            value = head(found.hidden_states[-1][:, -tokens - 1 : -1])[:, :, 0].float()
        logits = found.logits[:, -tokens - 1 : -1].float()
        return logits.log_softmax(-1).gather(2, ids[:, -tokens:, None])[:, :, 0], value

    @torch.no_grad()
    def rollout() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rows = draw()
        ids = decode(model, rows, tokens, autocast=True)()
        mask = torch.nn.functional.pad(padded(rows, model.device, left=True)[1], (0, tokens), value=1)
        old, _ = passed(ids, mask)
        if reference is None:
            with model.disable_adapter():
                away = token_logps(model, ids, mask)[:, -tokens:]
        else:
            away = token_logps(reference, ids, mask)[:, -tokens:]
        with _autocast(judge):
            score_B = judge(input_ids=ids, attention_mask=mask).logits[:, :1].float()
        return ids, mask, old, score_B - 0.05 * (old - away)

    def step() -> None:
        ids, mask, old, gain = rollout()
        for _ in range(passes):
            for part in torch.randperm(len(ids), device=ids.device).chunk(parts):
                logp, value = passed(ids[part], mask[part])
                ratio, advantage = (logp - old[part]).exp(), gain[part]
                surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
                loss = 0.5 * (value - advantage).square().mean() - surrogate.mean()
                update(loss)
        loss.item()

    judge.config.pad_token_id = PAD
    return step
