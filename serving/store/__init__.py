"""Where conversations live: SQLite or PostgreSQL behind one interface. Acknowledged means committed."""
