"""Settings of permissions: what the claims of a token grant."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from tornado_members.settings.types import Section, as_tuple, values

Permission = Literal[
    "members:read",
    "members:write",
    "members:delete",
    "members:read:own",
    "members:write:own",
]
OWN_PERMISSIONS: frozenset[Permission] = frozenset({"members:read:own", "members:write:own"})
PermissionList = Annotated[tuple[Permission, ...], BeforeValidator(as_tuple)]


def _claim_path(value: Any) -> tuple[str, ...]:
    path = as_tuple(value)
    is_path = isinstance(path, list | tuple) and all(isinstance(n, str) and n for n in path)
    if not is_path or not path:
        raise ValueError(
            "should be the name of a claim, or a list of names that leads into nested objects, "
            "such as [realm_access, roles]"
        )
    return tuple(path)


def _claim_values(value: Any) -> Any:
    """Turn whole numbers into strings: YAML reads the key `3` as a number, JSON as a string."""
    if not isinstance(value, dict):
        return value
    return {str(key) if type(key) is int else key: allowed for key, allowed in value.items()}


ClaimPath = Annotated[tuple[str, ...], BeforeValidator(_claim_path)]
ClaimValues = Annotated[
    dict[Annotated[str, Field(min_length=1)], PermissionList],
    BeforeValidator(_claim_values),
    Field(min_length=1),
]


class ClaimGrants(Section):
    """One claim, and the permissions that its values grant."""

    claim: ClaimPath = Field(
        description="The name of a claim, or a list of names that leads into nested objects.",
        json_schema_extra=values("text, or list of text"),
    )
    values: ClaimValues = Field(
        description="Permissions by a value of the claim.",
        json_schema_extra=values("map of a value to a list of permissions"),
    )


class IssuerPermissions(Section):
    """The permissions that one issuer's tokens grant, instead of `auth.permissions`."""

    at_most: PermissionList | None = Field(
        None,
        description="The permissions that its tokens can grant at most, whatever they contain. "
        "`null` sets no cap. Set it for every issuer that is not the service's own.",
        json_schema_extra=values("list of permissions, or `null`"),
    )
    always: PermissionList = Field(
        (),
        description="Permissions that every valid token of the issuer grants.",
        json_schema_extra=values("list of permissions"),
    )
    claims: tuple[ClaimGrants, ...] | None = Field(
        None,
        description="Permissions by the values of any claims. The entries add up. `null` is "
        "`auth.permissions`, or nothing if `always` is set.",
        json_schema_extra=values(
            "list of `{claim: NAME or [NAME, ...], values: {VALUE: [PERMISSION, ...]}}`, or `null`",
            see="identity-providers.md#claims",
        ),
    )

    def granted(self) -> frozenset[Permission]:
        """Return every permission that a token can be granted by this section itself."""
        tables = [allowed for rule in self.claims or () for allowed in rule.values.values()]
        return frozenset(self.always).union(*tables)

    @model_validator(mode="after")
    def _consistent(self) -> "IssuerPermissions":
        if self.at_most is not None and (beyond := set(self.always) - set(self.at_most)):
            listed = ", ".join(sorted(beyond))
            raise ValueError(f"always should have nothing beyond at_most: {listed}")
        return self


class Permissions(Section):
    """The permissions that a token's claims grant, for issuers without permissions of their own."""

    access_rights: dict[int, PermissionList] = Field(
        {
            0: (),
            1: ("members:read",),
            2: ("members:read", "members:write"),
            3: ("members:read", "members:write", "members:delete"),
        },
        description="Permissions by the value of the numeric claim `access_rights`. A value "
        "without permissions blocks the token.",
        json_schema_extra=values("map of an integer to a list of permissions"),
    )
    scope: dict[str, PermissionList] = Field(
        {name: (name,) for name in get_args(Permission)},
        description="Permissions by a word of the claim `scope`.",
        json_schema_extra=values("map of a word to a list of permissions"),
    )
