"""What monitoring means: plain values and pure functions; reads no clock, does no I/O."""
