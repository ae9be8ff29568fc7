"""The kernel: decides everything that happens to a run, as pure functions on plain data. Standard library only.

Read `shape` and `snapshot` first, then `triggers`, `transition.advance` and `patch_builder`, then `work` and `walker`.
"""
