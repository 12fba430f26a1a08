"""What those who run the scorer need: metrics, traces, logs, models that change while it runs."""
