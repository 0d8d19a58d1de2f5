"""Results as people and programs read them: terminal, JSON document, JUnit properties."""
