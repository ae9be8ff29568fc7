"""`python -m beluga_graph` is `beluga-graph`."""

from beluga_graph.cli import main

if __name__ == "__main__":
    main()
