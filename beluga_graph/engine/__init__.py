"""The engine: starts, continues, wakes and ends the runs of one store.

| question                                  | modules                                     |
|-------------------------------------------|---------------------------------------------|
| What do users hold?                       | `engine`, `run`, `sync`                     |
| How do the parts fit together?            | `host`                                      |
| How does a run come into an engine?       | `requests`, `admission`, `takeover`, `fork` |
| Which runs does an engine drive?          | `registry`, `retention`                     |
| When does a waiting run leave the engine? | `parking`, `moving`                         |
| When does it continue?                    | `waking`, `wakeups`, `serving`, `recovery`  |
| Which runs start at points in time?       | `schedules`, `schedule_methods`, `schedule_decisions`, `schedule_firing` |
| Who drives a run?                         | `driving`                                   |
| How does an engine notice other engines?  | `store_poller`                              |
| How do callers wait for a run's end?      | `followers`, `following`                    |
| How are runs cancelled, or answered?      | `cancel`, `approvals`                       |
"""
