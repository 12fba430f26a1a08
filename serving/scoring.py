"""Scoring by whichever model serves now: what the API and the live conversations ask, counted as it is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving.answers import Abstention, Answer, Priority
from serving.explain import Explanation, explain
from serving.operation.metrics import Metrics
from serving.operation.models import Models
from serving.operation.shadow import Shadow
from serving.scorer import Job, LiveScorer


class ModelScoring:
    """Every call is answered whole by one model, whatever takes its place meanwhile."""

    def __init__(self, models: Models[LiveScorer], metrics: Metrics, shadow: Shadow | None = None) -> None:
        self._models, self._metrics, self._shadow = models, metrics, shadow

    async def score(self, jobs: Sequence[Job], deadline: float | None = None) -> list[Answer]:
        """One answer a job, in order. Raises as `LiveScorer.score` does."""
        with self._models.use() as model:
            answers = await model.score(jobs, deadline)
        for answer in answers:
            self._metrics.answered(answer)
        if self._shadow is not None:
            self._shadow.offer(jobs, answers)
        return answers

    async def explain(self, job: Job, deadline: float | None = None) -> Explanation:
        """What moved the scores of one job. Raises as `LiveScorer.score` does."""
        with self._models.use() as model:
            return await explain(model, job, deadline)

    def passed_over(self, identifier: str, turn: int, priority: Mapping[str, Any]) -> dict[str, Any]:
        """What is said of a turn that is not the customer's."""
        why = Abstention(reason="not_customer", detail="only what the customer writes is scored")
        name = self._models.current.scorer.model
        answer = Answer(id=identifier, turn=turn, priority=Priority(**priority), abstained=why, model=name)
        return answer.model_dump(mode="json")
