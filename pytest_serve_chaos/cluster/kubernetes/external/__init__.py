"""RayServices that exist: the policy of their owners, and what is recorded to be undone."""
