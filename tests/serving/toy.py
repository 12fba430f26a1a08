"""A bundle that is made in a moment and hears certain words: real files, a real engine, and answers a test can foresee.

`furious` is severe frustration, `urgent` critical urgency, `manager` and `lawyer` are signals, `soon` foretells a
boil-over, and so does `furious` in what came before. Everything else is calm.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
from openvino import opset13 as ops
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from pipeline.bundle import LAYOUT, Card, Golden, write_manifest
from pipeline.conversation import Conversation, Turn
from pipeline.encode import Encoder, EncodingConfig, read_turn
from pipeline.engine import OpenVinoEngine
from pipeline.heads import no_calibration
from pipeline.predictor import Predictor
from pipeline.vocabulary import Vocabulary, load_vocabulary
from serving.config import ServeConfig, load_serve_config

WORDS = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "furious", "urgent", "manager", "lawyer", "soon")
CALM = {"sentiment": "neutral", "frustration": "none", "urgency": "low", "satisfaction": "3"}
HEARD = {
    "furious": {"sentiment": ("very_negative", 10), "frustration": ("severe", 20)},
    "urgent": {"urgency": ("critical", 20)},
    "manager": {"signals": ("escalation_request", 20)},
    "lawyer": {"signals": ("public_or_legal_threat", 20)},
    "soon": {"boil_over": ("boil_over", 8)},
}
ENCODING = EncodingConfig(max_tokens=96, message_tokens=72, turn_tokens=24, earlier_turns=4)


def make_bundle(folder: Path) -> Path:
    """A whole bundle in a folder, its golden input scored by the engine that is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = load_vocabulary()
    tokenizer = _tokenizer()
    tokenizer.save(str(folder / LAYOUT.tokenizer))
    openvino.save_model(_network(vocabulary), folder / LAYOUT.engine, compress_to_fp16=False)
    (folder / LAYOUT.original).write_bytes(b"no original")
    predictor = Predictor(
        Encoder(tokenizer, ENCODING), OpenVinoEngine(folder / LAYOUT.engine), vocabulary, no_calibration(vocabulary)
    )
    card = _card(vocabulary, predictor)
    (folder / LAYOUT.card).write_text(card.model_dump_json(), encoding="utf-8")
    write_manifest(folder)
    return folder


def toy_config(bundle: Path, store: Path) -> ServeConfig:
    """The project's own configuration, on another bundle and store, with little warming."""
    config = load_serve_config()
    return config.model_copy(
        update={
            "model": str(bundle),
            "store": config.store.model_copy(update={"url": f"sqlite:///{store / 'simmer.db'}"}),
            "batcher": config.batcher.model_copy(update={"warm_seconds": 0.0, "streams": 1}),
        }
    )


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    return tokenizer


def _network(vocabulary: Vocabulary) -> openvino.Model:
    """Every token adds its row to the logits: of one table in the message, of another in what came before."""
    ids = ops.parameter([-1, -1], np.int64, name="input_ids")
    segments = ops.parameter([-1, -1], np.int64, name="token_type_ids")
    for given, name in ((ids, "input_ids"), (segments, "token_type_ids")):
        given.output(0).set_names({name})
    message, before, calm = _tables(vocabulary)
    earlier = ops.unsqueeze(ops.convert(segments, np.float32), np.array(2))
    rows = ops.add(
        ops.multiply(ops.gather(message, ids, np.array(0)), ops.subtract(np.float32(1), earlier)),
        ops.multiply(ops.gather(before, ids, np.array(0)), earlier),
    )
    logits = ops.add(ops.reduce_sum(rows, np.array(1)), calm)
    return openvino.Model([ops.result(logits)], [ids, segments], "toy")


def _tables(vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    size, where = vocabulary.size, vocabulary.slices()
    message, before = np.zeros((2, len(WORDS), size), np.float32)
    calm = np.zeros((1, size), np.float32)

    def output(head: str, value: str) -> int:
        return where[head].start + vocabulary.heads[head].values.index(value)

    for head, value in CALM.items():
        calm[0, output(head, value)] = 8
    for head in ("signals", "boil_over"):
        calm[0, where[head]] = -6
    for word, heard in HEARD.items():
        for head, (value, logit) in heard.items():
            message[WORDS.index(word), output(head, value)] = logit
    before[WORDS.index("furious"), output("boil_over", "boil_over")] = 3
    return message, before, calm


def _card(vocabulary: Vocabulary, predictor: Predictor) -> Card:
    talk = Conversation(id="golden", turns=(Turn(role="customer", text="I am furious"),))
    (chances,) = predictor.predict([read_turn(talk, 0, ENCODING)])
    return Card(
        format=1,
        profile="toy",
        encoder="toy",
        languages=("en",),
        labels=vocabulary,
        encoding=ENCODING,
        calibration=predictor.calibration,
        metrics={"test": {"frustration": {"f1": 1.0}}},
        slices={},
        data_hash="none",
        git_revision="none",
        mlflow_run_id="none",
        golden_tolerance=1e-3,
        golden=(Golden(conversation=talk, probabilities=tuple(map(float, chances))),),
    )
