"""The HTTP API, version 1: a file a concept, put together in `app.py`."""

from serving.api.app import create_app

__all__ = ["create_app"]
