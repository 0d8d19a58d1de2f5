"""The client: what is read, changed and run through the Kubernetes API."""
