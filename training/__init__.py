"""Dataset in, model bundle out. The only place that imports torch. Knows nothing of HTTP or of routing."""
