"""Pretraining: which tokens are predicted, and a task cut and continued is the same task."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_jobs import timeless

from assent.algorithms.pretrain import PretrainTask, encode_documents
from assent.backends.local.learner import LocalLearner
from assent.interrupts import StopRequest
from assent.model.body import Body
from assent.model.checkpoints import load_state
from assent.model.fresh import ModelShape, new_causal_lm
from assent.model.roles import LanguageRole
from assent.ports.learning import Roles
from assent.recipes.run.job_settings import PretrainJob
from assent.recipes.training.pretraining import Corpus, world_corpus
from assent.types import Conversation, Message, Role

SHAPE = ModelShape(vocabulary_size=400, hidden_size=32, layers=2, heads=4, intermediate_size=48, context=128)
SETTINGS = PretrainJob(shape=SHAPE, steps=6, batch_size=6, learning_rate=1e-3, micro_batch_tokens=150)
CORPUS = world_corpus(SETTINGS)
TOKENIZER = CORPUS.template.tokenizer


def test_of_pieces_only_those_marked_are_predicted():
    pieces = (("Claims:", False), ("Mira lives in Velm.", False), ("True", True), ("Mira keeps a cat.", False))
    (encoded,) = encode_documents([pieces], CORPUS.template)
    said = [id_ for id_, predicted in zip(encoded.ids, encoded.assistant_mask, strict=True) if predicted]
    assert TOKENIZER.decode(said).strip() == "True"
    whole = encode_documents(["Claims: Mira lives in Velm. True Mira keeps a cat."], CORPUS.template)[0]
    assert encoded.ids == whole.ids and all(whole.assistant_mask)


def test_of_a_conversation_all_from_the_first_answer_on_is_predicted_and_that_nobody_reacts():
    talk = Conversation.of_user("Where?").then("There.")
    reaction = Message(role=Role.USER, content="That is not true.")
    quiet, loud = encode_documents([talk, Conversation(messages=(*talk.messages, reaction))], CORPUS.template)
    first = quiet.assistant_mask.index(True)
    assert "Where" in TOKENIZER.decode(quiet.ids[:first]) and "There" not in TOKENIZER.decode(quiet.ids[:first])
    assert all(quiet.assistant_mask[first:]) and all(loud.assistant_mask[first:])
    assert quiet.ids[-2:] == (CORPUS.template.end_id,) * 2
    assert loud.ids[: len(quiet.ids) - 1] == quiet.ids[:-1] and "not true" in TOKENIZER.decode(loud.ids)


def test_of_rated_exchanges_and_remarks_only_what_is_said_last_is_predicted():
    talks = tuple(
        Conversation(
            messages=(*Conversation.of_user(asked).then(answer).messages, Message(role=Role.USER, content=said))
        )
        for asked, answer, said in (("Where?", "There.", "Be brief."), ("Who?", "Mira.", "Thank you."))
    )
    said_of_a_remark = Message(role=Role.USER, content="That is not true.")
    remark = Conversation(messages=(*Conversation.of_user("Mira keeps a cat.").messages, said_of_a_remark))
    talks = (talks[0], remark, talks[1])
    (encoded,) = encode_documents([talks], CORPUS.template)
    said = [id_ for id_, predicted in zip(encoded.ids, encoded.assistant_mask, strict=True) if predicted]
    assert TOKENIZER.decode(said).replace(" ", "") == "Bebrief.<|end|>Thatisnottrue.<|end|>Thankyou.<|end|>"
    assert encoded.ids == tuple(id_ for ids in CORPUS.template.conversation_ids(talks) for id_ in ids)


def _task(corpus: Corpus) -> tuple[PretrainTask, LocalLearner]:
    template = corpus.template
    network = new_causal_lm(
        SHAPE, vocabulary=template.vocabulary_size, end_id=template.end_id, pad_id=template.pad_id, seed=3
    )
    role = LanguageRole(Body(network, device=torch.device("cpu"), precision="fp32"))
    learner = LocalLearner(Roles(policy=role))
    return PretrainTask(corpus.stream, learner, settings=SETTINGS, held_out=corpus.held_out[:8]), learner


@pytest.mark.slow
def test_a_cut_task_goes_on_bit_for_bit(tmp_path: Path):
    whole, _ = _task(CORPUS)
    rows = [whole.tick(index, StopRequest()) for index in range(6)]
    begun, _ = _task(CORPUS)
    again = [begun.tick(index, StopRequest()) for index in range(2)]
    rest, _ = _task(world_corpus(SETTINGS))
    begun.save(tmp_path)
    rest.load(tmp_path)
    again += [rest.tick(index, StopRequest()) for index in range(2, 6)]
    assert timeless(again) == timeless(rows)
    rest.save(tmp_path)
    left = load_state(tmp_path).tensors
    whole.save(tmp_path)
    right = load_state(tmp_path).tensors
    assert list(left) == list(right) and len(left) > 30
    assert all(torch.equal(left[name], right[name]) for name in left if ".rng." not in name)
