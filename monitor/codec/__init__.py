"""Bytes to domain values and back; knows no client library."""
