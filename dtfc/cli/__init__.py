"""The ``dtfc`` command."""
