"""What a fault is expected to cost, by the topology and the settings: pure rules, each with its source."""
