"""The `jaxnst` command."""
