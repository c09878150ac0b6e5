"""dtfc: the DisTributed File Collection."""

__version__ = "1.0.0.dev0"
