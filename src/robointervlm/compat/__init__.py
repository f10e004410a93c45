"""The documented scripts in terms of this package."""
