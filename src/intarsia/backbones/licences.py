"""Which licences may be used: the policy in force, and what it says of a model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from intarsia.backbones.catalog import CatalogEntry
from intarsia.backbones.errors import LicenceError

POLICY_VARIABLE = "INTARSIA_LICENSE_POLICY"
POLICIES = ("any", "permissive")


def licence_policy() -> str:
    """The policy in force: what the variable INTARSIA_LICENSE_POLICY says, else "any". Raises LicenceError."""
    policy = os.environ.get(POLICY_VARIABLE) or "any"
    if policy not in POLICIES:
        raise LicenceError(f"there is no licence policy {policy!r}: use one of {', '.join(POLICIES)}")
    return policy


@contextmanager
def licence_policy_of(policy: str | None) -> Iterator[None]:
    """Put a policy in force, for processes started meanwhile as well; None leaves it as it is.

    Raises:
        LicenceError: no such policy.
    """
    before = os.environ.get(POLICY_VARIABLE)
    if policy is not None:
        os.environ[POLICY_VARIABLE] = policy
    try:
        licence_policy()
        yield
    finally:
        if before is not None:
            os.environ[POLICY_VARIABLE] = before
        elif policy is not None:
            del os.environ[POLICY_VARIABLE]


def check_licence(name: str, entry: CatalogEntry | None) -> None:
    """That the policy in force permits a model; one that is not in the catalog (None) has no known licence.

    Raises:
        LicenceError: it does not.
    """
    if licence_policy() == "any" or (entry is not None and entry.licence_class == "permissive"):
        return
    if entry is None:
        reason = "its licence is not known, as it is not in the catalog"
    elif entry.licence_class == "unknown":
        reason = f"its licence is not clear ({entry.licence})"
    else:
        reason = f"its licence is {entry.licence} ({entry.licence_class})"
    raise LicenceError(
        f"the licence policy is permissive and {name!r} is refused: {reason}; use a model that is permissive in "
        "`intarsia models`, or the policy any"
    )
