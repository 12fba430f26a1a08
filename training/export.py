"""DVC stage `export`: the trained model as a bundle, and proof that the fast form says what the float form says.

    python -m training.export            build/bundle, metrics/export.json

The int8 engine is the float ONNX model with its weights in eight bits; activations are quantised as they come
(`pipeline.engine`). Where the two disagree on more labels, or in calibration, than the config allows, more of the model
is kept in float; where that does not help, export fails.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino
import torch
from datasets import DatasetDict, concatenate_datasets, load_from_disk
from tokenizers import Tokenizer

from pipeline.bundle import FORMAT, LAYOUT, Card, Golden, load_bundle, write_manifest
from pipeline.config import Config, current_profile, load_config
from pipeline.conversation import Conversation, read_conversations
from pipeline.encode import Encoded, Encoder, EncodingConfig, read_turn
from pipeline.engine import OpenVinoEngine
from pipeline.errors import InputError
from pipeline.heads import Calibration, Floats, choose, probabilities
from pipeline.ingest import CONVERSATIONS
from pipeline.predictor import Predictor
from pipeline.prepare import DATASET, PrepareConfig
from pipeline.scores import expected_calibration_error
from pipeline.stage import BUILD, BUNDLE, METRICS, data_hash, read_json, run, steps, write_json
from pipeline.vocabulary import Vocabulary, load_vocabulary
from pipeline.weights import TrainedEncoder
from training.calibrate import read_calibration
from training.checkpoint import MODEL, TOKENIZER, load_model
from training.labelled import Labelled, encoded_rows, labelled
from training.model import SimmerModel
from training.reference import reference
from training.tracking import RUN_FILE, finish_stage, git_revision


class ExportConfig(Config):
    """How far the int8 engine may stray from the float model, and what the bundle carries to prove itself."""

    max_label_disagreement: float
    max_ece_shift: float
    ece_bins: int
    golden_rows: int
    golden_tolerance: float
    languages: tuple[str, ...]


class ParityBroken(InputError):
    """The int8 engine does not say what the float model says; the message names the heads."""


def write_float(model: SimmerModel, path: Path) -> None:
    """The model as one ONNX file with named, dynamic rows and tokens."""
    ids = torch.tensor([[101, 2023, 102, model.pad], [101, 2003, 2023, 102]])
    axes = {0: torch.export.Dim("rows", min=1), 1: torch.export.Dim("tokens", min=2)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model.cpu().eval(),
            (ids, torch.zeros_like(ids)),
            input_names=["input_ids", "token_type_ids"],
            output_names=["logits"],
            dynamic_shapes={"input_ids": axes, "token_type_ids": axes},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    program.save(str(path))


def write_engine(original: Path, path: Path, kept_in_float: Collection[str]) -> None:
    """The ONNX model with its weights in eight bits, as OpenVINO's intermediate form.

    `kept_in_float` names kinds of operations (`kind_of`) that stay as they are.
    """
    model = openvino.Core().read_model(original)
    names = [op.get_friendly_name() for op in model.get_ordered_ops() if kind_of(op) in kept_in_float]
    ignored = nncf.IgnoredScope(names=names) if names else None
    compressed = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM, ignored_scope=ignored)
    openvino.save_model(compressed, path, compress_to_fp16=False)


def kind_of(operation: Any) -> str:
    """What a weighted operation does: `embed`, `narrow` (fewer outputs than inputs), `widen`, `keep`; else nothing."""
    name = operation.get_type_name()
    if name == "Gather":
        return "embed"
    if name != "MatMul" or operation.input_value(1).get_node().get_type_name() != "Constant":
        return ""
    rows, columns = operation.input_value(1).get_node().shape
    if operation.get_attributes()["transpose_b"]:
        rows, columns = columns, rows
    return "narrow" if rows > columns else "widen" if rows < columns else "keep"


# From the fastest to the most faithful; the first that passes parity is exported. The projections that narrow carry
# most of the error: the feed-forward layers' outputs and the heads.
FLOAT_PLANS: tuple[tuple[str, ...], ...] = ((), ("narrow",), ("narrow", "embed"), ("narrow", "embed", "keep"))


def parity(exact: Labelled, fast: Labelled, calibration: Calibration, config: ExportConfig) -> dict[str, Any]:
    """Per head: share of labels that differ, calibration error of both, the largest logit and probability drift."""
    before = probabilities(exact.logits, exact.vocabulary, calibration)
    after = probabilities(fast.logits, fast.vocabulary, calibration)
    report: dict[str, Any] = {}
    for name, where in exact.vocabulary.slices().items():
        head, known = exact.vocabulary.heads[name], exact.known[name]
        target = exact.among(name, exact.target)
        ece = [
            expected_calibration_error(exact.among(name, chance), target, head.exclusive, config.ece_bins)
            if known.any()
            else 0.0
            for chance in (before, after)
        ]
        report[name] = {
            "label_disagreement": round(
                disagreement(before[:, where], after[:, where], name, exact.vocabulary, calibration), 5
            ),
            "ece_float": round(ece[0], 5),
            "ece_int8": round(ece[1], 5),
            "max_logit_drift": round(float(np.abs(exact.logits[:, where] - fast.logits[:, where]).max()), 4),
            "max_probability_drift": round(float(np.abs(before[:, where] - after[:, where]).max()), 4),
            "mean_probability_drift": round(float(np.abs(before[:, where] - after[:, where]).mean()), 5),
        }
    return report


def disagreement(before: Floats, after: Floats, name: str, vocabulary: Vocabulary, calibration: Calibration) -> float:
    """Share of labels that two sets of probabilities [rows, values] of one head are read as differently."""
    head = vocabulary.heads[name]
    if head.exclusive:
        return float((choose(before, head) != choose(after, head)).mean())
    thresholds = np.array(calibration.thresholds[vocabulary.slices()[name]])
    return float(((before >= thresholds) != (after >= thresholds)).mean())


def broken_heads(report: dict[str, Any], config: ExportConfig) -> list[str]:
    """What strays too far, head by head."""
    broken = []
    for name, figures in report.items():
        shift = abs(figures["ece_float"] - figures["ece_int8"])
        if figures["label_disagreement"] > config.max_label_disagreement:
            broken.append(f"{name}: {figures['label_disagreement']:.2%} of labels differ")
        if shift > config.max_ece_shift:
            broken.append(f"{name}: calibration error moves by {shift:.4f}")
    return broken


def check_parity(report: dict[str, Any], config: ExportConfig) -> None:
    """Raise ParityBroken naming every head that strays too far."""
    broken = broken_heads(report, config)
    if broken:
        raise ParityBroken("int8 and float disagree: " + "; ".join(broken))


def golden_inputs(conversations: Sequence[Conversation], rows: int) -> list[Conversation]:
    """Held-back conversations of the bundled corpus, spread over it; other corpora's text must not travel."""
    own = [c for c in conversations if c.meta.get("source") == "bundled" and c.meta.get("split") == "live"]
    step = max(1, len(own) // rows)
    return [without_labels(c) for c in own[::step][:rows]]


def without_labels(conversation: Conversation) -> Conversation:
    """The conversation as it would arrive."""
    turns = tuple(turn.model_copy(update={"labels": None}) for turn in conversation.turns)
    return conversation.model_copy(update={"turns": turns})


def score_golden(conversations: Sequence[Conversation], predictor: Predictor) -> tuple[Golden, ...]:
    """Each conversation with the probabilities of its last customer turn, scored one at a time as replay does."""
    golden = []
    for conversation in conversations:
        given = read_turn(conversation, conversation.customer_turns()[-1], predictor.encoder.config)
        chances = predictor.predict([given])[0]
        golden.append(Golden(conversation=conversation, probabilities=tuple(float(p) for p in chances.round(6))))
    return tuple(golden)


def build(folder: Path, profile: str, config: ExportConfig, begin: Callable[[str], None]) -> dict[str, Any]:
    """Write the bundle into an empty folder; what the metrics file says. Raises ParityBroken."""
    model, vocabulary = load_model(MODEL)
    begin("float model")
    write_float(model, folder / LAYOUT.original)
    shutil.copyfile(MODEL / TOKENIZER, folder / LAYOUT.tokenizer)
    encoding = load_config(PrepareConfig, "data.yaml", "prepare", profile).encoding
    exact = predictor(folder, LAYOUT.original, encoding, vocabulary, read_calibration())
    heard, encoded = float_reference(exact, load_from_disk(str(DATASET)))
    for plan in FLOAT_PLANS:
        begin("int8 engine")
        write_engine(folder / LAYOUT.original, folder / LAYOUT.engine, plan)
        fast = predictor(folder, LAYOUT.engine, encoding, vocabulary, exact.calibration)
        told = heard.with_logits(fast.logits(encoded).astype(np.float64))
        report = parity(heard, told, exact.calibration, config)
        if not broken_heads(report, config):
            break
    check_parity(report, config)
    begin("golden inputs and reference")
    card = make_card(profile, fast, report, read_conversations(CONVERSATIONS), config)
    write_json(folder / LAYOUT.card, card.model_dump(mode="json"))
    return {
        "bundle": write_manifest(folder),
        "kept_in_float": list(plan),
        "megabytes": megabytes(folder),
        "parity": report,
    }


def predictor(
    folder: Path, file: str, encoding: EncodingConfig, vocabulary: Vocabulary, calibration: Calibration
) -> Predictor:
    """One of the bundle's two models behind the tokenizer and calibration that both share."""
    encoder = Encoder(Tokenizer.from_file(str(folder / LAYOUT.tokenizer)), encoding)
    return Predictor(encoder, OpenVinoEngine(folder / file, threads=os.cpu_count() or 1), vocabulary, calibration)


def float_reference(exact: Predictor, dataset: DatasetDict) -> tuple[Labelled, list[Encoded]]:
    """Validation and test rows as the float model scores them, and their tokens."""
    rows = concatenate_datasets([dataset["validation"], dataset["test"]])
    encoded = encoded_rows(rows)
    return labelled(rows, load_vocabulary(), exact.vocabulary, exact.logits(encoded).astype(np.float64)), encoded


def make_card(
    profile: str,
    fast: Predictor,
    parity_report: dict[str, Any],
    conversations: Sequence[Conversation],
    config: ExportConfig,
) -> Card:
    """Everything that `bundle.json` tells."""
    evaluation = read_json(METRICS / "evaluate.json")
    return Card(
        format=FORMAT,
        profile=profile,
        encoder=load_config(TrainedEncoder, "train.yaml", "encoder", profile).name,
        languages=config.languages,
        labels=fast.vocabulary,
        encoding=fast.encoder.config,
        calibration=fast.calibration,
        metrics={"test": evaluation["heads"], "parity": parity_report},
        slices=evaluation["slices"],
        data_hash=data_hash(CONVERSATIONS),
        git_revision=git_revision(),
        mlflow_run_id=read_json(RUN_FILE)["run_id"],
        golden_tolerance=config.golden_tolerance,
        golden=score_golden(golden_inputs(conversations, config.golden_rows), fast),
        reference=reference(load_from_disk(str(DATASET)), conversations, fast, config.languages),
    )


def megabytes(folder: Path) -> dict[str, float]:
    """Size of the int8 engine and of the float model."""
    engine = (folder / LAYOUT.engine).stat().st_size + (folder / LAYOUT.engine_weights).stat().st_size
    return {"int8": round(engine / 1e6, 1), "float": round((folder / LAYOUT.original).stat().st_size / 1e6, 1)}


def main() -> None:
    """Run the stage for the current profile."""
    profile = current_profile()
    config = load_config(ExportConfig, "train.yaml", "export", profile)
    nncf.set_log_level(logging.ERROR)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(dir=BUILD) as name, steps("exporting", 4) as begin:
        folder = Path(name)
        metrics = build(folder, profile, config, begin)
        begin("replay")
        load_bundle(folder)
        shutil.rmtree(BUNDLE, ignore_errors=True)
        BUNDLE.mkdir()
        for file in (*LAYOUT.hashed, LAYOUT.manifest):
            (folder / file).rename(BUNDLE / file)
    finish_stage("export", config, metrics)


if __name__ == "__main__":
    run(main)
