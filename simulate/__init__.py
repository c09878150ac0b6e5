"""Whole nodes in a test tube: one process, one false clock, a network in memory, one seed."""
