"""The operators' endpoints, one file a noun."""
