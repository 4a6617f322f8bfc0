"""Who owns what and who acts: tenants, members, principals, and the audit of operators' acts."""

__all__ = ["audit", "models", "principals", "reasons", "scope", "setup"]
