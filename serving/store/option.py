"""The option `--store` of every command that works on a store: the one that is served, unless another is named."""

from __future__ import annotations

from typing import Annotated

import typer


def served_store() -> str:
    """The store's URL in `configs/serve.yaml`. Raises ConfigError."""
    from serving.config import load_serve_config  # brings the engine along, which no command on a store needs

    return load_serve_config().store.url


StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="SIMMER_STORE",
        default_factory=served_store,
        show_default="the one in configs/serve.yaml",
        help="Which store.",
    ),
]
