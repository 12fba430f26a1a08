"""The review desk: people say where the scorer was right or wrong, and what they say makes the next model better."""
