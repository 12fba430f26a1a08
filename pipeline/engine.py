"""Token ids in, logits out: the compiled network of a bundle, run by OpenVINO.

Knows nothing of tokenizers, heads or calibration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import openvino
from numpy.typing import NDArray


class Engine(Protocol):
    """Anything that runs the network."""

    def run(self, ids: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits [rows, outputs] of padded token ids and segments [rows, tokens]."""
        ...


class OpenVinoEngine:
    """An ONNX or OpenVINO model on this processor, `threads` threads a request."""

    def __init__(self, model: Path, threads: int = 1) -> None:
        core = openvino.Core()
        options: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._compiled = core.compile_model(core.read_model(model), "CPU", options)
        self._request = self._compiled.create_infer_request()

    def run(self, ids: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits [rows, outputs] of padded token ids and segments [rows, tokens]. Not for two threads at once."""
        result = self._request.infer({"input_ids": ids, "token_type_ids": segments})
        return np.asarray(result[0], dtype=np.float32).copy()
