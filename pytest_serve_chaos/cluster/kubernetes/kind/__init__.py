"""Clusters that the plugin creates with kind."""
