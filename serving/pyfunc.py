"""The scorer as MLflow runs it: code that a logged model carries and `mlflow.pyfunc.load_model` executes.

    model = mlflow.pyfunc.load_model("models:/simmer@champion")
    model.predict([{"id": "m17", "text": "still no refund"}])      -> a list of answers

Input: rows `{"id", "text"}` or `{"id", "turns"}`, as a list or as a DataFrame with these columns. A row that
cannot be read gets `{"id", "line", "error"}` in its place, lines counted from 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow

from pipeline.conversation import Conversation, RowError, RowInvalid, id_of, parse_row
from serving.scorer import Scorer, last_turn, load_scorer


class ScorerModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """MLflow's view of the scorer."""

    scorer: Scorer

    def load_context(self, context: Any) -> None:
        """Load the bundle. Raises BundleRefused if it is not what was exported."""
        self.scorer = load_scorer(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: Any, params: Any = None) -> list[dict[str, Any]]:
        """One answer a row, in order."""
        rows = model_input if isinstance(model_input, list) else model_input.to_dict("records")
        read = [_parse(row, line) for line, row in enumerate(rows, 1)]
        jobs = [job for row in read if isinstance(row, Conversation) for job in last_turn(row)]
        answers = iter(self.scorer.score(jobs))
        return [row.as_dict() if isinstance(row, RowError) else next(answers).model_dump(mode="json") for row in read]


def _parse(row: object, line: int) -> Conversation | RowError:
    try:
        return parse_row({k: v for k, v in row.items() if v is not None} if isinstance(row, dict) else row)
    except RowInvalid as error:
        return RowError(line, id_of(row), str(error))


mlflow.models.set_model(ScorerModel())
