"""Storage: runs on disk."""
