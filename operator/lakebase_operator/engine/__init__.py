"""What drives the passes: the view of the cluster, the queue, the workers. Knows no Kubernetes client and no database."""
