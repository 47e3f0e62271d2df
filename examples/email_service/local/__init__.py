"""The topology of `deploy/compose.yaml` as plain processes of this machine: `make email-up`."""
