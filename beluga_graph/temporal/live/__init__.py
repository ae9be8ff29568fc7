"""How live records of attempts reach the followers of a run."""
