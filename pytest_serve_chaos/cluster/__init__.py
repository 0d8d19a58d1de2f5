"""Where a cluster comes from: the protocols in `base`, Ray processes in `local`, Kubernetes in `kuberay` and `kind`."""
