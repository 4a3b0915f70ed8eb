"""The request of a person: one `Painting`, as values, as JSON and as a command."""
