"""A RayService and its pods: who is alive, and what can be broken."""
