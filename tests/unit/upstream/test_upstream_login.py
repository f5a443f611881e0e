"""The parts of the proxy's own logins that need no server: pages, answers, when to try again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict
from yarl import URL

from proxy.reconcile.ports import UpstreamLoginFailed, UpstreamUnreachable
from proxy.upstream.login import gate as gates
from proxy.upstream.login.forms import FormPage, FormsLogin
from proxy.upstream.login.gate import Gate, LoginUnclear, PasswordRefused, Proof
from proxy.upstream.login.oauth import OAuthLogin
from proxy.upstream.login.web import Page, Web

PAGES = Path(__file__).resolve().parents[4] / "shared" / "cdms" / "login"
CRM, STS = "https://crm.example.com", "https://sts.example.com"


class Scripted(Web):
    """Answers in order; keeps what was asked."""

    def __init__(self, *answers: Any, origins: tuple[str, ...] = (CRM, STS)) -> None:
        super().__init__(origins)
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, str] | None, dict[str, str] | None]] = []

    async def ask(self, url: URL, *, form: Any = None, cookies: Any = None) -> Page:
        assert self.knows(url)
        self.asked.append((str(url), dict(form) if form else None, dict(cookies) if cookies else None))
        status, body, more = self.answers.pop(0)
        location = more.get("location")
        return Page(url, status, body.encode(), URL(location) if location else None, more.get("cookies", {}))


def page_of(name: str, **replaced: str) -> str:
    """A page of a real login."""
    if not (PAGES / name).exists():
        pytest.skip("the real login's pages are not beside this checkout")
    text = (PAGES / name).read_text()
    for old, new in replaced.items():
        text = text.replace("{{ " + old + " }}", new)
    return text


async def test_a_real_login_page_and_two_token_forms_lead_to_the_cookie() -> None:
    sign_in = (
        page_of("login_form.html", url="/elsewhere")
        .replace("{% if errors %}", "<!--")
        .replace("{% endif %}", "-->")
    )
    web = Scripted(
        (302, "", {"location": f"{STS}/adfs/ls/?wa=x"}),
        (200, sign_in, {"cookies": {"MSISAuth": "sts"}}),
        (200, page_of("auth_form.html", url=f"{STS}/second/"), {}),
        (200, page_of("auth_form.html", url=f"{CRM}/"), {}),
        (200, page_of("successful_login.html"), {"cookies": {"MSISAuth": "a", "MSISAuth1": "b"}}),
    )
    login = FormsLogin(web, CRM, "CRM\\svc", "urn:home")
    proof = await login.log_in("secret")
    assert proof.fields == {"Cookie": "MSISAuth=a; MSISAuth1=b"}
    urls = [url for url, _, _ in web.asked]
    assert urls == [f"{CRM}/?whr=urn:home", *[f"{STS}/adfs/ls/?wa=x"] * 2, f"{STS}/second/", f"{CRM}/"]
    posted = web.asked[2][1]
    assert posted is not None
    assert posted["__VIEWSTATE"] == "00000"
    assert [value for name, value in posted.items() if "Username" in name] == ["CRM\\svc"]
    assert [value for name, value in posted.items() if "Password" in name] == ["secret"]
    assert web.asked[3][1] == {"wa": "wsignin1.0", "wresult": "some-value", "wctx": "some-value"}
    assert web.asked[4][2] is None  # the token service's cookies are not upstream's


async def test_a_real_page_that_tells_of_a_wrong_password() -> None:
    wrong = page_of("login_form.html", url="/")
    web = Scripted((200, wrong, {}), origins=(CRM,))
    with pytest.raises(PasswordRefused):
        await FormsLogin(web, CRM, "CRM\\svc", "").log_in("secret")


FORM = '<form><input name="aUserNamex"><input type="password" name="aPasswordx"></form>'
TOKEN = f'<form action="{CRM}/"><input name="wresult" value="t"></form>'


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([(200, FORM, {}), (200, FORM, {})], PasswordRefused),
        ([(200, "<p>Please wait</p>", {})], LoginUnclear),
        ([(500, FORM, {})], LoginUnclear),
        ([(200, '<form><input type="password" name="x"></form>', {})], LoginUnclear),
        ([(302, "", {"location": f"{STS}/"})] * 15, LoginUnclear),
        ([(200, TOKEN, {})] * 15, LoginUnclear),
        ([(200, FORM, {}), (200, "<p>Home</p>", {})], LoginUnclear),  # and no cookie
    ],
)
async def test_chains_that_lead_nowhere_end(answers: list[Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        await FormsLogin(Scripted(*answers), CRM, "u", "").log_in("secret")


@pytest.mark.parametrize(
    "url", ["https://evil.example.com/", "http://sts.example.com/", "javascript:x", "file:///"]
)
async def test_only_named_origins_are_asked(url: str) -> None:
    with pytest.raises(LoginUnclear, match="login_origins"):
        await Web((CRM, STS)).ask(URL(url))


@pytest.mark.parametrize(
    ("status", "headers", "page", "odata", "over"),
    [
        (401, {}, b"", False, True),
        (302, {"Location": f"{STS}/adfs/ls/"}, b"", False, True),
        (302, {"Location": "/other"}, b"", True, False),
        (302, {"Location": "https://help.example.com/"}, b"", True, False),
        (200, {"Content-Type": "text/html"}, FORM.encode(), True, True),
        (200, {"Content-Type": "text/html"}, TOKEN.encode(), True, True),
        (200, {"Content-Type": "text/html"}, b"", True, True),
        (200, {"Content-Type": "text/html"}, b"<h1>Gateway</h1>", True, False),
        (200, {"Content-Type": "text/html"}, FORM.encode(), False, False),
        (200, {"Content-Type": "application/json"}, b"{}", True, False),
        (403, {"Content-Type": "text/html"}, FORM.encode(), True, False),
    ],
)
def test_the_three_faces_of_a_session_that_ended(
    status: int, headers: dict[str, str], page: bytes, odata: bool, over: bool
) -> None:
    login = FormsLogin(Web((CRM, STS)), CRM, "u", "")
    assert login.is_over(status, CIMultiDict(headers), page, odata=odata) is over


def test_a_page_of_any_kind_is_read_in_linear_time() -> None:
    assert len(FormPage("<form><input name=a>" * 20_000 + "<" * 20_000).forms) == 20_000


# Tokens.


def token(**said: Any) -> str:
    return json.dumps(said)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, token(error="invalid_client"), PasswordRefused),
        (400, token(error="invalid_client"), PasswordRefused),
        (400, token(error="invalid_scope"), LoginUnclear),
        (503, "<html>", LoginUnclear),
        (200, "[]", LoginUnclear),
        (200, token(access_token="a\r\nX: y"), LoginUnclear),
        (200, "[" * 100_000, LoginUnclear),
    ],
)
async def test_a_token_service_that_gives_none(status: int, body: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await OAuthLogin(Scripted((status, body, {})), f"{STS}/token", "id", "").log_in("secret")


async def test_a_token_is_fetched_again_before_it_ends() -> None:
    answers = [
        (200, token(access_token=name, expires_in=seconds), {}) for name, seconds in (("a", 0), ("b", 3600))
    ]
    web = Scripted(*answers)
    told: list[str | None] = []
    gate = Gate(OAuthLogin(web, f"{STS}/token", "id", "all"), lambda: "secret", told.append)
    assert (await gate.proof()).fields == {"Authorization": "Bearer a"}
    assert (await gate.proof()).fields == {"Authorization": "Bearer b"}
    assert (await gate.proof()).fields == {"Authorization": "Bearer b"}
    form = {"grant_type": "client_credentials", "client_id": "id", "scope": "all", "client_secret": "secret"}
    assert web.asked == [(f"{STS}/token", form, None)] * 2
    assert told == [None, None]


# The gate.


class Counted:
    """A login that does what it is told, one thing after another; the last one again and again."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.tried: list[str] = []

    async def log_in(self, password: str) -> Proof:
        self.tried.append(password)
        await asyncio.sleep(0)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return Proof({"n": str(len(self.tried))})


