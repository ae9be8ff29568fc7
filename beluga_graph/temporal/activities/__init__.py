"""What workers run: attempts of nodes, sessions and messages to a bus."""
