"""Runtime: active runs; the only package that creates tasks for nodes."""
