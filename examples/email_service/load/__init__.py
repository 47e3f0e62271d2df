"""The load test of the service: `make email-load`. Open-loop arrivals against the APIs, and a report with plots."""
