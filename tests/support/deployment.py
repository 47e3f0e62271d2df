"""What the tests of the deployment files share: where these are, how they are read, what variables the service has."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import AliasChoices

from examples.email_service.settings import Settings

CHECKOUT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = CHECKOUT / "examples" / "email_service" / "deploy"


def documents(file: Path) -> list[dict[str, Any]]:
    """The YAML documents of a file."""
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def document(file: Path) -> dict[str, Any]:
    """The one YAML document of a file."""
    (only,) = documents(file)
    return only


def known_variables() -> set[str]:
    """Every environment variable that an instance reads."""
    return set(_spellings())


def _spellings() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        match field.validation_alias:
            case AliasChoices(choices=choices):
                yield from (choice for choice in choices if isinstance(choice, str))
            case str(alias):
                yield alias
            case _:
                yield name.upper()


def settings_from(variables: Mapping[str, str], without: Iterable[str] = ()) -> Settings:
    """What an instance with exactly these variables reads; raises ValidationError as the instance would end."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update({name: value for name, value in variables.items() if name not in set(without)})
    try:
        return Settings()  # type: ignore[call-arg]  # from the environment
    finally:
        os.environ.clear()
        os.environ.update(before)
