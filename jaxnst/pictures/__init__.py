"""Pictures: files, sizes, colours, samples."""
