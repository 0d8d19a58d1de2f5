"""What the plugin itself costs and can: `python -m benchmarks`."""
