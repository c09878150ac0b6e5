"""The process: sockets, signals, identity, logs, and what systemd is told."""
