"""What is true of one adapter only; what all must keep is in `tests.contracts`."""