async def test_all_that_wait_share_one_login_and_one_that_leaves_does_not_end_it() -> None:
    login = Counted(None)
    gate = Gate(login, lambda: "p", lambda _: None)
    waits = [asyncio.create_task(gate.proof()) for _ in range(10)]
    await asyncio.sleep(0)
    waits[0].cancel()
    proofs = await asyncio.gather(*waits, return_exceptions=True)
    assert isinstance(proofs[0], asyncio.CancelledError)
    assert {id(proof) for proof in proofs[1:]} == {id(await gate.proof())}
    assert login.tried == ["p"]


async def test_a_refused_password_waits_for_another_or_for_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    login = Counted(PasswordRefused(), PasswordRefused(), None)
    passwords = ["old"]
    told: list[str | None] = []
    gate = Gate(login, lambda: passwords[-1], told.append)
    for _ in range(3):
        with pytest.raises(UpstreamLoginFailed):
            await gate.proof()
    assert login.tried == ["old"]
    passwords.append("new")
    with pytest.raises(UpstreamLoginFailed):
        await gate.proof()
    gate.forget()
    await gate.proof()
    assert login.tried == ["old", "new", "new"]
    assert [problem is None for problem in told] == [False, False, True]


@pytest.mark.parametrize(("problem", "tries"), [(LoginUnclear("odd"), 3), (UpstreamUnreachable("down"), 1)])
async def test_a_failure_holds_off_the_next_login(
    monkeypatch: pytest.MonkeyPatch, problem: Exception, tries: int
) -> None:
    login = Counted(*[problem] * tries, None)
    gate = Gate(login, lambda: "p", lambda _: None)
    for _ in range(3):
        with pytest.raises(UpstreamLoginFailed):
            await gate.proof()
    assert len(login.tried) == tries
    monkeypatch.setattr(gates, "HOLD_OFF_S", 0.0)
    await gate.proof()
    assert len(login.tried) == tries + 1


async def test_a_proof_is_renewed_once_and_only_if_it_had_worked() -> None:
    login = Counted(None)
    gate = Gate(login, lambda: "p", lambda _: None)
    first = await gate.proof()
    first.worked = True
    second = await gate.renewed(first)
    assert second is not first
    assert await gate.renewed(first) is second  # somebody else was first
    with pytest.raises(UpstreamLoginFailed):
        await gate.renewed(second)
    assert len(login.tried) == 2


async def test_a_file_that_is_not_there_is_told_without_its_path() -> None:
    def read() -> str:
        raise FileNotFoundError(2, "No such file", "/secret/place")

    told: list[str | None] = []
    with pytest.raises(UpstreamLoginFailed, match="No such file"):
        await Gate(Counted(None), read, told.append).proof()
    assert "/secret" not in str(told)


def test_a_proof_does_not_show_what_it_holds() -> None:
    assert "topsecret" not in repr(Proof({"Authorization": "topsecret"}))
