"""What `assent eval` measures of a policy: reward, win rate, likelihood of given answers, gold score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from assent.algorithms.best_of_n import BestOfN
from assent.algorithms.sft import SFTSettings
from assent.data.load import ReadOptions, load_demonstrations, load_prompts
from assent.errors import ConfigError, DataError
from assent.evals.arms import ORACLE, Arm, judge_name
from assent.evals.gold import arm_scores, gold_means
from assent.evals.intervals import paired_difference
from assent.evals.judges import GoldJudge, bradley_terry
from assent.evals.scaling_fits import best_of_n_kl
from assent.evals.win_rate import WinRate, win_rate
from assent.evals.words import HELD_OUT
from assent.recipes.demo.command import by_kind
from assent.recipes.judged_wins import judged_wins, letters
from assent.recipes.run.annotators import for_annotator
from assent.recipes.run.answer_sampling import sampling_of
from assent.recipes.run.held_out import RAW, HeldOutAnswers, sampled_from, spread
from assent.recipes.run.inputs import Files, model_folder, read_all
from assent.recipes.run.job_settings import EvalJob
from assent.recipes.run.models import LanguageModel, RewardModel, load_language_model, load_reward_model
from assent.recipes.run.names import unique_names
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.run.rewards import Rewards, best_of_n, open_rewards
from assent.recipes.run.skipped_examples import fitting_prompts
from assent.recipes.run.unseen import held_out_of, trained_prompts, warning
from assent.recipes.run.written_answers import (
    Answering,
    Writer,
    answers_side_by_side,
    compared_samples,
    measure_policy,
    reward_measurements,
    write_answers,
)
from assent.runs.lineage import DataSource, Parent, parent
from assent.types import Conversation
from assent.world.facts import build_world
from assent.world.judge import judge as gold_judge
from assent.world.prompts import make_prompts

WORLD = "world"
_SHOWN = 12  # samples of a comparison


@dataclass(slots=True)
class Findings:
    """The results of an evaluation: parts of the evidence, and entries of the lineage."""

    parts: dict[str, Any] = field(default_factory=dict)
    sources: tuple[DataSource, ...] = ()
    parents: list[Parent] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A model under evaluation: `name` is for the page, `given` is what the user wrote, for the terminal.

    With `best_of` it answers with the best of several completions.
    """

    name: str
    given: str
    model: LanguageModel
    best_of: BestOfN | None = None

    @property
    def writer(self) -> Writer:
        """What answers for it."""
        return self.best_of or self.model.sampler


def evaluate_policy(path: str, request: Request, settings: EvalJob, display: Display) -> Findings:
    files, rewards, against = request.files, list(request.rewards), request.against
    judge = request.text("judge")
    if against and not rewards and not judge and files.data != (WORLD,):
        raise ConfigError("a comparison needs a judge", where="--against", now="Give --reward or --judge as well.")
    if judge and (not against or rewards or files.data == (WORLD,)):
        what = "a judge compares the answers of two models to prompts of a file, and is the only one who does"
        raise ConfigError(what, where="--judge", now="Give --against, and neither --reward nor the embedded world.")
    given = [against, files.model] if against else [files.model]  # the baseline comes first
    folders = [model_folder(one) for one in given]
    if len(set(folders)) < len(folders):
        raise ConfigError("this is the model under evaluation itself", where=f"--against {against}")
    found, prompts = Findings(), None
    if files.data != (WORLD,):
        prompts = read_all(
            files.data, load_prompts, files, display, role="prompts", limit=settings.limit, reading=settings.reading
        )
        found.sources = prompts.sources
        note_held_out(path, prompts.examples, display, found)
    names = unique_names(folders, taken=(ORACLE,))
    contenders = [
        Contender(name=name, given=as_given, model=load_language_model(folder, machine=settings.machine))
        for name, as_given, folder in zip(names, given, folders, strict=True)
    ]
    roles, wanted, last = ["policy", "against"], request.own.get("best_of"), contenders[-1]
    found.parents += [parent(folder, role=role) for folder, role in zip(reversed(folders), roles, strict=False)]
    chosen_by = rewards if prompts is not None or wanted else []
    reward = _reward(chosen_by, prompts.examples if prompts else (), settings, display, found) if chosen_by else None
    if best_of := best_of_n(last.model.sampler, reward, wanted):
        told = f"best of {best_of.n}"
        contenders.append(replace(last, name=f"{last.name}, {told}", given=f"{last.given}, {told}", best_of=best_of))
        display.say(f"{told} is at most {best_of_n_kl(best_of.n):.2f} nats per completion from {last.given}")
    colours = ["blue"] if len(contenders) == 1 else ["grey", "blue", "teal"]
    found.parts["arms"] = {
        one.name: Arm(name=one.name, colour=colour) for one, colour in zip(contenders, colours, strict=False)
    }
    if prompts is None:
        _gold(contenders, settings, display, found)
        return found
    measurements = _likelihood(last, files, settings, display, found)
    if judge:
        _judged(contenders, prompts.examples, request, settings, display, found)
    elif reward is not None:
        _rewards(contenders, prompts.examples, reward, settings, display, found)
    elif not measurements:
        raise ConfigError("there is nothing to measure: the file has prompts and no answers", now="Give --reward.")
    return found


