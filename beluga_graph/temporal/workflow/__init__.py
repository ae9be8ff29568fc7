"""What runs in the sandbox of Temporal workflows: the driver of a run, its options, and the shapes on the wire."""
