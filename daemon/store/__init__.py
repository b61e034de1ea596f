"""The store: one class on SQLAlchemy; the URL picks SQLite or PostgreSQL."""
