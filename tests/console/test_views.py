"""Each view of the console in a real browser, with and without faults."""

import asyncio
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymongo
import pytest

from tests.console.conftest import PASSWORD, OpenConsole
from tests.support.api import Api, parsed, token_of
from tests.support.console import AXE, Console, open_console
from tests.support.fault_proxy import CUT, NO_FAULT, FaultProxy
from tests.support.tokens import make_token
from tests.support.wire import AnyServer
from tornado_members.settings import Settings

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(seconds=120)]

MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
ATTRIBUTES = {
    "level": {"type": "string", "enum": ["silver", "gold"], "indexed": True},
    "motto": {"type": "string"},
    "tags": {"type": "string", "list": True},
    "birthday": {"type": "date"},
    "vip": {"type": "boolean"},
    "score": {"type": "integer", "maximum": 10},
    "seen": {"type": "datetime"},
}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With attributes of each type, and tokens that expire at once."""
    members = {**settings.members.model_dump(), "attributes": ATTRIBUTES}
    auth = {**settings.auth.model_dump(), "leeway_seconds": 0}
    return Settings.model_validate({**settings.model_dump(), "members": members, "auth": auth})


async def patch(api: Api, member_id: int, **fields: Any) -> None:
    answer = await api("PATCH", f"/members/{member_id}", fields, headers=MERGE_PATCH)
    assert answer.code == 200, answer.body


async def member(api: Api, member_id: int) -> dict[str, Any]:
    return dict(parsed(await api("GET", f"/members/{member_id}")))


async def test_conflict_shows_both_versions_field_by_field(
    open_page_of_console: OpenConsole, api: Api
) -> None:
    await api.create("Ada Lovelace", email="ada@example.org", phone="555-0100")
    async with open_page_of_console() as console:
        await console.open(token_of(3), "#/members/1")
        await console.click("member-panel button", "Edit")
        await console.enter("Name", "Ada King")
        await console.enter("Phone", "555-0111")
        await patch(api, 1, name="Ada Byron", email="byron@example.org")
        await console.press("Enter")
        await console.see("dialog h2", "Somebody else changed this member")
        shown = await console.see("dialog fieldset.contested")
        assert [part for part in shown.split("\n") if part] == [
            *("Name", "Before: Ada Lovelace"),
            *("Theirs", "Ada Byron", "Yours", "Ada King"),
        ]
        await console.click("fieldset.contested label", "Yours")
        await patch(api, 1, phone="555-0122")  # again, before the choice is saved
        await console.click("dialog button", "Save these values")
        await console.see("dialog fieldset.contested", "555-0122")
        await console.click("dialog fieldset:nth-of-type(1) label", "Yours")
        await console.click("dialog button", "Save these values")
        await console.see("member-panel h2", "Ada King")
    found = await member(api, 1)
    assert (found["name"], found["email"], found["phone"]) == (
        "Ada King",
        "byron@example.org",
        "555-0122",
    )


async def test_attributes_have_inputs_of_their_types(
    open_page_of_console: OpenConsole, api: Api
) -> None:
    async with open_page_of_console() as console:
        await console.open(token_of(3), "#/members/new")
        await console.enter("Name", "Ada")
        for key, value in (("level", "gold"), ("vip", "true")):
            select = f"document.querySelector('[name=\"attributes.{key}\"]')"
            await console.wait_for(f"{select}?.localName === 'select'")
            await console.value(f"{select}.value = '{value}'")
        for key, value in (("birthday", "1815-12-10"), ("seen", "2026-11-22T11:05")):
            field = f"document.querySelector('[name=\"attributes.{key}\"]')"
            await console.value(f"{field}.value = '{value}'")
        await console.enter("Tags", "first\n second \n\n")
        await console.enter("Score", "11")
        await console.click("form button", "Add")
        await console.see(".field:has([name='attributes.score']) .fault")
        await console.enter("Score", "9")
        await console.press("Enter")
        await console.see("member-panel h2", "Ada")
        await console.see("[data-key='attributes.birthday']", "December 10, 1815")
        zone = await console.value("new Date('2026-11-22T11:05').toISOString()")
    found = (await member(api, 1))["attributes"]
    assert found == {
        "level": "gold",
        "tags": ["first", "second"],
        "birthday": "1815-12-10",
        "vip": True,
        "score": 9,
        "seen": zone,
    }


async def test_editing_a_member_changes_only_what_was_edited(
    open_page_of_console: OpenConsole,
    api: Api,
    admin: pymongo.MongoClient[dict[str, Any]],
    database_name: str,
) -> None:
    """Inputs cannot hold each stored value: browsers remove line breaks, for example."""
    stored = {
        "motto": "first line\r\nsecond line ",
        "tags": [],
        "seen": datetime(1850, 1, 1, 12, 0, 0, 1000, tzinfo=UTC),
    }
    members = admin[database_name]["members"]
    members.insert_one({"_id": 1, "name": "Ada", "version": 1, "attributes": {**stored}})
    before = await member(api, 1)
    async with open_page_of_console() as console:
        zone = {"timezoneId": "Europe/Amsterdam"}  # 19 minutes and 32 seconds from UTC in 1850
        await console.page.call("Emulation.setTimezoneOverride", **zone)
        await console.open(token_of(3), "#/members/1")
        await console.click("member-panel button", "Edit")
        await console.enter("Phone", "555-0111")
        await console.click("form button", "Save")
        await console.see("member-panel", "555-0111")
        assert await member(api, 1) == {**before, "phone": "555-0111"}
        await console.click("member-panel button", "Edit")
        await console.enter("Motto", "other line\nnext line")
        await console.click("form button", "Save")
        await console.see("member-panel", "other line")
    attributes = {**before["attributes"], "motto": "other line\nnext line"}
    assert await member(api, 1) == {**before, "phone": "555-0111", "attributes": attributes}


async def test_import_shows_faults_corrects_columns_and_exports_the_members(
    open_page_of_console: OpenConsole, api: Api, folder: Path
) -> None:
    await api.create("Ada Lovelace", email="old@example.org")
    file = folder / "club.csv"
    file.write_text(
        "Who;Mail;Level\nAda Lovelace;ada@example.org;gold\nBob;bob;\nEve;eve@example.org;silver\n"
        "Eve;twice@example.org;\n=cmd();cmd@example.org;copper\n"
    )
    downloads = folder / "downloads"
    downloads.mkdir()
    async with open_page_of_console() as console:
        await console.page.call(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads)
        )
        await console.open(token_of(3), "#/import")
        await console.choose_file(file)
        await console.see("h2", "No row of this file can be read")
        name = "document.querySelector('.mapping select')"
        await console.value(f"{name}.value = '#1', {name}.dispatchEvent(new Event('change'))")
        await console.click("button", "Preview again")
        await console.see("h2", "Preview")
        assert (await console.see(".outcomes")).split() == ["added", "1", "refused", "4"]
        assert len(parsed(await api("GET", "/members"))["items"]) == 1  # nothing was written
        await console.click("label", "Replace the member")
        await console.click("button", "Import 2 members")
        await console.see("h2", "Import complete")
        await console.see("table", "The name occurs earlier in the file")
        await console.see("table", "E-mail: is not an e-mail address")
        await console.click("button", "Download the refused rows")
        rejects = await downloaded(downloads, "club-refused.csv")
        lines = rejects.splitlines()
        assert lines[0] == "\ufeffline,reason,name,Mail,Level"
        assert lines[1].startswith('3,"E-mail: is not an e-mail address') or "3,E-mail" in lines[1]
        assert lines[-1].endswith("'=cmd(),cmd@example.org,copper")
        await console.click("a.button", "Show the members")
        await console.click("button", "Export")
        await console.click("dialog button", "Export")
        exported = await downloaded(
            downloads, f"members-{time.strftime('%Y-%m-%d', time.gmtime())}.csv"
        )
        assert exported.startswith("\ufeffmemberId,name,email,phone")
        assert "1,Ada Lovelace,ada@example.org" in exported
        assert "Eve,eve@example.org" in exported


async def downloaded(folder: Path, name: str) -> str:
    """Wait for a file that the browser saves; return its text."""
    async with asyncio.timeout(60):
        while not (folder / name).exists() or not (folder / name).read_bytes():
            await asyncio.sleep(0.05)
    return (folder / name).read_text()


async def edit_until_the_token_expires(console: Console) -> None:
    """Send a change of member 1 with a token that has expired meanwhile."""
    expires = int(time.time()) + 12
    await console.open(make_token(access_rights=3, sub="grace", exp=expires), "#/members/1")
    await console.click("member-panel button", "Edit")
    await console.enter("Name", "Ada King")
    await console.wait_for(f"Date.now() > {expires * 1000 + 1000}")
    await console.press("Enter")


async def test_expired_token_prompts_for_a_login_and_repeats_the_request(
    open_page_of_console: OpenConsole, api: Api
) -> None:
    await api.create("Ada")
    async with open_page_of_console() as console:
        await edit_until_the_token_expires(console)
        await console.see("dialog h2", "Your session has expired")
        await console.enter("Token", make_token(access_rights=3, sub="grace"))
        await console.click("dialog button", "Sign in")
        await console.see("member-panel h2", "Ada King")
        await console.see("app-header summary", "grace")
    assert (await member(api, 1))["name"] == "Ada King"


async def test_request_is_not_repeated_for_a_namesake_of_another_issuer(
    open_page_of_console: OpenConsole, api: Api
) -> None:
    await api.create("Ada")
    async with open_page_of_console() as console:
        await edit_until_the_token_expires(console)
        await console.click("dialog button", "Use a password instead")
        await console.enter("Username", "grace")
        await console.enter("Password", PASSWORD)
        await console.press("Enter")
        await console.see("member-panel h2", "Ada")
        await console.see_no("form")
    assert (await member(api, 1))["name"] == "Ada"


async def test_proxy_that_cuts_the_server_off_in_the_middle_of_an_edit(
    http_server_port: tuple[socket.socket, int],
    http_server: AnyServer,
    api: Api,
    folder: Path,
) -> None:
    await api.create("Ada")
    async with (
        FaultProxy(f"127.0.0.1:{http_server_port[1]}") as proxy,
        open_console(int(proxy.address.rpartition(":")[2]), folder) as console,
    ):
        await console.open(token_of(3), "#/members/1")
        await console.click("member-panel button", "Edit")
        await console.enter("Name", "Ada King")
        # The change is made, and its answer is lost. Browsers repeat some requests themselves; else
        # the user saves again. That is a 412, and the member already has the intended values.
        proxy.drop_response_to(b"PATCH /members/1")
        await console.press("Enter")
        form = "document.querySelector('form.member-form')"
        fault = f"{form}?.querySelector('div.fault:not([hidden])')"
        await console.wait_for(f"!{form} || !!{fault}")
        if await console.value(f"!!{form}"):
            await console.see("div.fault", "it is unknown whether this was saved")
            await console.click("form button", "Save")
        await console.see("member-panel h2", "Ada King")
        await console.see_no("dialog")
        assert proxy.dropped == 1
        await console.click("member-panel button", "Edit")
        await console.enter("Name", "Ada Byron")
        await proxy.set(CUT)
        await console.click("form button", "Save")
        await console.see("div.fault", "it is unknown whether this was saved")
        await console.see("offline-banner", "The service cannot be reached.")
        assert await console.value("document.querySelector('[name=name]').value") == "Ada Byron"
        await proxy.set(NO_FAULT)
        await console.see_no("offline-banner")
        await console.click("form button", "Save")
        await console.see("member-panel h2", "Ada Byron")
        await proxy.set(CUT)
        await console.go("#/members?q=zoe")
        await console.see("offline-banner")
        await proxy.set(NO_FAULT)
        await console.see("h2", "No member matches")  # the list is loaded by itself
    assert (await api("GET", "/members/1")).headers["ETag"] == '"3"'  # two changes


PLANTED = "<img src=x onerror=window.planted=1><b>&amp;"
RIGHT_TO_LEFT = "שלום مرحبا"


async def test_markup_and_right_to_left_text_in_every_field_are_text(
    open_page_of_console: OpenConsole, api: Api, folder: Path
) -> None:
    name = f"{PLANTED} {RIGHT_TO_LEFT}"
    await api.create(
        name,
        email="a&b@example.org",
        attributes={"motto": name, "tags": [PLANTED, RIGHT_TO_LEFT], "level": "gold"},
    )
    await patch(api, 1, attributes={"motto": PLANTED + "2"})
    user = {"username": PLANTED, "password": PASSWORD, "accessRights": 0, "memberId": 1}
    assert (await api("POST", "/users", user)).code == 201
    token = make_token(access_rights=3, sub=PLANTED)
    (folder / "x.csv").write_text(f'name,{PLANTED}\n"{PLANTED}",1\n,2\n')
    async with open_page_of_console() as console:
        await console.open(token, "#/members/1")
        await console.see("tbody a", PLANTED)
        await console.see("member-panel h2", PLANTED)
        await console.see(".timeline ins", f"{PLANTED}2")
        assert await console.value(
            "getComputedStyle(document.querySelector('.tags li:nth-child(2) bdi')).unicodeBidi"
        ) in ("isolate", "plaintext")
        await console.click("member-panel button", "Delete")
        await console.see("dialog h2", PLANTED)
        await console.press("Escape")
        await console.click("member-panel button", "Edit")
        await console.enter("Motto", f"{PLANTED}3")
        await patch(api, 1, attributes={"motto": f"{PLANTED}4"})
        await console.press("Enter")
        await console.see("dialog", f"{PLANTED}4")
        await console.press("Escape")
        await console.go("#/users")
        await console.click("dialog button", "Discard")
        await console.click("button[aria-label*=Remove]", "Remove")
        await console.see("dialog h2", PLANTED)
        await console.press("Escape")
        await console.go("#/import")
        await console.choose_file(folder / "x.csv")
        await console.see(".help", PLANTED)
        assert await console.value("window.planted ?? null") is None
        assert (
            await console.value("document.querySelectorAll('img:not([src*=icon]), b').length") == 0
        )


async def test_keyboard_alone_suffices(open_page_of_console: OpenConsole, api: Api) -> None:
    for name in ("Ada", "Bob", "Eve"):
        await api.create(name)
    async with open_page_of_console() as console:
        await console.open(token_of(3))
        await console.see("tbody a", "Eve")
        focus = "document.activeElement.textContent"
        await console.press("/", "ArrowDown", "ArrowDown")
        assert await console.value(focus) == "Bob"
        await console.press("Enter")
        await console.see("member-panel h2", "Bob")
        await console.press("Escape")
        await console.see_no("member-panel")
        await console.wait_for(f"{focus} === 'Bob'")
        await console.press("ArrowUp", "ArrowUp")
        assert await console.value("document.activeElement.id") == "search"
        await console.press("b", "o")
        await console.see_no("tbody tr:nth-child(2)")
        await console.press("Escape", "ArrowDown", "n")  # Esc clears a search
        await console.see("h2", "Add a member")
        await console.enter("Name", "Zoë")
        await console.press("Escape")
        await console.see("dialog h2", "Discard your changes?")
        await console.press("Escape")  # keeps editing
        await console.see_no("dialog")
        await console.press("Enter")
        await console.see("member-panel h2", "Zoë")
        await console.press("Escape", "?")
        await console.see("dialog h2", "Keyboard shortcuts")
        await console.press("Tab")
        await console.value("document.querySelector('dialog input').click()")
        await console.press("Escape", "n")  # switched off
        await console.see_no("member-panel")


@pytest.fixture
def tail_changes() -> bool:
    """The feed needs the change stream."""
    return True


async def test_changes_of_others_are_marked_and_never_overwrite_an_edit(
    open_page_of_console: OpenConsole, api: Api
) -> None:
    await api.create("Ada", phone="555-0100")
    await api.create("Bob")
    async with open_page_of_console() as console:
        await console.open(token_of(3), "#/members/1")
        await console.see("dd", "555-0100")
        await console.see(".live", "Live")
        await patch(api, 1, phone="555-0111")
        await console.see("tr.marked", "555-0111")
        await console.see("tr.marked .mark", "changed")
        await console.see("dd.marked", "555-0111")
        await console.see(".banner", "This member was changed just now.")
        await api.create("Eve")
        await console.click("button.new-members", "Show 1 new member")
        await console.see("tbody a", "Eve")
        await console.click("member-panel button", "Edit")
        await console.enter("Name", "Ada King")
        await patch(api, 1, phone="555-0122")
        await console.see(".banner", "Somebody else has just changed this member.")
        assert await console.value("document.querySelector('[name=phone]').value") == "555-0111"
        await console.press("Enter")
        await console.see("dialog", "555-0122")
        await console.click("dialog button", "Save these values")
        await console.see("member-panel h2", "Ada King")
        assert (await api("DELETE", "/members/2")).code == 204
        await console.see("tr.deleted .mark", "deleted")
        assert (await api("DELETE", "/members/1")).code == 204
        await console.see(".banner", "This member was deleted just now.")


@pytest.mark.skipif(not AXE.exists(), reason="scripts/setup --console installs axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_views_have_no_violations_of_wcag(  # noqa: PLR0915  # one step per view
    open_page_of_console: OpenConsole, api: Api, folder: Path, scheme: str
) -> None:
    await api.create(
        "Ada Lovelace",
        email="ada@example.org",
        attributes={"level": "gold", "tags": ["x"], "birthday": "1815-12-10"},
    )
    await api.create("Grace Hopper", phone="555-0100")
    await patch(api, 1, name="Ada King")
    (folder / "x.csv").write_text("name,email,other\nBob,bob,1\nEve,eve@example.org,2\n")
    found: dict[str, list[str]] = {}
    async with open_page_of_console() as console:

        async def check(view: str) -> None:
            for width in (360, 1440):
                await console.resize(width, 900, scheme)
                violations = await console.violations()
                if violations:
                    found[f"{view} at {width}"] = violations

        await console.open()
        await check("sign-in")
        await console.click("button", "Use a token instead")
        await check("sign-in with a token")
        await console.open(token_of(3))
        await console.see("tbody a", "Grace Hopper")
        await check("list")
        await console.resize(1440, 900, scheme)
        await console.click("button", "Filters")
        await console.value("document.querySelector('.account').open = true")
        await check("filters and account")
        await console.go("#/members?q=nobody")
        await console.see("h2", "No member matches")
        await check("empty list")
        await console.go("#/members/1")
        await console.see(".timeline", "Changed")
        await check("member")
        await console.click("member-panel button", "Edit")
        await console.enter("Name", " ")
        await console.press("Enter")
        await console.see(".fault")
        await check("form with a fault")
        await console.enter("Name", "Ada Byron")
        await patch(api, 1, name="Ada Gordon")
        await console.press("Enter")
        await console.see("dialog", "Ada Gordon")
        await check("conflict")
        await console.press("Escape")
        await console.press("Escape")
        await console.click("dialog button", "Discard")
        await console.click("member-panel button", "Delete")
        await check("deletion")
        await console.press("Escape")
        await console.go("#/members/999")
        await console.see("h2", "This member does not exist")
        await check("missing member")
        await console.go("#/import")
        await console.see("h1", "Import members")
        await check("import")
        await console.choose_file(folder / "x.csv")
        await console.see(".outcomes")
        await check("dry run")
        await console.go("#/users")
        await console.see(".users-table", "grace")
        await check("users")
        await console.click("button", "Add user")
        await check("user form")
        await console.press("Escape")
        await console.go("#/status")
        await console.see(".charts")
        await check("status")
    assert found == {}


async def test_caller_of_its_own_member_sees_that_one_only(
    open_page_of_console: OpenConsole, api: Api
) -> None:
    await api.create("Ada")
    await api.create("Own")
    user = {"username": "own", "password": PASSWORD, "accessRights": 0, "memberId": 2}
    assert (await api("POST", "/users", user)).code == 201
    async with open_page_of_console() as console:
        await console.open()
        await console.enter("Username", "own")
        await console.enter("Password", PASSWORD)
        await console.press("Enter")
        await console.see("member-panel h2", "Own")
        assert await console.value("document.querySelectorAll('member-list, nav a').length") == 0
        assert await console.value("document.querySelector('.danger')") is None
        await console.press("e")
        await console.enter("Phone", "555-0100")
        await console.press("Enter")
        await console.see("dd", "555-0100")
        await console.go("#/members/1")
        await console.see("member-panel h2", "Own")
    assert (await member(api, 2))["phone"] == "555-0100"


async def test_reader_sees_no_controls_for_writing(
    open_page_of_console: OpenConsole, api: Api
) -> None:
    await api.create("Ada")
    async with open_page_of_console() as console:
        await console.open(token_of(1), "#/members/1")
        await console.see("dd")
        buttons = await console.value(
            "[...document.querySelectorAll('main button, main a.button')]"
            ".map((one) => one.innerText.trim()).join()"
        )
        assert not {"Edit", "Delete", "Add member"} & set(buttons.split(","))
        for place in ("#/users", "#/status", "#/import", "#/members/new"):
            await console.go(place)
            await console.see_no("users-view, status-view, import-view, form.member-form")


async def test_users_are_added_changed_and_removed(
    open_page_of_console: OpenConsole, api: Api
) -> None:
    async with open_page_of_console() as console:
        await console.open(token_of(3), "#/users")
        await console.click("button", "Add user")
        await console.enter("Username", "ada")
        await console.enter("Password", "short")
        await console.press("Enter")
        await console.see("dialog .fault", "Must have 8 to 1024 characters.")
        await console.enter("Password", "long enough")
        await console.press("Enter")
        await console.see("tbody th", "ada")
        await console.click("button[aria-label='Edit ada']")
        await console.click("dialog label", "Read and change")
        await console.enter("Own member", "7")
        await console.press("Enter")
        await console.see("tbody td", "Read and change")
        assert parsed(await api("GET", "/users/ada")) == {
            "username": "ada",
            "accessRights": 2,
            "memberId": 7,
        }
        await console.click("button[aria-label='Remove ada']")
        await console.click("dialog button", "Remove")
        await console.see_no("button[aria-label='Remove ada']")
    assert (await api("GET", "/users/ada")).code == 404


async def test_pages_and_the_back_button(open_page_of_console: OpenConsole, api: Api) -> None:
    for i in range(120):
        await api.create(f"Member {i:03}")
    async with open_page_of_console() as console:
        await console.open(token_of(3))
        await console.see("tbody a", "Member 000")
        await console.click("button", "Next page")
        await console.see("tbody a", "Member 099")
        await console.click("button", "Next page")
        await console.see("tbody a", "Member 119")
        await console.see(".summary", "20 members on page 3")
        await console.click("tbody a", "Member 119")
        await console.see("member-panel h2", "Member 119")
        await console.value("history.back()")
        await console.see_no("member-panel")
        await console.click("button", "Previous page")
        await console.see(".summary", "50 members on page 2")
        await console.value("history.back()")
        await console.see(".summary", "20 members on page 3")
        await console.value("history.back()")
        await console.see(".summary", "50 members on page 2")
        await console.click("button", "Count")
        await console.see("button", "120 members")
        await console.page.call("Page.reload")
        await console.see("tbody a", "Member 099")
        await console.see(".summary", "page 2")
