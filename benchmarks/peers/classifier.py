"""The bundle's own encoder as the five-way classifier that the peers can serve.

    python -m benchmarks.peers.classifier BUNDLE FOLDER

Peers serve one softmax over one pooled vector, which is not what Simmer computes (six heads over three pooled
vectors), so the encoder's weights are the bundle's and the head is drawn at random: it costs what a trained one costs,
and its answers mean nothing. Knows nothing of servers.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from transformers import AutoConfig, AutoModelForSequenceClassification

from pipeline.bundle import LAYOUT
from pipeline.weights import BUNDLED_ENCODER, TrainedEncoder, encoder_folder

LABELS = 5
SEED = 17
PREFIX = "encoder."


class WeightsMissing(ValueError):
    """The bundle's float network does not hold every weight of the encoder."""


def encoder_weights(network: Path) -> dict[str, NDArray[np.float32]]:
    """The encoder's weights by their names in transformers.

    The exporter keeps the names of biases, norms and embeddings; a linear layer's matrix is a nameless, transposed
    constant that meets its bias in an addition.
    """
    graph = onnx.load(network).graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    maker = {output: node for node in graph.node for output in node.output}
    weights = {name: numpy_helper.to_array(t) for name, t in constants.items() if name.startswith(PREFIX)}
    for node in graph.node:
        bias = next((name for name in node.input if name in weights and name.endswith(".bias")), None)
        product = next((maker[name] for name in node.input if name in maker), None)
        if node.op_type == "Add" and bias and product and product.op_type == "MatMul":
            matrix = numpy_helper.to_array(constants[product.input[1]])
            weights[bias.removesuffix("bias") + "weight"] = np.ascontiguousarray(matrix.T)
    return {name.removeprefix(PREFIX): value for name, value in weights.items()}


def write_classifier(bundle: Path, folder: Path) -> None:
    """Write the classifier as transformers reads it. Raises WeightsMissing."""
    source = encoder_folder(TrainedEncoder(name=BUNDLED_ENCODER))
    config = AutoConfig.from_pretrained(source, num_labels=LABELS)
    torch.manual_seed(SEED)
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    given = {name: torch.from_numpy(value.copy()) for name, value in encoder_weights(bundle / LAYOUT.original).items()}
    report = model.base_model.load_state_dict(given, strict=False)
    missing = [name for name in report.missing_keys if not name.startswith("pooler.")]
    if missing:
        raise WeightsMissing(f"{bundle / LAYOUT.original}: no weights for {', '.join(missing[:5])}")
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        if (source / name).is_file():
            shutil.copy(source / name, folder / name)


def main() -> None:
    """Write the classifier."""
    parser = argparse.ArgumentParser(description="A bundle's encoder as a five-way classifier.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    write_classifier(given.bundle, given.folder)


if __name__ == "__main__":
    main()
