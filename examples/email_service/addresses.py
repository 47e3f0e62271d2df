"""What counts as an e-mail address here: a mailbox that SMTP can carry and that cannot smuggle a header.

Whether a mailbox exists is for the mail server to say; this only refuses what no server could deliver.
"""

import re
from typing import Annotated

from pydantic import AfterValidator

# The rule that browsers apply to <input type="email"> (WHATWG HTML, "valid e-mail address"), with at least one dot in
# the domain, and the length that RFC 5321 4.5.3.1.3 leaves for a mailbox.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})+")
_MAX_LENGTH = 254


def check_address(value: str) -> str:
    """Return the address unchanged; raises ValueError when no mail server could take it."""
    if len(value) > _MAX_LENGTH or not _ADDRESS.fullmatch(value):
        raise ValueError("not an e-mail address; expected one like name@example.org")
    return value


EmailAddress = Annotated[str, AfterValidator(check_address)]
