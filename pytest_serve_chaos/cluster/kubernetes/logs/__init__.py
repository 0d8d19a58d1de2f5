"""What the pods and KubeRay's operator log."""
