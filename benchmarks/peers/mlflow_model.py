"""The classifier as an MLflow model of the transformers flavour, task text-classification.

    venv-mlflow/bin/python benchmarks/peers/mlflow_model.py CLASSIFIER FOLDER

Runs in MLflow's environment.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import mlflow
from transformers import pipeline


def main() -> None:
    """Save the model, in the place of an older one."""
    classifier, folder = Path(sys.argv[1]), Path(sys.argv[2])
    shutil.rmtree(folder, ignore_errors=True)
    classify = pipeline("text-classification", model=str(classifier), device="cpu")
    mlflow.transformers.save_model(classify, str(folder), pip_requirements=["transformers", "torch"])


if __name__ == "__main__":
    main()
