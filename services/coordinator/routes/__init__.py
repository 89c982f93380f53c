"""The routes: each reads what HTTP brought, and calls one function that knows none."""
