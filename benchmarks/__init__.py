"""What is measured, and beside what. `python -m benchmarks` runs everything; nothing here is needed to serve."""
