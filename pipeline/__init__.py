"""Conversations in, labelled dataset out. Knows nothing of torch, of HTTP or of routing."""
