"""Alembic's environment and the revisions, run by `daemon.store.migrate`; there is no alembic.ini.

To add a revision: change `schema.py`, then write versions/rNNNN_what.py with the operations (in a Python shell,
`alembic.autogenerate.produce_migrations` on a migrated database prints them), and set `schema.REVISION` to NNNN.
"""
