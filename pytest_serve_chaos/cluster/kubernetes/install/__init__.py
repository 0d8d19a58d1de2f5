"""What is installed on a cluster that the plugin creates, of its own or from the user's files."""
