"""The guard: what it refuses, what it settles, and what it leaves alone."""
