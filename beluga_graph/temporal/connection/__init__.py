"""The connection to the server: its client, the workflows and their histories, the workers that poll, and defects."""
