"""What a person asks for: one `Painting`, as values, as JSON and as a command."""
