"""Whether the bytes that lie here are still the blob's: checking, mending, scrubbing."""