def note_held_out(path: str, examples: Sequence[Any], display: Display, found: Findings) -> None:
    """Record and report whether the model was trained on the prompts that it is measured on."""
    held = held_out_of(examples, trained_prompts(path))
    found.parts["held_out"] = held
    if note := warning(held):
        display.say(note)


def _reward(
    names: Sequence[str], prompts: Sequence[Conversation], settings: EvalJob, display: Display, found: Findings
) -> Rewards:
    def load(path: str, first: bool) -> RewardModel:
        reward = load_reward_model(path, machine=settings.machine, positive=settings.positive)
        return for_annotator(reward, settings.annotator, display)

    rewards = open_rewards(names, settings, load)
    rewards.check(prompts)
    found.sources = (*found.sources, *rewards.sources)
    found.parents += [parent(folder, role=role) for role, folder in rewards.parents.items()]
    return rewards


def _likelihood(contender: Contender, files: Files, settings: EvalJob, display: Display, found: Findings) -> bool:
    """Report the likelihood of the file's own answers; False if it has none."""
    options = ReadOptions(format=files.format, on_bad_row="skip", limit=settings.limit, columns=settings.reading)
    try:
        data = [one for path in files.data for one in load_demonstrations(path, options).examples]
    except DataError:
        return False
    sizes = SFTSettings(max_length=settings.max_length, micro_batch_tokens=settings.micro_batch_tokens)
    answers = HeldOutAnswers(contender.model, data, sizes, display)
    sources = [one for one in found.sources if one.role == "prompts"]
    measurements = answers.now(contender.name, sources, seed=settings.seed)
    loss = measurements.values[contender.name]
    found.parts["measurements"] = (measurements,)
    display.say(
        f"the file's own answers under {contender.given}: {loss.mean:.4f} nats per token "
        f"({spread(loss, 'conversations')})"
    )
    return True


def _rewards(
    contenders: Sequence[Contender], data: Sequence[Conversation], reward: Rewards, settings: EvalJob,
    display: Display, found: Findings,
) -> None:  # fmt: skip
    prompts = fitting_prompts(data, contenders[-1].model, settings, display)
    sampling, sources = sampling_of(settings), [one for one in found.sources if one.role == "prompts"]
    written = {
        one.name: measure_policy(
            one.given, Answering(writer=one.writer, sampling=sampling), prompts, reward.scorer, display,
            seed=settings.seed,
        )
        for one in contenders
    }  # fmt: skip
    judges, items = reward.judges(found.parents), sampled_from(sources, sampling, limit=settings.limit)
    rewards = reward_measurements(written, judges=judges, items=items, seed=settings.seed)
    found.parts["measurements"] = (*rewards, *found.parts.get("measurements", ()))
    other = contenders[0]
    for mine in contenders[1:]:
        ours, theirs = written[mine.name], written[other.name]
        won = win_rate(
            bradley_terry(ours.scores, theirs.scores), names=(mine.name, other.name), judge=judges.total,
            seed=settings.seed, groups=prompts, lengths=(letters(ours.completions), letters(theirs.completions)),
        )  # fmt: skip
        _say_won(won, (mine, other), display, found)
    found.parts["samples"] = compared_samples(written)
    found.parts["reward_unit"] = f"{RAW} of {judge_name(judges.total)}"


