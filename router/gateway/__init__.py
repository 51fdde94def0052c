"""HTTP doors of the router."""
