"""What a client does with runs: start, import, follow, send."""
