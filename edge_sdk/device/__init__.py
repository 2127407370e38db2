"""Device operation: ``doctor`` findings, the systemd unit, the soak test."""
