"""Copies out: what is owed to other nodes, and how it gets there."""
