"""Tools of those who work on the plugin; none of them is part of the package."""
