"""Storage: the records of runs, sessions and the outbox in a store.

keys             the table of all keys, and their parts
forms            elements of the forms of payloads; `step_forms`, `snapshot_forms`, `shape_forms`
records          records with a checksum, and the form of each kind
run_log          the writes of a run; `loading` reads them, `shapes` its graphs
sessions         conversations, with `session_records`
outbox_records   messages that runs publish
leases           owners, and the right to advance a run
run_index        the open runs that need work
committer        commits of many runs in one transaction
moves            runs that go on elsewhere
pruning          deletion of ended runs
verify           damage of a store; `verify_run` of one run
schedule_records schedules, and the operations that change them
pace             turns of the event loop during long reads
"""
