"""HTTP knowledge without I/O: bytes and values in, values and bytes out."""
