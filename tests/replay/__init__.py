"""The whole flow over records of the past: the right numbers, and the same ones every time."""
