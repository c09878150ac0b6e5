"""Programs of other people's libraries that upload: run by themselves, not imported."""
