"""`python -m examples.email_service` is the demonstration."""

from examples.email_service.demo import main

main()
