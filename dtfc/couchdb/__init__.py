"""What a node asks of CouchDB."""
