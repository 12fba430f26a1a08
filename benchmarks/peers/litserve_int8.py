"""LitServe over ONNX Runtime int8: dynamic batches, sorted by length.

    venv-litserve/bin/python benchmarks/peers/litserve_int8.py FOLDER PORT WORKERS BATCH TIMEOUT_SECONDS

Runs in LitServe's environment. One answer is the probabilities of the five values.
"""

import sys
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

LONGEST = 512
RUN_TOKENS = 1024  # padded tokens in one run, as Simmer batches


class Classifier(litserve.LitAPI):
    """Texts in, probabilities out."""

    def __init__(self, folder: Path, batch: int, timeout: float) -> None:
        super().__init__(max_batch_size=batch, batch_timeout=timeout)
        self.folder = folder

    def setup(self, device: str) -> None:
        """Load tokenizer and session in the worker, one thread each."""
        self.tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self.tokenizer.no_padding()  # its file says to pad everything to 128
        self.tokenizer.enable_truncation(LONGEST)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(self.folder / "onnx" / "model_quantized.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def decode_request(self, request: dict[str, Any]) -> str:
        """The text of a request."""
        return str(request["text"])

    def batch(self, inputs: list[str]) -> list[str]:
        """Texts wait together until they are sorted."""
        return inputs

    def predict(self, texts: list[str]) -> list[list[float]]:
        """Probabilities, in the order given."""
        encodings = self.tokenizer.encode_batch_fast(texts)
        answers: list[list[float]] = [[]] * len(texts)
        for rows in runs([len(encoding.ids) for encoding in encodings]):
            for row, chances in zip(rows, self.run([encodings[row].ids for row in rows]), strict=True):
                answers[row] = chances
        return answers

    def run(self, rows: list[list[int]]) -> list[list[float]]:
        """The network over rows padded to the longest."""
        ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
        mask = (ids != 0).astype(np.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        logits = self.session.run(None, given)[0]
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        answer: list[list[float]] = (chances / chances.sum(axis=1, keepdims=True)).tolist()
        return answer

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        """One answer a request."""
        return output

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        """An answer as it is sent."""
        return {"probabilities": output}


def runs(lengths: list[int]) -> list[list[int]]:
    """Row numbers grouped by like length within the budget."""
    groups: list[list[int]] = [[]]
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if groups[-1] and (len(groups[-1]) + 1) * lengths[row] > RUN_TOKENS:
            groups.append([])
        groups[-1].append(row)
    return groups


def main() -> None:
    """Serve until interrupted."""
    folder, port, workers, batch, timeout = sys.argv[1:]
    api = Classifier(Path(folder), int(batch), float(timeout))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(workers), fast_queue=True)
    server.run(host="127.0.0.1", port=int(port), log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
