"""Who owns what and who acts: tenants, members, principals, and the audit of what operators did."""

__all__ = ["audit", "models", "principals", "reasons", "scope", "setup"]
