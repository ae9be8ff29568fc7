"""Runtime: drives active runs in one event loop; the only package that creates tasks for nodes.

Read `active_run` and `step` first, then `driver`, through which the kernel's walker acts, and `scheduler`. `signals`,
`watcher`, `trials` and `outbox_relay` can be read in any order.
"""
