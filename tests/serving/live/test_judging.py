"""Answers that were stored under a model with other labels."""

from __future__ import annotations

from serving.live.judging import Judge
from serving.policy import Policy
from tests.serving.live.conftest import World
from tests.serving.live.test_conversations import message, post


def test_an_answer_in_other_labels_stays_as_it_was_decided(world: World, judge: Judge) -> None:
    said = post(world, message("m1", "furious"))[0].state
    heads = dict(judge.vocabulary.heads)
    heads["signals"] = heads["signals"].model_copy(update={"values": (*heads["signals"].values, "praise")})
    wider = judge.vocabulary.model_copy(update={"heads": heads})
    found = Judge(Policy(judge.policy.config, wider), wider).judge(said.latest or {})
    assert (found.decision.queue, found.decision.score, found.strengths) == (said.queue, said.score, None)
