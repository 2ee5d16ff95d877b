"""The rim: one module for each thing of the outside world."""
