"""Ray Serve on Kubernetes under KubeRay: manifests, the API, and a cluster made of pods."""
