"""Serve apps that run inside the cluster under test; they import the standard library, Ray and Starlette only."""
