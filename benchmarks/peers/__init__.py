"""The servers that ours is measured beside, each installed in an environment of its own."""
