"""PostgreSQL: the only code that talks to a database server."""
