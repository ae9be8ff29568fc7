"""Where large values are kept, which histories name by digest."""
