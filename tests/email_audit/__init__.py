"""Audits of the e-mail service as processes, with every mail going through a real SMTP server; `make email-audit`.

`deliveries`: nothing is lost and nothing sent twice while workers are killed and everything is restarted. `sending`:
the rate limit over several worker processes, and how equal workers share the mails. `stage` starts the processes.
"""
