"""One suite for each port, run on every adapter: what holds for one holds for all."""
