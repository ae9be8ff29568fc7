"""Runs on the server, read into ordinary stores."""
