"""The server: the client, the workflows on it, who polls, and what may be wrong."""
