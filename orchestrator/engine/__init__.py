"""The transaction: an event log, its fold, the SQLite journal and the runner around them.

Others use `transaction.Engine`, `journal.Journal`, `queries`, `report`, `events`,
`interrupts.Interrupts` and `lock.current_holder`; the rest is inside.
"""