def _judged(
    contenders: Sequence[Contender], data: Sequence[Conversation], request: Request, settings: EvalJob,
    display: Display, found: Findings,
) -> None:  # fmt: skip
    """Answers of both models, compared by a model in both orders."""
    prompts = fitting_prompts(data, contenders[-1].model, settings, display)
    answers = {
        one.name: write_answers(one.given, one.writer, prompts, sampling_of(settings), display, seed=settings.seed)
        for one in contenders
    }
    won, judge = judged_wins(request, settings, prompts, answers, display)
    found.parents.append(judge)
    found.parts["samples"] = answers_side_by_side(prompts[:_SHOWN], answers, kind=HELD_OUT)
    other, mine = contenders
    _say_won(won, (mine, other), display, found)


def _say_won(won: WinRate, pair: tuple[Contender, Contender], display: Display, found: Findings) -> None:
    mine, other = pair
    found.parts["win_rates"] = (*found.parts.get("win_rates", ()), won)
    counts = f"{won.wins} won, {won.ties} tied, {won.losses} lost"
    display.say(
        f"{mine.given} wins {won.rate.mean:.1%} against {other.given} "
        f"({spread(won.rate, 'prompts', '.1%')}; {counts}), judged by {judge_name(won.judge)}"
    )
    if (equal := won.length_controlled) is not None:
        display.say(f"  at equal length: {equal.mean:.1%} ({spread(equal, 'prompts', '.1%')})")


def _gold(contenders: Sequence[Contender], settings: EvalJob, display: Display, found: Findings) -> None:
    """The embedded world's own judge on its held-out prompts."""
    world = build_world(0)
    prompts = make_prompts(world, split="held_out", count=settings.limit or 540, seed=settings.seed)
    made = DataSource(role="prompts", name="the embedded world", sha256="", rows=len(prompts), format="world")
    found.sources = (made, *found.sources)  # they follow from the seed
    prompts = [prompt for prompt in prompts for _ in range(settings.samples_per_prompt)]
    conversations = [prompt.conversation for prompt in prompts]
    arms, answers = {}, {}
    for one in contenders:
        written = write_answers(
            one.given, one.writer, conversations, sampling_of(settings), display, seed=settings.seed
        )
        answers[one.name] = written
        golds = [gold_judge(world, prompt, text) for prompt, text in zip(prompts, written, strict=True)]
        arms[one.name] = arm_scores(
            [prompt.conversation.last_user_text for prompt in prompts], [prompt.kind for prompt in prompts], golds
        )
        overall = gold_means(arms[one.name], seed=settings.seed).overall
        display.say(f"gold score of {one.given}: {overall.mean:.3f} ({spread(overall, 'prompts')})")
    if len(contenders) > 1:
        other, *_, mine = arms.values()
        gained = paired_difference(mine.overall, other.overall, seed=settings.seed, groups=mine.prompts)
        found.parts["gold_gained"] = gained
        ends = spread(gained, "prompts", "+.3f")
        display.say(f"gold score gained over {contenders[0].given}: {gained.mean:+.3f} ({ends})")
    first = contenders[0]
    for second in contenders[1:]:
        preferences = GoldJudge(world, prompts).prefer(conversations, answers[second.name], answers[first.name])
        names = (second.name, first.name)
        won = win_rate(preferences, names=names, judge="gold", seed=settings.seed, groups=conversations)
        _say_won(won, (second, first), display, found)
    found.parts["gold"] = {name: gold_means(arm, seed=settings.seed) for name, arm in arms.items()}
    found.parts["gold_by_kind"] = by_kind(arms)
