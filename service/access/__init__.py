"""Who may do what: tenants, API keys, persons who sign in, limits, and the audit of administrative acts."""
