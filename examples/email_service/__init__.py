"""An e-mail service around one queue: HTTP instances put mails in, worker instances send them through SMTP.

Run `python -m examples.email_service.demo` to see the whole of it on one machine; `README.md` names the parts.
"""
