"""The engine: the object that users hold."""
