"""Life cycle and wiring; the only place that sees everything and reads the clock."""
