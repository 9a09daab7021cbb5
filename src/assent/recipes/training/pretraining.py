"""`assent pretrain`: a tokenizer and a small model from text, or from the embedded world's endless corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from assent.algorithms.pretrain import PretrainTask, Stream, encode_documents, repeated, windows
from assent.data.load import load_texts
from assent.errors import DataError
from assent.model.body import Body
from assent.model.fresh import new_causal_lm
from assent.model.roles import LanguageRole
from assent.ports.learning import Roles
from assent.recipes.run.inputs import read_all
from assent.recipes.run.job_settings import PretrainJob
from assent.recipes.run.jobs import Training
from assent.recipes.run.models import LanguageModel, save_language_model
from assent.recipes.run.progress import Display
from assent.recipes.run.request import Request
from assent.recipes.training.prepare import Prepared, learner_settings
from assent.runs.lineage import DataSource
from assent.seeds import derive
from assent.text.rendering import PLAIN_TEMPLATE
from assent.text.template import ChatTemplate, Encoded
from assent.text.tokenizer import train_tokenizer
from assent.world.corpus import CHAT_TEMPLATE, END, PAD, SPECIAL_TOKENS, document, render
from assent.world.facts import World, build_world

WORLD = "world"
_TOKENIZER_DOCUMENTS = 30_000
_HELD_OUT_DOCUMENTS = 512
_TEXT_END, _TEXT_PAD = "<|end|>", "<|pad|>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Everything pretraining reads: the template with its tokenizer, the stream, and held-out documents."""

    template: ChatTemplate
    stream: Stream
    held_out: tuple[Encoded, ...]
    sources: tuple[DataSource, ...]


def prepare_pretraining(request: Request, settings: PretrainJob, display: Display) -> Training:
    """A model from random weights, on `--data FILE ...` or on `--data world`."""
    corpus = world_corpus(settings) if request.files.data == (WORLD,) else _text_corpus(request, settings, display)
    template = corpus.template
    network = new_causal_lm(
        settings.shape,
        vocabulary=template.vocabulary_size,
        end_id=template.end_id,
        pad_id=template.pad_id,
        seed=settings.seed,
    )
    body = Body(network, device=settings.machine.pick(), precision=settings.machine.precision)
    display.say(f"{sum(p.numel() for p in network.parameters()):,} parameters, {template.vocabulary_size} tokens")
    model = LanguageModel(role=LanguageRole(body), template=template, path="")
    learner = model.backend.learner(Roles(policy=model.role), learner_settings(settings))
    task = PretrainTask(corpus.stream, learner, settings=settings, held_out=corpus.held_out)
    return Training(prepared=Prepared(task=task), save=partial(save_language_model, model), sources=corpus.sources)


def world_corpus(settings: PretrainJob) -> Corpus:
    """The embedded world's documents, addressed by number, and a tokenizer trained on some of them."""
    world = build_world(0)
    seed = derive(settings.seed, "corpus")
    tokenizer = train_tokenizer(
        _plain_texts(world, derive(settings.seed, "tokenizer")),
        vocabulary_size=settings.shape.vocabulary_size,
        special_tokens=SPECIAL_TOKENS,
        end=END,
        pad=PAD,
        chat_template=CHAT_TEMPLATE,
    )
    template = ChatTemplate(tokenizer)
    held_out = _world_documents(world, derive(settings.seed, "held out"), template, range(_HELD_OUT_DOCUMENTS))
    stream = partial(_world_documents, world, seed, template)
    source = DataSource(role="train", name="the embedded world", sha256="made from the seed", format="world")
    return Corpus(template=template, stream=stream, held_out=tuple(held_out), sources=(source,))


def _world_documents(world: World, seed: int, template: ChatTemplate, numbers: Sequence[int]) -> list[Encoded]:
    items = [document(world, seed, number) for number in numbers]
    return encode_documents(
        [item.conversation or item.pieces or item.rated or str(item.text) for item in items], template
    )


def _plain_texts(world: World, seed: int) -> Iterable[str]:
    for number in range(_TOKENIZER_DOCUMENTS):
        item = document(world, seed, number)
        if item.conversation is None:
            yield render(item).removesuffix(END)
        else:
            yield from (message.content for message in item.conversation.messages)


def _text_corpus(request: Request, settings: PretrainJob, display: Display) -> Corpus:
    files = request.files
    data = read_all(
        files.data, load_texts, files, display, role="train", limit=settings.limit, reading=settings.reading
    )
    held = read_all(files.eval_data, load_texts, files, display, role="eval", reading=settings.reading)
    display.say("training the tokenizer")
    tokenizer = train_tokenizer(
        data.examples,
        vocabulary_size=settings.shape.vocabulary_size,
        special_tokens=(_TEXT_PAD, _TEXT_END),
        end=_TEXT_END,
        pad=_TEXT_PAD,
        chat_template=PLAIN_TEMPLATE,
    )
    template = ChatTemplate(tokenizer)
    cut: Callable[[Sequence[str]], list[Encoded]] = lambda texts: windows(  # noqa: E731
        encode_documents(list(texts), template), length=settings.shape.context
    )
    train = cut(data.examples)
    if not train:
        raise DataError("the texts hold no two tokens in a row", where=files.data[0])
    display.say(f"{sum(map(len, train)):,} tokens in {len(train):,} windows of at most {settings.shape.context}")
    return Corpus(
        template=template,
        stream=repeated(train, seed=settings.seed),
        held_out=tuple(cut(held.examples)),
        sources=(*data.sources, *held.sources),
    )
