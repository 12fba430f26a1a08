"""The classifier as ONNX Runtime runs it quickest on a processor: fused for BERT, then dynamic int8.

    venv-infinity/bin/python benchmarks/peers/int8.py CLASSIFIER FOLDER

Runs in Infinity's environment, whose transformers writes the graph that ONNX Runtime's fusions know. The folder is one
that Infinity serves (`onnx/model_quantized.onnx` beside the tokenizer) and LitServe's worker reads.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import warnings
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers import optimizer
from transformers import AutoModelForSequenceClassification

NAMES = ("input_ids", "attention_mask", "token_type_ids")
HEADS, WIDTH, OPSET = 12, 384, 17


class Logits(torch.nn.Module):
    """The classifier with its inputs in a fixed order and nothing but logits as output."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(**dict(zip(NAMES, given, strict=True))).logits
        return logits


def write_float(classifier: Path, target: Path) -> None:
    """The classifier as float ONNX, rows and tokens free."""
    ids = torch.ones(2, 8, dtype=torch.long)
    free = {name: {0: "rows", 1: "tokens"} for name in NAMES} | {"logits": {0: "rows"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracing exporter is deprecated; the fusions know no other's graphs
        torch.onnx.export(
            Logits(classifier),
            (ids, ids, torch.zeros_like(ids)),
            str(target),
            input_names=list(NAMES),
            output_names=["logits"],
            dynamic_axes=free,
            opset_version=OPSET,
            dynamo=False,
        )


def main() -> None:
    """Write the folder."""
    classifier, folder = Path(sys.argv[1]), Path(sys.argv[2])
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    for file in classifier.glob("*.json"):
        shutil.copy(file, folder)
    with tempfile.TemporaryDirectory() as name:
        plain, fused = Path(name) / "float.onnx", Path(name) / "fused.onnx"
        write_float(classifier, plain)
        optimised = optimizer.optimize_model(
            str(plain), model_type="bert", num_heads=HEADS, hidden_size=WIDTH, opt_level=0
        )
        optimised.save_model_to_file(str(fused))
        # fused operators have no shape inference, so the quantiser is told what lies between them
        quantize_dynamic(
            fused,
            folder / "onnx" / "model_quantized.onnx",
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
        )


if __name__ == "__main__":
    main()
