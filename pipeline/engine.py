"""Token ids in, logits out: the compiled network of a bundle, run by OpenVINO.

Knows nothing of tokenizers, heads or calibration.
"""

from __future__ import annotations

import threading
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import openvino
from numpy.typing import NDArray


class Engine(Protocol):
    """Anything that runs the network. Several threads may ask at once."""

    def run(self, ids: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits [rows, outputs] of padded token ids and segments [rows, tokens]."""
        ...


class OpenVinoEngine:
    """An ONNX or OpenVINO model on this processor: `streams` runs at a time with `threads` threads each.

    Each stream has a compiled network of its own: where several streams shared one, the first answers in a process
    were wrong in one start of six (OpenVINO 2026.4). What is kept for a shape that was seen, of rows and tokens, is
    about 2 MB, and the first run of a shape takes some 5 ms longer, so a server does well to run few shapes.
    """

    def __init__(self, model: Path, threads: int = 1, streams: int = 1) -> None:
        core = openvino.Core()
        core.set_property({"ENABLE_MMAP": False})  # a bundle's files may be overwritten while they serve
        options: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        network = core.read_model(model)
        self._compiled = [core.compile_model(network, "CPU", options) for _ in range(streams)]
        self._numbers = count()
        self._of_thread = threading.local()

    def run(self, ids: NDArray[np.int64], segments: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits [rows, outputs] of padded token ids and segments [rows, tokens]."""
        result = self._request().infer({"input_ids": ids, "token_type_ids": segments})
        return np.asarray(result[0], dtype=np.float32).copy()

    def _request(self) -> Any:
        """This thread's own: a request holds what goes in and comes out, and must not be shared."""
        if not hasattr(self._of_thread, "request"):
            compiled = self._compiled[next(self._numbers) % len(self._compiled)]
            self._of_thread.request = compiled.create_infer_request()
        return self._of_thread.request
