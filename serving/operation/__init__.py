"""What an operator sees and moves: logs, metrics, traces, models. Knows nothing of conversations."""
