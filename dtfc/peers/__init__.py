"""Requests out: other nodes, asked with treq."""
