"""Life cycle and wiring, driven through the ports by adapters in memory, and the command itself."""
