"""Calls every operation through a client that openapi-python-client has generated.

The interpreter is that of the generator's virtual environment, which has the client's own
dependencies:

    python use_client.py FOLDER_OF_THE_PACKAGE URL TOKEN
"""

import importlib
import pkgutil
import sys
from typing import Any

folder, url, token = sys.argv[1:]
sys.path.insert(0, folder)
api: Any = importlib.import_module("members_client.api")
client_module: Any = importlib.import_module("members_client.client")
models: Any = importlib.import_module("members_client.models")

OPERATIONS = {
    f"{tag.name}.{module.name}"
    for tag in pkgutil.iter_modules(api.__path__)
    for module in pkgutil.iter_modules(
        importlib.import_module(f"{api.__name__}.{tag.name}").__path__
    )
}
called: set[str] = set()
admin = client_module.AuthenticatedClient(base_url=url, token=token)


def call(
    operation: str, status: int, /, *arguments: Any, client: Any = admin, **options: Any
) -> Any:
    """Call an operation; return the parsed body, whose type the client must know.

    The generator has no type for the results of an import, which are lines of JSON.
    """
    called.add(operation)
    module: Any = importlib.import_module(f"{api.__name__}.{operation}")
    response = module.sync_detailed(*arguments, client=client, **options)
    assert response.status_code == status, (operation, response.status_code, response.content)
    if operation == "members.import_members" and status == 200:
        return response.content
    assert status == 204 or response.parsed is not None, f"{operation}: {status} has no type"
    return response.parsed


def model(kind: str, /, **values: Any) -> Any:
    """Return an object of a generated class."""
    return getattr(models, kind).from_dict(values)


ATTRIBUTES = {"level": "gold", "score": 7, "tags": ["a"], "birthday": "1815-12-10", "vip": True}
ada = call("members.add_member", 201, body=model("MemberDraft", name="Ada", attributes=ATTRIBUTES))
assert (ada.member_id, ada.name, ada.email) == (1, "Ada", None)
assert ada.attributes.to_dict() == ATTRIBUTES
assert type(ada.attributes.score) is int
taken = call("members.add_member_by_post", 409, body=model("MemberDraft", name="Ada"))
assert (taken.code, taken.member) == ("name-taken", "/members/1")
unnamed = call("members.add_member", 422, body=model("MemberDraft", name=""))
assert unnamed.errors[0].pointer == "/name"
assert call("members.find_member", 200, 1).to_dict() == ada.to_dict()
assert call("members.find_member", 404, 99).code == "member-not-found"
call("members.replace_member", 200, 1, body=model("MemberDraft", name="Ada", phone="555-0100"))
call(
    "members.replace_member", 204, 1, body=model("MemberDraft", name="Ada"), prefer="return=minimal"
)
patched = call("members.patch_member", 200, 1, body=model("MemberPatch", email="ada@example.org"))
assert patched.email == "ada@example.org"
assert call("members.find_member_by_name", 200, name="Ada").member_id == 1
call("members.put_member_by_name", 201, name="AC/DC", body=model("MemberDetails"))
ambiguous = call("members.find_member_by_name_in_path", 400, "AC/DC")
assert ambiguous.code == "ambiguous-address"
call(
    "members.put_member_by_name_in_path", 200, "Ada", body=model("MemberDetails", phone="555-0101")
)
page = call("members.list_members", 200, q="ac", sort=models.ListMembersSort.VALUE_3, limit=1)
assert [member.name for member in page.items] == ["AC/DC"]
batch = call("members.list_members", 200, member_id="1,99")
assert batch.missing == [99]
assert call("members.look_up_members", 200, body=model("MemberLookup", memberIds=[1])).items
rows = [models.ImportMembersJsonBodyItem.from_dict({"name": name}) for name in ("Bob", "Eve")]
assert b'"created": 2' in call("members.import_members", 200, body=rows)
assert call("members.follow_changes", 400, after="nonsense").code == "bad-parameter"
history = call("members.find_history", 200, 1, limit=1)
assert history.items[0].after.to_dict() == {"phone": "555-0101"} or history.items[0].kind
call("members.erase_history", 204, 1)

draft = model("UserDraft", username="ada", password="correct horse", accessRights=0, memberId=1)
assert call("users.add_user", 201, body=draft).member_id == 1
assert call("users.list_users", 200).items[0].username == "ada"
assert call("users.find_user", 200, "ada").access_rights == 0
anybody = client_module.Client(base_url=url)
login = model("Credentials", username="ada", password="correct horse")
granted = call("login.log_in", 200, client=anybody, body=login)
own = client_module.AuthenticatedClient(base_url=url, token=granted.access_token)
assert call("login.find_caller", 200, client=own).member_id == 1
assert call("members.find_own_member", 200, client=own).name == "Ada"
call("members.replace_own_member", 200, client=own, body=model("MemberDraft", name="Ada King"))
call("members.patch_own_member", 200, client=own, body=model("MemberPatch", name="Ada"))
assert call("members.find_member", 403, 2, client=own).code == "permission-missing"
assert (
    call("users.patch_user", 200, "ada", body=model("UserPatch", accessRights=1)).access_rights == 1
)
call("users.remove_user", 204, "ada")
assert call("login.find_keys", 200, client=anybody).keys
call("members.delete_member", 204, 1)

assert call("description.find_description", 200, client=anybody).to_dict()["openapi"] == "3.1.1"
assert "<html" in call("description.show_page", 200, client=anybody)
call("description.find_asset", 200, "docs.js", client=anybody)
assert "<html" in call("console.show_console", 200, client=anybody)
call("console.find_console_file", 404, "nothing.js", client=anybody)
assert call("console.find_status", 200).status
assert called == OPERATIONS, called ^ OPERATIONS
sys.stdout.write(f"{len(called)} operations\n")
