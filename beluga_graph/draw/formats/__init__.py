"""Formats of a picture: SVG, Mermaid, DOT, ASCII; and of a shape: networkx."""
